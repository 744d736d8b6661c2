"""name, simplify, fold-bn, opset and optimize as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result

from pgc_graph import modelio

COMMANDS: dict[str, list[str]] = {
    "name": [],
    "simplify": [],
    "fold-bn": [],
    "opset": ["--to", "13"],
    "optimize": ["--opset", "13"],
}
Cli = Callable[..., Result]


@pytest.fixture
def source(tmp_path: Path, pgc_model: Any) -> Path:
    path = tmp_path / "source.onnx"
    modelio.save(pgc_model("s"), path)
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_command_writes_a_valid_equal_model_and_says_so(run_cli: Cli, source: Path, tmp_path: Path, name: str) -> None:
    before = source.read_bytes()
    out = tmp_path / "out.onnx"
    result = run_cli(name, source, "-o", out, *COMMANDS[name])
    assert result.exit_code == 0, result.output
    assert "parity ok: max |Δ| = " in result.stdout
    assert f"Saved {out}" in result.stdout
    assert source.read_bytes() == before
    onnx.checker.check_model(str(out), full_check=True)
    model = modelio.load(out)
    assert model.metadata_props["pgc.image_size"] == "32x32"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_optimize_folds_every_batchnorm_and_prints_a_parity_line_a_step(
    run_cli: Cli, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    result = run_cli("optimize", source, "-o", out, "--opset", "13")
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == ["name", "simplify", "fold-bn", "opset"]
    assert all("parity ok" in line for line in lines[:4])
    model = modelio.load(out)
    assert model.opset_imports[""] == 13
    assert all(node.op_type != "BatchNormalization" for node in model.graph)


def test_json_is_one_document_with_every_verdict(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    result = run_cli("fold-bn", source, "-o", tmp_path / "out.onnx", "--json")
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    (step,) = document["steps"]
    total = sum(node.op_type == "BatchNormalization" for node in modelio.load(source).graph)
    assert len(step["changes"]) + len(step["skipped"]) == total
    assert step["parity"]["outputs"][0]["max_difference"] <= 1e-5


def test_output_may_replace_the_input_only_with_force(run_cli: Cli, source: Path) -> None:
    before = source.read_bytes()
    refused = run_cli("fold-bn", source, "-o", source)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert source.read_bytes() == before
    assert run_cli("fold-bn", source, "-o", source, "--force").exit_code == 0
    assert source.read_bytes() != before


def _wrong_scale(data: bytes) -> bytes:
    """Return a model that computes something else by 1 %."""
    proto = onnx.ModelProto.FromString(data)
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith("stem.0.weight"))
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    return proto.SerializeToString()


def test_failed_parity_writes_nothing_and_exits_1(
    run_cli: Cli, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pgc_graph.passes.batchnorm as batchnorm
    from pgc_graph.passes.rewrite import Rewrite

    broken = lambda model, **_: Rewrite(modelio.load(_wrong_scale(modelio.to_bytes(model))))  # noqa: E731
    monkeypatch.setattr(batchnorm, "fold_batchnorm", broken)
    result = run_cli("fold-bn", source, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 1
    assert "changed the function" in result.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_simplify_keeps_the_original_when_the_check_fails(
    run_cli: Cli, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxsim

    wrong = lambda proto, **_: (onnx.ModelProto.FromString(_wrong_scale(proto.SerializeToString())), True)  # noqa: E731
    monkeypatch.setattr(onnxsim, "simplify", wrong)
    result = run_cli("simplify", source, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 1
    assert "the original graph is kept" in result.stderr
    kept = modelio.load(tmp_path / "out.onnx")
    assert kept.graph.num_nodes() == modelio.load(source).graph.num_nodes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "not found"),
        (b"", "empty"),
        (b"this is no model", "not an ONNX model"),
        ("truncated", "truncated"),
    ],
    ids=["missing", "empty", "text", "truncated"],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_bad_file_ends_in_one_line_and_exit_2(
    run_cli: Cli, source: Path, tmp_path: Path, name: str, content: bytes | str | None, words: str
) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else source.read_bytes()[:-1000])
    out = tmp_path / "out.onnx"
    result = run_cli(name, path, "-o", out, *COMMANDS[name])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr
    assert str(path) in result.stderr
    assert not out.exists()


def test_output_folder_must_exist(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    result = run_cli("name", source, "-o", tmp_path / "nowhere" / "out.onnx")
    assert result.exit_code == 2
    assert "existing, writable folder" in result.stderr


def test_opset_that_cannot_be_is_refused_by_node(run_cli: Cli, tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 14]> g (float[n, n] x) => (float[n, n] y) { [act] y = Trilu (x) }'
    path = tmp_path / "hard.onnx"
    modelio.save(modelio.load(onnx.parser.parse_model(text)), path)
    result = run_cli("opset", path, "-o", tmp_path / "out.onnx", "--to", "13")
    assert result.exit_code == 2
    assert "'act'" in result.stderr
    assert "Trilu" in result.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_what_stays_is_listed_with_its_reason(run_cli: Cli, tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[n, 2, 3, 3] x, float[2] s) => (float[n, 2, 3, 3] y)
        <float[2] b = {0.0, 1.0}, float[2] v = {1.0, 2.0}> { [norm] y = BatchNormalization (x, s, b, b, v) }"""
    path = tmp_path / "model.onnx"
    modelio.save(modelio.load(onnx.parser.parse_model(text)), path)
    result = run_cli("fold-bn", path, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 0
    assert "0 of 1 BatchNormalization folded, 1 left" in result.stdout
    assert "left norm: scale is not a constant" in result.stdout
