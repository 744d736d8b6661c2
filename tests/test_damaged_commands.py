"""Every command on damaged files: one line and exit code 2, or a clean run; no traceback, crash, hang or partial file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from conftest import REPOSITORY
from damage import COMMANDS
from pgc_graph import modelio

SMALL = """<ir_version: 8, opset_import: ["": 17]> g (float[n, 3, 8, 8] x) => (float[n, 1] y)
<float[2, 3, 1, 1] w = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, float[2] s = {1.0, 2.0}, float[2] b = {0.5, 0.1},
 float[2] m = {0.0, 0.3}, float[2] v = {1.0, 0.5}, float[2, 1] h = {0.7, -0.4}>
{ t = Conv (x, w) u = BatchNormalization (t, s, b, m, v) q = Sigmoid (u) r = Mul (u, q)
  p = GlobalAveragePool (r) f = Flatten (p) l = MatMul (f, h) y = Sigmoid (l) }"""


@pytest.fixture
def folder(tmp_path: Path, pgc_model: Any) -> Path:
    modelio.save(modelio.load(onnx.parser.parse_model(SMALL)), tmp_path / "valid_small.onnx")
    modelio.save(pgc_model("s"), tmp_path / "valid_pgc.onnx")
    shutil.copy(next((REPOSITORY / "models" / "crops" / "pointing").glob("*.png")), tmp_path / "image.png")
    return tmp_path


def run_cases(folder: Path, command: str, first: int, last: int) -> tuple[int, list[str]]:
    """Run damaged files through a command; return how many it refused, and what went wrong."""
    arguments = [
        sys.executable,
        str(Path(__file__).with_name("damage.py")),
        str(folder),
        command,
        str(first),
        str(last),
    ]
    # A hang ends the run here; a crash of native code shows in the return code.
    process = subprocess.run(arguments, capture_output=True, text=True, timeout=60 + 2 * (last - first), check=False)
    records = [json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"case"')]
    finished = [record for record in records if "code" in record]
    problems = [
        f"case {record['case']}: {record['wrong']} {record['stderr']}" for record in finished if record["wrong"]
    ]
    if process.returncode or len(finished) < last - first:
        case = records[-1]["case"] if records else first
        problems.append(f"case {case}: the process ended with {process.returncode}: {process.stderr[-500:]}")
    return sum(record["code"] == 2 for record in finished), problems


@pytest.mark.parametrize("command", COMMANDS)
def test_damaged_files_end_in_one_line_or_a_clean_run(folder: Path, command: str) -> None:
    refused, problems = run_cases(folder, command, 0, 24)
    assert not problems, "\n".join(problems)
    assert refused >= 6


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_damaged_files_by_the_thousand(folder: Path, command: str) -> None:
    refused, problems = run_cases(folder, command, 1000, 1500)
    assert not problems, "\n".join(problems[:20])
    assert refused > 100


ODD = {
    "cycle": "(float[n] x) => (float[n] y) { a = Add (x, b) b = Relu (a) y = Neg (b) }",
    "duplicate tensor": "(float[n] x) => (float[n] y) { y = Relu (x) y = Neg (x) }",
    "missing tensor": "(float[n] x) => (float[n] y) { y = Add (x, nowhere) }",
    "unknown operator": "(float[n] x) => (float[n] y) { y = Nonsense (x) }",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("command", ["name", "simplify", "fold-bn", "opset", "optimize"])
def test_graphs_that_cannot_be_are_refused_by_one_line(run_cli: Any, tmp_path: Path, command: str, text: str) -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {text}')
    path, out = tmp_path / "odd.onnx", tmp_path / "out.onnx"
    path.write_bytes(proto.SerializeToString())
    result = run_cli(command, path, "-o", out, *COMMANDS[command][3:])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("command", ["name", "fold-bn", "opset"])
def test_unknown_domains_are_kept_when_parity_is_not_asked_for(run_cli: Any, tmp_path: Path, command: str) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "acme": 1]> g (float[n, 2, 4, 4] x) => (float[n, 2, 4, 4] y)
        <float[2] s = {1.0, 2.0}, float[2] b = {0.0, 1.0}> { t = acme.Magic (x) y = BatchNormalization (t, s, b, b, s) }"""
    path, out = tmp_path / "magic.onnx", tmp_path / "out.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    checked = run_cli(command, path, "-o", out, *COMMANDS[command][3:])
    assert checked.exit_code == 2
    assert "acme" in checked.stderr or "Magic" in checked.stderr
    assert not out.exists()
    assert run_cli(command, path, "-o", out, *COMMANDS[command][3:], "--no-verify").exit_code == 0
    assert next(node.domain for node in modelio.load(out).graph) == "acme"


def test_zero_size_tensors_pass_through(run_cli: Any, tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[n, 3] x) => (float[n, 3] y, float[0, 3] z)
        <float[0, 3] e = {}> { y = Relu (x) z = Neg (e) }"""
    path, out = tmp_path / "zero.onnx", tmp_path / "out.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    for command in ("name", "simplify", "fold-bn", "opset"):
        result = run_cli(command, path, "-o", out, *COMMANDS[command][3:])
        assert result.exit_code == 0, result.output
        assert list(modelio.load(out).graph.outputs[1].shape or ()) == [0, 3]
