"""`pgc-graph build`: presets, overrides, weights from a seed or a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import save_file

from pgc_graph import modelio
from pgc_graph.analysis.summary import summarise
from pgc_graph.build.spec import ModelSpec, preset
from pgc_graph.build.weights import init_weights
from pgc_graph.runtime.parity import assert_parity


@pytest.mark.parametrize(
    ("variant", "parameters"), [("s", "118,321"), ("c", "212,689"), ("m", "416,785"), ("l", "1,622,049")]
)
def test_presets_have_their_parameters(
    variant: str, parameters: str, run_cli: Callable[..., Result], tmp_path: Path
) -> None:
    output = tmp_path / "model.onnx"
    result = run_cli("build", "--preset", variant, "-o", output)
    assert (result.exit_code, result.stderr) == (0, "")
    size = f"{output.stat().st_size:,} bytes"
    assert result.stdout == f"Saved {output} ({parameters} parameters, opset 17, {size})\n"
    model = modelio.load(output)
    modelio.check(model)
    assert model.metadata_props["pgc.variant"] == variant
    assert f"{summarise(model).parameters.weights:,}" == parameters


def test_a_seed_makes_the_same_file_every_time(run_cli: Callable[..., Result], tmp_path: Path) -> None:
    for name, seed in (("first", ["--seed", 3]), ("again", ["--seed", 3]), ("other", ["--seed", 4])):
        assert run_cli("build", *seed, "-o", tmp_path / f"{name}.onnx").exit_code == 0
    first, again, other = ((tmp_path / f"{name}.onnx").read_bytes() for name in ("first", "again", "other"))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "variant", "size", "operator"),
    [
        pytest.param(["--backbone", "baseline"], "custom", "32x32", "Relu", id="baseline"),
        pytest.param(["--backbone", "convnext"], "custom", "32x32", "Softmax", id="convnext-takes-its-own-head"),
        pytest.param(["--backbone", "convnext", "--head", "avg"], "custom", "32x32", "ReduceMean", id="head"),
        pytest.param(["--backbone", "inverted_se"], "s", "32x32", "Sigmoid", id="the-preset-spelt-out"),
        pytest.param(["--head", "auto"], "s", "32x32", "Sigmoid", id="auto-is-the-presets-head"),
        pytest.param(["--colour", "lab"], "custom", "32x32", "Pow", id="colour"),
        pytest.param(["--base-channels", 16, "--num-blocks", 2], "custom", "32x32", "Conv", id="smaller"),
        pytest.param(["--preset", "m", "--image-size", "48x64"], "m", "48x64", "Conv", id="image-size"),
        pytest.param(
            ["--head", "mlp_mixer", "--token-grid", "4x2", "--token-layers", 1], "custom", "32x32", "Erf", id="tokens"
        ),
        pytest.param(["--expansion", 2, "--se-reduction", 4], "custom", "32x32", "Sigmoid", id="narrower"),
    ],
)
def test_overrides_change_the_network(
    arguments: list[object], variant: str, size: str, operator: str, run_cli: Callable[..., Result], tmp_path: Path
) -> None:
    result = run_cli("build", *arguments, "-o", tmp_path / "model.onnx")
    assert (result.exit_code, result.stderr) == (0, "")
    model = modelio.load(tmp_path / "model.onnx")
    modelio.check(model)
    assert (model.metadata_props["pgc.variant"], model.metadata_props["pgc.image_size"]) == (variant, size)
    assert operator in {node.op_type for node in model.graph}


@pytest.mark.parametrize("opset", [13, 20])
def test_another_opset_is_the_same_function(opset: int, run_cli: Callable[..., Result], tmp_path: Path) -> None:
    for name, arguments in (("a", []), ("b", ["--opset", opset])):
        assert run_cli("build", *arguments, "-o", tmp_path / f"{name}.onnx").exit_code == 0
    first, second = (modelio.load(tmp_path / f"{name}.onnx") for name in "ab")
    assert second.opset_imports[""] == opset
    assert assert_parity(first, second, runs=2).passed


def test_weights_come_from_a_file(run_cli: Callable[..., Result], tmp_path: Path) -> None:
    weights = init_weights(preset("s"), seed=5)
    save_file(weights, tmp_path / "weights.safetensors")
    assert run_cli("build", "--weights", tmp_path / "weights.safetensors", "-o", tmp_path / "a.onnx").exit_code == 0
    assert run_cli("build", "--seed", 5, "-o", tmp_path / "b.onnx").exit_code == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def weights_of(spec: ModelSpec, change: str) -> dict[str, np.ndarray]:
    weights = dict(init_weights(spec, seed=0))
    name = next(iter(weights))
    if change == "missing":
        del weights[name]
    if change == "extra":
        weights["nobody.weight"] = np.zeros(3, np.float32)
    if change == "shape":
        weights[name] = np.zeros((1, 2), np.float32)
    if change == "nan":
        weights[name] = np.full_like(weights[name], np.nan)
    return weights


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "nan"])
def test_weights_that_do_not_fit_are_one_line(change: str, run_cli: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(weights_of(preset("s"), change), file)
    result = run_cli("build", "--weights", file, "-o", tmp_path / "model.onnx")
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(file) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--weights", "nowhere.safetensors"], "not found", id="missing-weights"),
        pytest.param(["--weights", "text.safetensors"], "not a safetensors file", id="text-weights"),
        pytest.param(["--weights", "text.safetensors", "--seed", "1"], "both --weights and --seed", id="both"),
        pytest.param(["--opset", "9"], "opset 9 cannot be written", id="opset-too-low"),
        pytest.param(["--opset", "99"], "opset 99 cannot be written", id="opset-too-high"),
        pytest.param(
            ["--image-size", "1", "--preset", "l", "--backbone", "convnext"], "too small", id="image-too-small"
        ),
        pytest.param(["--preset", "xl"], "is not one of", id="unknown-preset"),
        pytest.param(["--num-blocks", "0"], "range", id="no-blocks"),
        pytest.param(["--image-size", "big"], "is not a size", id="size-is-text"),
        pytest.param(
            ["--weights", "text.safetensors", "-o", "text.safetensors"], "is the input itself", id="overwrites"
        ),
    ],
)
def test_a_senseless_request_is_code_2(
    arguments: list[str], message: str, run_cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.safetensors").write_text("not weights")
    result = run_cli("build", *(["-o", "model.onnx"] if "-o" not in arguments else []), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text.safetensors"]


def test_building_needs_no_torch(run_python: Callable[..., object], tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from pgc_cli.main import cli\ncli(['build', '-o', 'model.onnx'], standalone_mode=False)\n"
    )
    result = run_python("-c", code)
    assert getattr(result, "returncode", 1) == 0
    assert (tmp_path / "model.onnx").is_file()
