"""`pgc-graph opset` as a user runs it: the plan, the IR version, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result

from pgc_graph import modelio

Cli = Callable[..., Result]
MIXED = """<ir_version: 8, opset_import: ["": 17]> g (float[n, 4] x, int64[1] k) => (float[n, d] y)
    { [soft] s = Softmax <axis = -1> (x) [act] h = HardSwish (s) [add] a = Add (h, s) [sum] y = ReduceSum (a, k) }"""


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.onnx"
    modelio.save(modelio.load(onnx.parser.parse_model(MIXED)), path)
    return path


def test_plan_lists_every_node_and_writes_nothing(run_cli: Cli, mixed: Path, tmp_path: Path) -> None:
    result = run_cli("opset", mixed, "--to", "12", "--plan")
    assert result.exit_code == 1
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines[:4]] == [
        ["soft", "relabel"],
        ["act", "adapter"],
        ["add", "relabel"],
        ["sum", "refused"],
    ]
    assert "remedy: make k a constant, or stay at opset 13" in lines[3][2]
    assert result.stdout.splitlines()[-1] == "Opset 12: 1 adapter, 1 refused, 2 relabel; nothing was written"
    assert [path.name for path in tmp_path.iterdir()] == ["mixed.onnx"]


def test_plan_as_json_and_its_exit_code(run_cli: Cli, mixed: Path) -> None:
    result = run_cli("opset", mixed, "--to", "13", "--plan", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["counts"] == {"same": 2, "adapter": 1, "relabel": 1}
    assert [node["node"] for node in document["nodes"]] == ["soft", "act", "add", "sum"]


def test_refused_node_is_named_and_nothing_is_written(run_cli: Cli, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = run_cli("opset", mixed, "-o", out, "--to", "12")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert all(word in result.stderr for word in ("'sum'", "ReduceSum-13", "opset 13 to 12", "make k a constant"))
    assert not out.exists()


def test_ir_version_can_be_set(run_cli: Cli, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    command = ["opset", mixed, "-o", out, "--to", "13", "--no-verify"]
    assert run_cli(*command, "--ir-version", "9").exit_code == 0
    assert modelio.load(out).ir_version == 9
    assert run_cli(*command).exit_code == 0
    assert modelio.load(out).ir_version == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "99"], "the newest that the installed onnxruntime loads"),
        (["--to", "6"], "expected 7 to"),
        (["--to", "21", "--ir-version", "8"], "need 10 to"),
        (["--to", "21", "--ir-version", "99"], "the installed onnxruntime loads up to"),
    ],
    ids=["opset too new", "opset too old", "IR version too old", "IR version too new"],
)
def test_impossible_versions_end_in_one_line(
    run_cli: Cli, mixed: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = run_cli("opset", mixed, "-o", tmp_path / "out.onnx", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out.onnx").exists()


def test_without_a_plan_the_output_is_required(run_cli: Cli, mixed: Path) -> None:
    result = run_cli("opset", mixed, "--to", "13")
    assert result.exit_code == 2
    assert "--output" in result.stderr


def test_nothing_to_convert_is_said(run_cli: Cli, mixed: Path, tmp_path: Path) -> None:
    result = run_cli("opset", mixed, "-o", tmp_path / "out.onnx", "--to", "17", "--no-verify")
    assert result.exit_code == 0
    assert "no node changed" in result.stdout
