"""Saved scores: what is in the files of every format, against the plain loop."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest

from pgc_graph import modelio
from pgc_graph.errors import OptionError
from pgc_graph.sources import npz_images
from pgc_graph.studies.ablation import Saving, ablate
from reference.plain_ablation import plain_ablation
from saved_runs import (
    COUNT,
    FORMATS,
    TEXT,
    images,
    label,
    model,
    run,
    targets,
    write_images,
)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return write_images(tmp_path)


# What is saved.


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Read any format as long rows, None for what is empty."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".json":
        document = json.loads(path.read_text())
        return [
            _flat(image, tensor, gate)
            for image in document["images"]
            for gate, tensor in enumerate(document["tensors"])
        ]
    with np.load(path, allow_pickle=False) as arrays:
        names = set(arrays.files) - {"tensor"}
        return [
            {"tensor": tensor} | {n: arrays[n][i] if arrays[n].ndim == 1 else arrays[n][i, gate] for n in names}
            for i in range(len(arrays["position"]))
            for gate, tensor in enumerate(arrays["tensor"])
        ]  # fmt: skip


def _flat(image: dict[str, Any], tensor: str, gate: int) -> dict[str, Any]:
    names = {
        "prob": "baseline",
        "logit": "baseline_logit",
        "predicted_class": "baseline_class",
        "loss": "baseline_loss",
    }
    found = {names.get(name, name): value for name, value in image.items() if name != "without"}
    return {**found, "tensor": tensor, **{name: values[gate] for name, values in image["without"].items()}}


@pytest.mark.parametrize("suffix", FORMATS)
def test_file_holds_the_scores_of_the_plain_loop(suffix: str, npz: Path, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    run(npz, Saving(path))
    rows = rows_of(path)
    names = [target.tensor for target in targets()]
    plain = plain_ablation(modelio.to_proto(model()), images(), names, logit="row")
    assert [(int(row["position"]), row["tensor"]) for row in rows] == [(i, t) for i in range(COUNT) for t in names]
    assert [row["image_path"] for row in rows[:: len(names)]] == [f"{npz}#{i}" for i in range(COUNT)]
    assert [row["label"] for row in rows[:: len(names)]] == [label(i) for i in range(COUNT)]
    assert plain.baseline_logit is not None
    assert plain.ablated_logit is not None
    truth = np.arange(COUNT) % 3
    expected = {
        "baseline": np.repeat(plain.baseline, len(names)),
        "prob": plain.ablated.T.ravel(),
        "delta": (plain.baseline - plain.ablated).T.ravel(),
        "baseline_logit": np.repeat(plain.baseline_logit, len(names)),
        "logit": plain.ablated_logit.T.ravel(),
        "logit_delta": (plain.baseline_logit - plain.ablated_logit).T.ravel(),
        "scored_class": np.repeat(plain.rows[0].argmax(axis=1), len(names)),
        "baseline_class": np.repeat(plain.rows[0].argmax(axis=1), len(names)),
        "predicted_class": plain.rows[1:].argmax(axis=2).T.ravel(),
        "baseline_loss": np.repeat(-np.log(plain.rows[0, np.arange(COUNT), truth]), len(names)),
        "loss": -np.log(plain.rows[1:, np.arange(COUNT), truth]).T.ravel(),
    }
    for name, values in expected.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_figures_without_meaning_are_empty(npz: Path, tmp_path: Path) -> None:
    """No labels and no logit: the columns are there, and empty; the other formats leave them out."""
    text = TEXT.replace("prob = Softmax <axis = -1> (row)", "prob = Neg (row)")
    plain = modelio.load(onnx.parser.parse_model(text))
    for suffix in FORMATS:
        ablate(plain, npz_images(npz), targets(), saving=Saving(tmp_path / f"out{suffix}"))
        row = rows_of(tmp_path / f"out{suffix}")[0]
        assert {row.get(name) for name in ("label", "logit", "baseline_logit", "predicted_class", "loss")} == {None}
        assert float(row["prob"]) == pytest.approx(float(row["baseline"]) - float(row["delta"]))


def test_summary_says_what_was_run(npz: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    modelio.save(model(), file)
    result = run(npz, Saving(tmp_path / "out.csv", model_file=file), "noise")
    document = json.loads((tmp_path / "out.summary.json").read_text())
    assert document["model_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert document["versions"]["numpy"] == np.__version__
    assert document["versions"]["pgc-graph"] == importlib.metadata.version("pgc-graph")
    assert (document["seed"], document["image_count"]) == (5, COUNT)
    assert document["options"]["tensors"] == [target.tensor for target in targets()]
    assert document["options"]["intervention.mode"] == "noise"
    assert document["result"]["gates"][0]["delta"]["mean"] == result.gates[0].delta.mean
    assert document["result"]["images"] == []


def test_scores_that_are_no_numbers_are_saved_as_such(tmp_path: Path) -> None:
    text = TEXT.replace("half = Sigmoid (p)", "half = Div (p, p)").replace("{3.0, 4.0, 5.0}", "{0.0, 4.0, 5.0}")
    broken = modelio.load(onnx.parser.parse_model(text))
    np.savez(tmp_path / "images.npz", images=images())
    for suffix in FORMATS:
        ablate(broken, npz_images(tmp_path / "images.npz"), targets(), saving=Saving(tmp_path / f"out{suffix}"))
        value = rows_of(tmp_path / f"out{suffix}")[0]["baseline"]
        assert value is None if suffix == ".json" else np.isnan(float(value))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("out.txt", "ends in .parquet, .csv, .json, .npz", id="format"),
        pytest.param("nowhere/out.csv", "existing folder", id="no-folder"),
        pytest.param("folder.csv", "existing folder", id="a-folder"),
    ],
)
def test_place_that_cannot_be_saved_to_is_an_error(name: str, message: str, npz: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OptionError, match=message):
        run(npz, Saving(tmp_path / name))
