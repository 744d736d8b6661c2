"""`pgc-graph gate`: what it writes and what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from click.testing import Result

from pgc_graph import modelio
from pgc_graph.runtime.session import open_session

Run = Callable[..., Result]


@pytest.fixture
def model_file(pgc_model: Callable[[str], ir.Model], tmp_path: Path) -> Path:
    path = tmp_path / "pgc_s.onnx"
    modelio.save(pgc_model("s"), path)
    return path


def gates_of(path: Path) -> list[ir.Value]:
    model = modelio.load(path)
    return [value for value in model.graph.inputs if value.name in model.graph.initializers]


@pytest.mark.parametrize(
    ("options", "count", "rank"),
    [((), 18, 0), (("--per-channel",), 18, 4), (("--name-contains", "stem.2/Mul", "stem.5/Mul"), 2, 0)],
    ids=["scalar", "per-channel", "filtered"],
)
def test_gated_file_is_written_and_checked(
    options: tuple[str, ...], count: int, rank: int, model_file: Path, tmp_path: Path, run_cli: Run
) -> None:
    output = tmp_path / "gated.onnx"
    result = run_cli("gate", model_file, "-o", output, *options)
    assert result.exit_code == 0, result.stderr
    assert f"{count} " in result.stdout
    assert re.search(r"parity ok: max \|Δ\| = 0\.0+e\+00", result.stdout)
    gates = gates_of(output)
    assert [len(gate.shape or ()) for gate in gates] == [rank] * count
    images = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    outputs = [open_session(modelio.load(path)).run({"images": images})[0] for path in (model_file, output)]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-4)


def test_gated_file_can_be_gated_again_without_effect(model_file: Path, tmp_path: Path, run_cli: Run) -> None:
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    run_cli("gate", model_file, "-o", once)
    result = run_cli("gate", once, "-o", twice)
    assert result.exit_code == 0
    assert "is gated already" in result.stdout
    assert len(gates_of(twice)) == 18


def test_json_is_one_document(model_file: Path, tmp_path: Path, run_cli: Run) -> None:
    result = run_cli("gate", model_file, "-o", tmp_path / "gated.onnx", "--json", "--limit", "3")
    document = json.loads(result.stdout)
    assert [change["subject"] for change in document["steps"][0]["changes"]] == [
        "/base_model/stem/stem.2/Mul_output_0",
        "/base_model/stem/stem.5/Mul_output_0",
        "/base_model/features/features.0/block/block.2/Mul_output_0",
    ]


def test_input_is_overwritten_only_when_forced(model_file: Path, run_cli: Run) -> None:
    refused = run_cli("gate", model_file, "-o", model_file)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert not gates_of(model_file)
    assert run_cli("gate", model_file, "-o", model_file, "--force").exit_code == 0
    assert len(gates_of(model_file)) == 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--name-contains", "nowhere"), "no tensor matches"),
        (("--regex", "("), "malformed"),
        (("--op-type", "Shape", "--per-channel"), "no tensor matches"),
    ],
    ids=["no-match", "bad-regex", "no-such-operator"],
)
def test_bad_filter_is_one_line_and_writes_nothing(
    options: tuple[str, ...], message: str, model_file: Path, tmp_path: Path, run_cli: Run
) -> None:
    output = tmp_path / "gated.onnx"
    result = run_cli("gate", model_file, "-o", output, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not output.exists()
