"""`pgc-graph prune` and `pgc-graph fold-gates`: what they write and what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from click.testing import Result

from pgc_graph import modelio
from pgc_graph.analysis.macs import count_macs
from pgc_graph.passes.gates import gate_nodes
from pgc_graph.runtime.session import open_session

Run = Callable[..., Result]
TENSOR = "/base_model/features/features.2/block/block.5/Mul_output_0"
SPINE = "/base_model/features/features.0/out_act/Mul_output_0"


@pytest.fixture
def shipped(repository: Path) -> Path:
    return repository / "models" / "pgc_s_32x32.onnx"


@pytest.fixture
def gated(shipped: Path, tmp_path: Path, run_cli: Run) -> Path:
    """The shipped model with gates per channel behind one block: 0, 0.05 and 0.5 to 1."""
    path = tmp_path / "gated.onnx"
    names = [f"features.2/block/block.{place}/Mul" for place in (2, 5, 6)]
    assert run_cli("gate", shipped, "-o", path, "--per-channel", "--name-contains", *names).exit_code == 0
    model = modelio.load(path)
    for node in gate_nodes(model):
        values = np.linspace(0.5, 1, node.inputs[1].shape[1], dtype=np.float32).reshape(1, -1, 1, 1)
        values[:, :7], values[:, 7:10] = 0, 0.05
        node.inputs[1].const_value = ir.tensor(values, name=node.inputs[1].name)
    modelio.save(model, path)
    return path


def scores(path: Path, images: np.ndarray) -> np.ndarray:
    return open_session(modelio.load(path)).run({"images": images})[0]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((4, 3, 32, 32), np.float32)


def test_fold_gates_writes_the_same_function_without_gates(
    gated: Path, tmp_path: Path, run_cli: Run, images: np.ndarray
) -> None:
    output = tmp_path / "folded.onnx"
    result = run_cli("fold-gates", gated, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert "3 of 3 gates folded; parity ok" in result.stdout
    assert not gate_nodes(modelio.load(output))
    np.testing.assert_allclose(scores(output, images), scores(gated, images), atol=1e-5)


def test_gates_of_zero_and_below_the_threshold_go(
    gated: Path, tmp_path: Path, run_cli: Run, images: np.ndarray
) -> None:
    macs = []
    for options in ((), ("--threshold", "0.1")):
        output = tmp_path / f"pruned{len(options)}.onnx"
        result = run_cli("prune", gated, "-o", output, "--no-time", *options)
        assert result.exit_code == 0, result.stderr
        assert "channels removed" in result.stdout
        assert "parity ok" in result.stdout
        macs.append(count_macs(modelio.load(output)).total)
        if not options:
            np.testing.assert_allclose(scores(output, images), scores(gated, images), atol=1e-5)
    assert count_macs(modelio.load(gated)).total > macs[0] > macs[1]


def test_report_states_parameters_macs_bytes_and_latency(shipped: Path, tmp_path: Path, run_cli: Run) -> None:
    output = tmp_path / "half.onnx"
    result = run_cli("prune", shipped, "-o", output, "--keep-macs", "0.5", "--rounds", "3", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    before, after = document["comparison"]["before"], document["comparison"]["after"]
    assert before["macs"] == 11_956_288
    assert after["macs"] == count_macs(modelio.load(output)).total <= 0.5 * before["macs"]
    assert after["parameters"] < before["parameters"]
    assert before["milliseconds"] > 0 < after["milliseconds"]
    assert document["bytes_after"] == output.stat().st_size < document["bytes_before"]
    (step,) = document["steps"]
    assert step["skipped"] == []
    text = run_cli("prune", shipped, "-o", output, "--keep-macs", "0.5", "--rounds", "3").stdout
    assert all(word in text for word in ("parameters", "MACs", "latency", "3 interleaved runs on one thread"))


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_channels_of_a_file_go_and_what_stays_is_named(
    suffix: str, shipped: Path, tmp_path: Path, run_cli: Run
) -> None:
    rows = [{"tensor": TENSOR, "channel": 3, "score": 0.1}, {"tensor": SPINE, "channel": 5, "score": 0.2}]
    path = tmp_path / f"channels.{suffix}"
    lines = ["tensor,channel,score", *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) if suffix == "csv" else json.dumps({"channels": rows}), encoding="utf-8")
    result = run_cli("prune", shipped, "-o", tmp_path / "out.onnx", "--channels", path, "--json", "--no-time")
    assert result.exit_code == 0, result.stderr
    (step,) = json.loads(result.stdout)["steps"]
    assert {"subject": TENSOR, "action": "1 channels removed"} in step["changes"]
    assert {skip["subject"] for skip in step["skipped"]} == {SPINE}
    assert step["skipped"][0]["reason"].startswith("channel 5 stays: goes only together with ")
    few = run_cli(
        "prune", shipped, "-o", tmp_path / "few.onnx", "--channels", path, "--threshold", "0.15", "--json", "--no-time"
    )
    assert json.loads(few.stdout)["steps"][0]["skipped"] == []


def test_ranking_of_a_file_decides_what_goes(shipped: Path, tmp_path: Path, run_cli: Run) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("tensor,channel,score\n" + "".join(f"{TENSOR},{c},{c}\n" for c in range(128)), encoding="utf-8")
    output = tmp_path / "ranked.onnx"
    result = run_cli("prune", shipped, "-o", output, "--channels", path, "--keep-macs", "0.9", "--no-time", "--json")
    assert result.exit_code == 0, result.stderr
    left = modelio.load(output).graph.initializers["base_model.features.2.block.7.weight"].const_value.numpy()
    whole = modelio.load(shipped).graph.initializers["base_model.features.2.block.7.weight"].const_value.numpy()
    assert left.shape[1] < whole.shape[1]
    np.testing.assert_array_equal(left, whole[:, -left.shape[1] :])


@pytest.mark.parametrize(
    ("options", "content", "words"),
    [
        ((), None, "has no gates; say what goes with --channels or --keep-macs"),
        (("--channels", "FILE"), None, "cannot read"),
        (("--channels", "FILE"), "a,b\n1,2\n", "no columns tensor and channel"),
        (("--channels", "FILE"), "tensor,channel\nt,x\n", "row 1"),
        (("--channels", "FILE"), f"tensor,channel\n{TENSOR},1\n{TENSOR},1\n", "again"),
        (("--channels", "FILE"), f"tensor,channel\n{TENSOR},999\n", "has no channel 999"),
        (("--channels", "FILE"), "tensor,channel\nnowhere,1\n", "nowhere"),
        (("--channels", "FILE", "--keep-macs", "0.5"), f"tensor,channel\n{TENSOR},1\n", "has no score"),
        (("--channels", "FILE", "--keep-macs", "0.5"), f"tensor,channel,score\n{TENSOR},1,nan\n", "a finite number"),
        (("--keep-macs", "0.001"), None, "cannot be reached"),
    ],
    ids=["no gates", "no file", "columns", "row", "twice", "channel", "tensor", "score", "nan", "too little"],
)
def test_bad_input_ends_in_one_line(
    options: tuple[str, ...], content: str | None, words: str, shipped: Path, tmp_path: Path, run_cli: Run
) -> None:
    path, output = tmp_path / "channels.csv", tmp_path / "out.onnx"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    result = run_cli("prune", shipped, "-o", output, *(str(path) if word == "FILE" else word for word in options))
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not output.exists()


def test_model_that_sees_nothing_any_more_is_pointed_out(shipped: Path, tmp_path: Path, run_cli: Run) -> None:
    low, high = tmp_path / "low.onnx", tmp_path / "high.onnx"
    assert (
        "the same for every random input"
        in run_cli("prune", shipped, "-o", low, "--keep-macs", "0.02", "--multiple-of", "1", "--no-time").stderr
    )
    floor = ("--keep-macs", "0.9", "--keep-channels", "0.5")
    assert run_cli("prune", shipped, "-o", high, *floor, "--no-time").stderr == ""
