"""heatmap over many images, labels and two models, as a user runs it; maps are judged by onnxruntime and numpy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import Result
from PIL import Image

from pgc_graph import modelio

Cli = Callable[..., Result]
TENSOR = "/base_model/stem/stem.2/Mul_output_0"


@pytest.fixture
def model(repository: Path) -> Path:
    return repository / "models" / "pgc_s_32x32.onnx"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images in two folders, and a file that is no image."""
    rng = np.random.default_rng(7)
    for name in ("near/a.png", "near/b.png", "far/c.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(path)
    (tmp_path / "images" / "near" / "broken.png").write_bytes(b"no image")
    return tmp_path / "images"


def stem_map(model: Path, image: Path) -> np.ndarray:
    """The channel mean of the first SiLU, by onnxruntime on the file with that tensor as its only output."""
    proto = onnx.load(model)
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info(TENSOR, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    row = np.asarray(Image.open(image), np.float32).transpose(2, 0, 1)[np.newaxis] / 255
    mean, std = (
        [float(v) for v in p.value.split(",")]
        for key in ("pgc.mean", "pgc.std")
        for p in proto.metadata_props
        if p.key == key
    )
    row = (row - np.float32(mean).reshape(1, 3, 1, 1)) / np.float32(std).reshape(1, 3, 1, 1)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: row})[0][0].mean(axis=0))


def drawn(run_cli: Cli, model: Path, out: Path, *options: object) -> dict[str, list[dict[str, object]]]:
    """The heatmaps in the JSON of a run on the first tensor, by image."""
    common = ("heatmap", "--model", model, "--output-dir", out, "--limit", 1, "--json", "--provider", "cpu")
    result = run_cli(*common, *options)
    assert result.exit_code == 0, result.output
    return {entry["image"]: entry["heatmaps"] for entry in json.loads(result.stdout)["images"]}


def test_each_image_of_a_folder_gets_a_folder_and_the_broken_one_is_named(
    run_cli: Cli, model: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    common = ("heatmap", "--model", model, "--image-dir", images, "--output-dir", out, "--limit", 2)
    result = run_cli(*common, "--composite-topk", 2)
    assert result.exit_code == 0, result.output
    assert "skipped: " in result.stderr
    assert "broken.png" in result.stderr
    assert sorted(path.name for path in out.iterdir()) == ["001_c", "002_a", "003_b"]
    assert all(len(list(folder.iterdir())) == 3 for folder in out.iterdir())
    assert result.stdout.count("2 tensors and a composite of 2, prob_pointing=") == 3


def test_maps_of_many_images_are_those_of_one(run_cli: Cli, model: Path, images: Path, tmp_path: Path) -> None:
    for image, (heatmap,) in drawn(run_cli, model, tmp_path / "maps", "--image-dir", images).items():
        expected = stem_map(model, Path(image))
        assert heatmap["minimum"] == pytest.approx(expected.min(), abs=1e-4)
        assert heatmap["maximum"] == pytest.approx(expected.max(), abs=1e-4)


def test_mean_of_each_label_and_difference(run_cli: Cli, model: Path, images: Path, tmp_path: Path) -> None:
    source = ("--image-dir", images, "--label-means", "--difference", "near", "far")
    found = drawn(run_cli, model, tmp_path / "maps", *source)
    near = (stem_map(model, images / "near/a.png") + stem_map(model, images / "near/b.png")) / 2
    far = stem_map(model, images / "far/c.png")
    for name, expected in (("near", near), ("far", far), ("near - far", near - far)):
        (heatmap,) = found[name]
        assert heatmap["maximum"] == pytest.approx(expected.max(), abs=1e-4)
        assert heatmap["minimum"] == pytest.approx(expected.min(), abs=1e-4)


def test_sheet_is_one_file(run_cli: Cli, model: Path, images: Path, tmp_path: Path) -> None:
    sheet, out = tmp_path / "sheet.png", tmp_path / "maps"
    common = ("heatmap", "--model", model, "--image-dir", images, "--output-dir", out, "--limit", 4)
    result = run_cli(*common, "--sheet", sheet)
    assert f"[OK] Saved 3 images x 4 tensors -> {sheet}" in result.stdout
    assert not out.exists()
    with Image.open(sheet) as picture:
        assert picture.width == 2 * 20 + 5 * 112 + 4 * 8
    document = json.loads(run_cli(*common, "--sheet", sheet, "--json").stdout)
    assert [entry["image"] for entry in document["images"]] == ["far/c.png", "near/a.png", "near/b.png"]


def test_two_models_stand_side_by_side(run_cli: Cli, model: Path, images: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    changed = modelio.load(model)
    weight = next(value for value in changed.graph.initializers.values() if len(value.shape or ()) == 4)
    array = weight.const_value.numpy() * 0.5  # type: ignore[union-attr]
    modelio.save(changed, other)
    proto = onnx.load(other)
    (held,) = [tensor for tensor in proto.graph.initializer if tensor.name == weight.name]
    held.CopyFrom(onnx.numpy_helper.from_array(array, held.name))
    onnx.save(proto, other)
    image = images / "far/c.png"
    out = tmp_path / "maps"
    common = ("heatmap", "--model", model, "--image", image, "--output-dir", out, "--limit", 1, "--json")
    document = json.loads(run_cli(*common, "--against", other, "--composite-topk", 1).stdout)
    first, second = document["heatmaps"]
    assert first["node"].endswith(f"  {model.name}")
    assert second["node"].endswith("  other.onnx")
    assert first["maximum"] == pytest.approx(stem_map(model, image).max(), abs=1e-4)
    assert second["maximum"] == pytest.approx(stem_map(other, image).max(), abs=1e-4)
    assert abs(first["maximum"] - second["maximum"]) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            ("--difference", "near", "here"), "no image has label 'here'; expected one of far, near", id="label"
        ),
        pytest.param(("--sheet", "sheet.jpg"), "is no PNG", id="sheet"),
        pytest.param(("--label-means", "--against", "x.onnx"), "--against compares two models", id="against-means"),
        pytest.param(("--against", "missing.onnx"), "model file not found", id="against-missing"),
        pytest.param(("--scale", "3,1"), "a scale from 3 to 1 shows nothing", id="scale-backwards"),
        pytest.param(("--scale", "wide"), "'wide' is no scale; expected each, shared or LOW,HIGH", id="scale-word"),
    ],
)
def test_what_makes_no_sense(
    run_cli: Cli, model: Path, images: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "maps"
    result = run_cli("heatmap", "--model", model, "--image-dir", images, "--output-dir", out, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not out.exists()


def test_scale_changes_the_pictures(run_cli: Cli, model: Path, images: Path, tmp_path: Path) -> None:
    pages = set()
    for index, scale in enumerate(("each", "shared", "0,1", "-2,2")):
        out = tmp_path / str(index)
        common = ("heatmap", "--model", model, "--image", images / "far/c.png", "--output-dir", out, "--limit", 3)
        result = run_cli(*common, "--composite-topk", 3, "--scale", scale)
        assert result.exit_code == 0, result.output
        pages.add((out / "top_features_composite.png").read_bytes())
    assert len(pages) == 4
