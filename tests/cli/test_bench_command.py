"""`pgc-graph bench`: the same figures as table, JSON and chart; mistakes in one line; Ctrl-C keeps what was measured."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result
from PIL import Image

MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] y) {{ y = {}(x) }}'
ROW = re.compile(r"^ +(\w+) +(\d+) +(\S+\.onnx) +(\d+) +((?:[\d.]+ +){5})([\d,]+) +([\d.]+)x$", re.MULTILINE)
QUICK = ("--provider", "cpu", "--runs", "5", "--warmup", "1")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "relu.onnx", tmp_path / "exp.onnx"
    for path, operator in zip(paths, ("Relu", "Exp"), strict=True):
        path.write_bytes(onnx.parser.parse_model(MODEL.format(operator)).SerializeToString())
    return paths


def test_table_has_a_row_for_each_model_and_setting(files: tuple[Path, Path], run_cli: Callable[..., Result]) -> None:
    result = run_cli("bench", *files, *QUICK, "--threads", "1", "2", "--batch-size", "1", "8")
    assert result.exit_code == 0
    rows = ROW.findall(result.stdout)
    expected = [(t, b, str(path), "5") for t in "12" for b in "18" for path in files]
    assert [row[:4] for row in rows] == expected
    assert [row[6] for row in rows[::2]] == ["1.00"] * 4
    for row in rows:
        p50, p90, p99, _, least = map(float, row[4].split())
        assert least <= p50 <= p90 <= p99
    assert len(re.findall(r"^\[INFO\] timing 2 models", result.stderr, re.MULTILINE)) == 4


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(("--threads", "1", "2", "A", "B"), id="numbers-then-models"),
        pytest.param(("A", "--threads", "1", "--threads", "2", "B"), id="repeated"),
        pytest.param(("--threads=1", "A", "--threads=2", "B"), id="equals"),
        pytest.param(("A", "B", "--threads", "1", "2", "--seed", "4"), id="models-first"),
    ],
)
def test_several_numbers_may_stand_anywhere(
    order: tuple[str, ...], files: tuple[Path, Path], run_cli: Callable[..., Result]
) -> None:
    arguments = [{"A": str(files[0]), "B": str(files[1])}.get(word, word) for word in order]
    document = json.loads(run_cli("bench", *arguments, *QUICK, "--json").stdout)
    assert [(item["threads"], item["model"]) for item in document["latencies"]] == [
        (threads, str(path)) for threads in (1, 2) for path in files
    ]


def test_json_holds_the_report(files: tuple[Path, Path], run_cli: Callable[..., Result]) -> None:
    result = run_cli("bench", *files, *QUICK, "--threads", "1", "--json", "--ops")
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["provider"], document["interrupted"]) == (1, "cpu", False)
    first, second = document["latencies"]
    assert set(first) == {
        *("model", "threads", "batch_size", "runs", "mean", "min", "p50", "p90", "p99", "rows_per_second", "ratio")
    }
    assert second["ratio"] == pytest.approx(second["p50"] / first["p50"])
    assert [profile["operators"][0]["op_type"] for profile in document["profiles"]] == ["Relu", "Exp"]


def test_ops_shows_operators_and_nodes(files: tuple[Path, Path], run_cli: Callable[..., Result]) -> None:
    result = run_cli("bench", files[1], *QUICK, "--threads", "1", "--ops")
    assert re.search(r"exp\.onnx, 1 thread, batch 1: \d+\.\d+ of \d+\.\d+ ms a run inside operators", result.stdout)
    assert re.search(r"^  Exp +1 +\d+\.\d+ +(100\.0|0\.0)%$", result.stdout, re.MULTILINE)


def test_seconds_without_runs_measure_at_least_once(files: tuple[Path, Path], run_cli: Callable[..., Result]) -> None:
    result = run_cli("bench", files[0], "--provider", "cpu", "--threads", "1", "--seconds", "0.01", "--json")
    assert json.loads(result.stdout)["latencies"][0]["runs"] >= 1


def test_chart_is_written_beside_the_table(
    files: tuple[Path, Path], tmp_path: Path, run_cli: Callable[..., Result]
) -> None:
    result = run_cli("bench", *files, *QUICK, "--chart", tmp_path / "bars.png")
    assert len(ROW.findall(result.stdout)) == 2
    assert f"Saved {tmp_path / 'bars.png'}" in result.stderr
    with Image.open(tmp_path / "bars.png") as chart:
        assert chart.format == "PNG"


def test_corpus_models_run_side_by_side(corpus_model: Callable[[str], Path], run_cli: Callable[..., Result]) -> None:
    paths = corpus_model("resnet20_cifar10"), corpus_model("resnet20_cifar10_dynamo")
    document = json.loads(run_cli("bench", *paths, *QUICK, "--threads", "1", "--ops", "--json").stdout)
    assert [item["runs"] for item in document["latencies"]] == [5, 5]
    for profile in document["profiles"]:
        assert sum(item["share"] for item in profile["nodes"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("nowhere.onnx",), "model file not found", id="missing-file"),
        pytest.param(("A", "--input-shape", "z=1,4"), "no input 'z'", id="unknown-input"),
        pytest.param(("A", "--input-shape", "x"), "is no shape", id="no-shape"),
        pytest.param(("A", "--input-shape", "x=1,5"), "shape 1x5 does not fit", id="wrong-shape"),
        pytest.param(("A", "--seconds", "nan"), "measure nothing", id="not-a-time"),
        pytest.param(("A", "--chart", "bars.jpg"), "is no PNG", id="chart-format"),
        pytest.param(("A", "--chart", "nowhere/bars.png"), "cannot write chart", id="chart-folder"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], message: str, files: tuple[Path, Path], run_cli: Callable[..., Result]
) -> None:
    result = run_cli("bench", *(str(files[0]) if word == "A" else word for word in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [(), ("A", "--threads", "many"), ("A", "--batch-size", "0"), ("A", "--runs", "0")]
)
def test_usage_errors_are_code_2(
    arguments: tuple[str, ...], files: tuple[Path, Path], run_cli: Callable[..., Result]
) -> None:
    result = run_cli("bench", *(str(files[0]) if word == "A" else word for word in arguments))
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_interrupt_prints_what_was_measured(files: tuple[Path, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "pgc_cli.main", "bench", *map(str, files), "--provider", "cpu"]
    # The first setting takes a moment, the second would take minutes.
    command += ["--threads", "1", "--runs", "5000", "--batch-size", "1", "1000000", "--ops"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        announced = [process.stderr.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert all(line.startswith("[INFO] timing 2 models") for line in announced)
    rows = ROW.findall(out)
    assert [row[:4] for row in rows[:2]] == [("1", "1", str(path), "5000") for path in files]
    assert all(row[1] == "1000000" and int(row[3]) < 5000 for row in rows[2:])
    assert "interrupted: the figures cover the runs that were done" in err
    assert "inside operators" not in out
    assert process.returncode == 130
