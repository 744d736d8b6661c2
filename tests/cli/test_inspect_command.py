"""`pgc-graph inspect`: the same facts on screen and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from click.testing import Result

from pgc_graph import modelio

OPEN_SIZE = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 3, h, w] x, float[1] gate) => (float[n, 4, h, w] y)
<float[4, 3, 1, 1] k = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[1] gate = {1}>
{ [first] c = Conv(x, k) s = Sigmoid(c) m = Mul(c, s) y = Mul(m, gate) }
"""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(OPEN_SIZE).SerializeToString())
    return path


@pytest.fixture
def pgc_file(tmp_path: Path, pgc_model: Callable[[str], ir.Model]) -> Path:
    path = tmp_path / "pgc_s.onnx"
    modelio.save(pgc_model("s"), path)
    return path


def test_screen_shows_what_a_pgc_model_is(pgc_file: Path, run_cli: Callable[..., Result]) -> None:
    result = run_cli("inspect", pgc_file)
    assert (result.exit_code, result.stderr) == (0, "")
    for text in (
        "ai.onnx 17",
        "images  float32  batchx3x32x32",
        "prob_pointing  float32  batch",
        "118,321 weights",
        "for one image",
        "Sigmoid→Mul tensors: 18",
        "silu  /base_model/stem/stem.2/Mul",
        "gate  /base_model/features/features.3/block/block.6/Mul",
        f"{pgc_file.stat().st_size:,} bytes",
    ):
        assert text in result.stdout
    assert "\x1b" not in result.stdout


def test_json_is_one_document(pgc_file: Path, run_cli: Callable[..., Result]) -> None:
    result = run_cli("inspect", pgc_file, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["file"] == str(pgc_file)
    assert document["file_bytes"] == pgc_file.stat().st_size
    assert document["parameters"]["weights"] == 118_321
    assert document["inputs"] == [
        {"name": "images", "dtype": "float32", "shape": ["batch", 3, 32, 32], "has_default": False}
    ]
    assert document["metadata"]["pgc.labels"] == "not_pointing,pointing"
    assert len(document["sigmoid_mul"]) == 18
    assert sum(document["operators"].values()) == document["nodes"] == 92


def test_inputs_with_a_default_and_open_sizes_are_shown(model_file: Path, run_cli: Callable[..., Result]) -> None:
    result = run_cli("inspect", model_file)
    assert "has a default" in result.stdout
    assert "nx3xhxw" in result.stdout
    assert "not counted in MACs: 1" in result.stdout
    assert "first" in result.stdout


@pytest.mark.parametrize("shape", ["x=1,3,8,10", "x=1x3x8x10", "x=1, 3, 8, 10"])
def test_input_shape_settles_the_macs(shape: str, model_file: Path, run_cli: Callable[..., Result]) -> None:
    result = run_cli("inspect", model_file, "--json", "--input-shape", shape)
    macs = json.loads(result.stdout)["macs"]
    assert (macs["total"], macs["uncounted"]) == (4 * 8 * 10 * 3, [])
    assert macs["input_shapes"] == {"x": [1, 3, 8, 10]}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        pytest.param("x", "is no shape; expected NAME=1,3,32,32", id="no-dimensions"),
        pytest.param("x=1,a", "is no shape", id="letters"),
        pytest.param("x=0,3,8,8", "is no shape", id="zero"),
        pytest.param("z=1,3,8,8", "no input 'z'", id="unknown-input"),
        pytest.param("x=1,4,8,8", "does not fit input 'x'", id="channels"),
    ],
)
def test_a_wrong_input_shape_is_one_line(
    shape: str, message: str, model_file: Path, run_cli: Callable[..., Result]
) -> None:
    result = run_cli("inspect", model_file, "--input-shape", shape)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_corpus_models_are_inspected(
    corpus_model: Callable[[str], Path], corpus_names: tuple[str, ...], run_cli: Callable[..., Result]
) -> None:
    for name in corpus_names:
        result = run_cli("inspect", corpus_model(name), "--json")
        document = json.loads(result.stdout)
        assert document["macs"]["total"] > 1e7
        assert document["macs"]["uncounted"] == []
        assert document["producer"].startswith("pytorch")
