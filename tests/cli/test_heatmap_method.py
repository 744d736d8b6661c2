"""heatmap --method as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import Result

from conftest import REPOSITORY
from pgc_cli.heatmap_method import _GRAPH_METHODS, _INPUT_METHODS, METHOD_NAMES
from pgc_graph.images import load_image, to_tensor
from pgc_graph.preprocess import Preprocess
from pgc_graph.studies.cam import GRAPH_METHODS, INPUT_METHODS, METHODS

Cli = Callable[..., Result]
MODEL = REPOSITORY / "models" / "pgc_s_32x32.onnx"
CROP = REPOSITORY / "models" / "crops" / "pointing" / "synth000025_index.png"
COMMON = ("heatmap", "--model", MODEL, "--image", CROP, "--layers", "features.3/out_act", "--cam-steps", 4)


def test_the_command_offers_every_method() -> None:
    assert ("activation", *METHODS) == METHOD_NAMES
    assert (GRAPH_METHODS, INPUT_METHODS) == (_GRAPH_METHODS, _INPUT_METHODS)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_each_method_draws_and_says_what_it_explains(run_cli: Cli, tmp_path: Path, method: str) -> None:
    out = tmp_path / "maps"
    result = run_cli(*COMMON, "--output-dir", out, "--method", method, "--composite-topk", 1, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["method"] == method
    assert len(document["heatmaps"]) == 1
    is_input = method in METHODS[-2:]
    assert (
        document["heatmaps"][0]["tensor"] == "images" if is_input else "features.3" in document["heatmaps"][0]["node"]
    )
    assert document["heatmaps"][0]["shape"] == ([32, 32] if is_input else [8, 8])
    assert len(list(out.iterdir())) == 2
    if method in ("activation", "eigencam"):
        assert document.get("explained") is None
    else:
        assert (document["class"], document["label"]) == (1, "pointing")
        assert 1 / (1 + np.exp(-document["explained"])) == pytest.approx(document["scores"][0], abs=1e-5)


def test_methods_targets_steps_and_seeds_give_pictures_of_their_own(run_cli: Cli, tmp_path: Path) -> None:
    def draw(*options: object) -> bytes:
        out = tmp_path / "maps"
        result = run_cli(*COMMON, "--output-dir", out, *options)
        assert result.exit_code == 0, result.output
        (picture,) = out.iterdir()
        data = picture.read_bytes()
        picture.unlink()
        return data

    smooth = ("--method", "smoothgrad")
    pictures = [
        draw("--method", "gradcam"),
        draw("--method", "gradcam", "--target", "not_pointing"),
        draw(*smooth),
        draw(*smooth, "--seed", 1),
        draw(*smooth, "--noise", 0.3),
        draw(*smooth, "--cam-steps", 5),
    ]
    assert len(set(pictures)) == len(pictures)
    assert draw(*smooth, "--seed", 0) == pictures[2]


def test_integrated_gradients_start_from_a_black_image(run_cli: Cli, tmp_path: Path) -> None:
    black = tmp_path / "black.png"
    from PIL import Image

    Image.new("RGB", (40, 40)).save(black)
    common = ("heatmap", "--model", MODEL, "--image", black, "--output-dir", tmp_path / "maps", "--json")
    # With this mean black is -1 in the model's input: there is no way to go, so there is nothing to attribute.
    result = run_cli(*common, "--method", "integrated-gradients", "--mean", 0.5, 0.5, 0.5, "--std", 0.5, 0.5, 0.5)
    (entry,) = json.loads(result.stdout)["heatmaps"]
    assert (entry["minimum"], entry["maximum"]) == (0, 0)


def test_saved_model_returns_score_and_maps(run_cli: Cli, tmp_path: Path) -> None:
    saved, out = tmp_path / "cam.onnx", tmp_path / "maps"
    result = run_cli(*COMMON, "--output-dir", out, "--method", "layercam", "--save-model", saved, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    session = onnxruntime.InferenceSession(str(saved), providers=["CPUExecutionProvider"])
    images = np.stack([to_tensor(load_image(CROP), Preprocess((32, 32)))] * 3)
    score, drawn = session.run(None, {"images": images})
    assert score.shape == (3,)
    assert drawn.shape == (3, 8, 8)
    assert score[0] == pytest.approx(document["scores"][0], abs=1e-6)
    assert drawn.max() == pytest.approx(document["heatmaps"][0]["maximum"], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(("--method", "gradcam", "--target", "fist"), "there is no class 'fist'", id="class"),
        pytest.param(("--method", "smoothgrad", "--noise", "-1"), "noise -1.0 is no share", id="noise"),
        pytest.param(
            ("--method", "eigencam", "--save-model", "x.onnx"), "--save-model cannot write", id="save-eigencam"
        ),
        pytest.param(("--save-model", "x.onnx"), "--save-model cannot write activation", id="save-activation"),
        pytest.param(("--method", "gradcam", "--save-model", str(MODEL)), "is the input itself", id="save-over-input"),
        pytest.param(("--method", "gradcam", "--save-model", "no/x.onnx"), "folder that exists", id="save-nowhere"),
        pytest.param(
            ("--method", "gradcam", "--save-model", "x.onnx", "--cmap", "terbo"), "unknown colour map", id="colour-map"
        ),
        pytest.param(("--method", "gradcam", "--op-type", "Gemm"), "needs channels and places", id="no-places"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_cli("heatmap", "--model", MODEL, "--image", CROP, "--output-dir", tmp_path / "maps", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
