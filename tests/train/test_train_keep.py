"""What a run keeps, and crops in Parquet files as what it learns from."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from pgc_graph.build.spec import ModelSpec
from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import Preprocess
from pgc_train.checkpoint import load_checkpoint
from pgc_train.cli import cli
from pgc_train.data import find_crops
from pgc_train.dataset import DatasetQuery, write_dataset
from pgc_train.keep import kept_names
from pgc_train.options import TrainOptions
from pgc_train.prepare import DataQuery, choose_crops, crops_to_judge, crops_to_test, load_training_data
from pgc_train.run import train_model
from pgc_train.sampling import epoch_order, make_pools
from pgc_train.tables import read_table

OPTIONS = TrainOptions(epochs=4, batch_size=4, threads=1, cache_size=40, keep=2, average_decay=0.9)
TINY = ("--base-channels", "8", "--num-blocks", "2", "--epochs", "1", "--batch-size", "4", "--threads", "1")


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", params=[True, False], ids=["embedded", "paths"])
def table(crops_root: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    path = tmp_path_factory.mktemp("table") / "dataset.parquet"
    write_dataset(DatasetQuery((crops_root,), 0.34, 0.17, embed=request.param), path)
    return path


def test_last_and_best_epochs_are_kept_and_a_resumed_run_keeps_the_same(
    crops_root: Path, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    query = DataQuery(roots=(crops_root,), validation_fraction=0.34)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_model(tiny_spec, query, OPTIONS, whole)
    train_model(tiny_spec, query, dataclasses.replace(OPTIONS, epochs=3), cut)
    train_model(tiny_spec, query, OPTIONS, cut, resume=True)
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in cut.iterdir())
    history = json.loads((whole / "history.json").read_text())["epochs"]
    order = sorted(history, key=lambda record: (-record["validation"]["f1"], record["validation"]["loss"]))
    expected = {f"pgc_best_epoch{record['epoch']:04d}_f1_{record['validation']['f1']:.4f}" for record in order[:2]}
    expected |= {"pgc_epoch_0003", "pgc_epoch_0004"}
    assert {name.removesuffix(".pt") for name in names if re.match("pgc_.*[.]pt$", name)} == expected
    for name in expected:
        checkpoint, again = load_checkpoint(whole / f"{name}.pt"), load_checkpoint(cut / f"{name}.pt")
        torch.testing.assert_close(dict(checkpoint.weights), dict(again.weights), atol=0, rtol=0)
        assert bool(checkpoint.state) == name.startswith("pgc_epoch")
        weights = load_file(whole / f"{name}.safetensors")
        learnt = {key: value for key, value in checkpoint.weights.items() if "num_batches" not in key}
        torch.testing.assert_close(weights, learnt, atol=0, rtol=0)
    train_model(tiny_spec, query, dataclasses.replace(OPTIONS, epochs=1, keep=0), whole, overwrite=True)
    assert not list(whole.glob("pgc_*"))


def test_of_equal_epochs_the_earlier_is_kept() -> None:
    history = [{"epoch": epoch, "validation": {"f1": 0.5, "loss": 1.0}} for epoch in range(1, 14)]
    names = dict(kept_names(history, dataclasses.replace(OPTIONS, keep=10)))
    assert [epoch for name, epoch in names.items() if "best" in name] == list(range(1, 11))
    assert [epoch for name, epoch in names.items() if "best" not in name] == list(range(4, 14))
    assert "pgc_best_epoch0004_f1_0.5000" in names


def test_a_table_gives_the_pixels_of_the_files(table: Path, crops_root: Path) -> None:
    data = load_training_data(DataQuery(roots=(table,)), Preprocess(), 40)
    by_name = {(crop.path.resolve(), crop.label): crop for crop in find_crops([crops_root])}
    for side in (data.training, data.validation):
        for crop in side.crops:
            original = by_name[(crop.path.resolve(), crop.label)]
            assert (crop.source, crop.group) == (original.source, original.group)
    folders = load_training_data(DataQuery(roots=(crops_root,), validation_fraction=0.34), Preprocess(), 40)
    pixels = {
        crop.path.resolve(): row for crop, row in zip(folders.training.crops, folders.training.pixels, strict=True)
    }
    shared = [place for place, crop in enumerate(data.training.crops) if crop.path.resolve() in pixels]
    assert shared
    for place in shared:
        np.testing.assert_array_equal(data.training.pixels[place], pixels[data.training.crops[place].path.resolve()])


def test_every_split_of_a_table_goes_where_it_belongs(table: Path) -> None:
    photographs, drawn, validation = choose_crops(DataQuery(roots=(table,)))
    assert (len(photographs), len(drawn), len(validation)) == (12, 0, 8)
    assert len(crops_to_test(DataQuery(roots=(table,)))) == 4
    assert crops_to_judge((table,), None, "val") == validation
    assert len(read_table(table, None)) == 24
    with pytest.raises(OptionError, match="no row of the split 'cross'"):
        crops_to_judge((table,), None, "cross")


def test_crops_out_of_order_are_still_their_own(table: Path) -> None:
    from pgc_train.data import decode_for_training

    crops = read_table(table, None)
    forwards, backwards = decode_for_training(crops, 40), decode_for_training(crops[::-1], 40)
    np.testing.assert_array_equal(forwards.pixels, backwards.pixels[::-1])


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ImageError, match="cannot read"):
        read_table(tmp_path / "d.parquet", "train")


def test_train_and_evaluate_take_a_table(table: Path, tmp_path: Path) -> None:
    result = _run("train", *TINY, "--data", table, "--output-dir", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "pgc_epoch_0001.pt").is_file()
    document = json.loads(_run("evaluate", tmp_path / "run", "--data", table, "--split", "test", "--json").stdout)
    assert document["scores"]["count"] == 4
    lines = (tmp_path / "run" / "test_predictions.csv").read_text().splitlines()
    assert len(lines) == 5
    right = sum(Path(line.split(",")[0]).parent.name == line.split(",")[-1] for line in lines[1:])
    assert document["scores"]["accuracy"] == right / 4


DESIGNS = [
    ("--arch-variant", "baseline", "--image-size", "48x32"),
    ("--arch-variant", "convnext", "--head-variant", "mlp_mixer", "--token-mixer-grid", "2x4", "--rgb-to-lab"),
    ("--head-variant", "transformer", "--token-mixer-grid", "4", "--resampling", "weighted", "--rgb-to-y"),
    ("--rgb-to-luv",),
]


@pytest.mark.parametrize("design", DESIGNS, ids=["baseline 48x32", "convnext mixer lab", "transformer luma", "luv"])
def test_designs_train_and_export(crops_root: Path, tmp_path: Path, design: tuple[str, ...]) -> None:
    data = ("--data", crops_root, "--val-fraction", "0.34")
    result = _run("train", *TINY, *design, *data, "--output-dir", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert _run("export", tmp_path / "run", "-o", tmp_path / "m.onnx").exit_code == 0
    spec = load_checkpoint(tmp_path / "run").spec
    assert spec.image_size == ((48, 32) if "48x32" in design else (32, 32))
    assert spec.colour == {"--rgb-to-lab": "lab", "--rgb-to-y": "luma", "--rgb-to-luv": "luv"}.get(
        design[-1], spec.colour
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--head-variant", "mlp_mixer", "--token-mixer-grid", "3x2"), "do not divide into a token_grid of 3x2"),
        (("--token-mixer-grid", "2x2"), "has no tokens"),
        (("--image-size", "32x0"), "is not a size"),
        (("--image-size", "2", "--num-blocks", "6", "--arch-variant", "convnext"), "too small"),
    ],
    ids=["grid", "no tokens", "zero", "too small"],
)
def test_impossible_designs_are_refused_before_anything_is_read(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = _run("train", *arguments, "--data", tmp_path / "none", "--output-dir", tmp_path / "run")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("resampling", "pointing"), [("none", 20), ("balanced", 50), ("weighted", 50), ("share", 35)])
def test_resampling_decides_how_many_are_pointing(resampling: str, pointing: int) -> None:
    options = TrainOptions(resampling=resampling)
    labels = np.repeat(np.array([0, 1], np.float32), (80, 20))
    pools = make_pools(
        labels, np.zeros(100, bool), pointing_share=options.photographed_share, anew=resampling == "weighted"
    )
    order = epoch_order(pools, 3)
    assert labels[order].sum() == pointing
    repeats = np.bincount(order, minlength=100)[labels < 0.5].max()
    assert (repeats > 1) == (resampling == "weighted")
