"""heatmap as a user runs it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from click.testing import Result
from PIL import Image

from pgc_graph import modelio

Cli = Callable[..., Result]
NOISE = 5e-3
"""The last layer of the test model magnifies rounding a thousand times, to give random weights scores that vary."""

TWO_INPUTS = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[N, 3, 8, 8] images, float[N, 3, 8, 8] other) => (float[N, 3] y)
{ s = Sigmoid(images) m = Mul(images, s) a = Add(m, other) y = ReduceMean <axes = [2, 3], keepdims = 0> (a) }
"""

GREY_INPUT = """
<ir_version: 8, opset_import: ["" : 17]>
grey (float[N, 1, 8, 8] images) => (float[N, 1] y)
{ s = Sigmoid(images) m = Mul(images, s) y = ReduceMean <axes = [2, 3], keepdims = 0> (m) }
"""

RELU_CLASSES = """
<ir_version: 8, opset_import: ["" : 17], metadata_props: ["pgc.labels" : "red,green,blue"]>
classes (float[N, 3, 8, 8] images) => (float[N, 3] scores)
{ [act] kept = Relu(images) scores = ReduceMean <axes = [2, 3], keepdims = 0> (kept) }
"""


@pytest.fixture
def model(tmp_path: Path, pgc_model: Any) -> Path:
    path = tmp_path / "pgc_s.onnx"
    modelio.save(pgc_model("s"), path)
    return path


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    """A picture with a bright spot, 48 wide and 64 high."""
    pixels = np.random.default_rng(2).integers(0, 90, (64, 48, 3)).astype(np.uint8)
    pixels[10:30, 8:24] = (240, 200, 180)
    path = tmp_path / "crop.png"
    Image.fromarray(pixels).save(path)
    return path


def score_by_hand(model: Path, image: Path) -> float:
    pixels = np.asarray(Image.open(image).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR), np.float32) / 255
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (score,) = session.run(None, {"images": pixels.transpose(2, 0, 1)[np.newaxis]})
    return float(score.reshape(-1)[0])


def printed_score(text: str) -> float:
    (number,) = re.findall(r"^Model prob_pointing=(\d\.\d{4})$", text, re.MULTILINE)
    return float(number)


def write_model(text: str, path: Path) -> Path:
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def test_one_picture_a_tensor_then_the_score_then_the_collage(
    run_cli: Cli, model: Path, crop: Path, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    result = run_cli("heatmap", "--model", model, "--image", crop, "--output-dir", out, "--composite-topk", 6)
    assert result.exit_code == 0, result.output
    assert result.stderr == "[INFO] provider: cpu\n"
    lines = result.stdout.splitlines()
    first = "/base_model/stem/stem.2/Mul"
    assert lines[0] == f"[OK] Saved {first} -> {out / '001_base_model_stem_stem_2_Mul.png'}"
    assert len(lines) == 18 + 2
    assert all(line.startswith("[OK] Saved /base_model/") for line in lines[:18])
    assert printed_score(lines[18]) == pytest.approx(score_by_hand(model, crop), abs=NOISE)
    assert lines[19] == f"[COMPOSITE] Saved top-6 heatmaps -> {out / 'top_features_composite.png'}"
    assert len(list(out.iterdir())) == 19
    with Image.open(out / "001_base_model_stem_stem_2_Mul.png") as picture:
        assert picture.size[0] > 3 * 240


def test_real_photographs(run_cli: Cli, model: Path, photos: Path, tmp_path: Path) -> None:
    for index, source in enumerate(("ardamavi-digits", "subhih-hands", "epsrc-human-fingers")):
        photo = sorted((photos / source / "pointing").glob("*.png"))[0]
        out = tmp_path / str(index)
        result = run_cli("heatmap", "--model", model, "--image", photo, "--output-dir", out, "--limit", 2)
        assert result.exit_code == 0, result.output
        assert printed_score(result.stdout) == pytest.approx(score_by_hand(model, photo), abs=NOISE)
        assert len(list(out.iterdir())) == 2


def test_json_is_one_document(run_cli: Cli, model: Path, crop: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps"
    result = run_cli("heatmap", "--model", model, "--image", crop, "--output-dir", out, "--limit", 3, "--json")
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["score_name"] == "prob_pointing"
    assert document["scores"][0] == pytest.approx(score_by_hand(model, crop), abs=NOISE)
    assert document["composite"] is None
    assert [Path(entry["path"]).is_file() for entry in document["heatmaps"]] == [True] * 3
    assert all(0 <= entry["intensity"] <= 1 and entry["minimum"] <= entry["maximum"] for entry in document["heatmaps"])


def test_list_layers_needs_no_image(run_cli: Cli, model: Path) -> None:
    result = run_cli("heatmap", "--model", model, "--list-layers")
    lines = result.stdout.splitlines()
    assert len(lines) == 18
    assert lines[0] == "[000] silu /base_model/stem/stem.2/Mul -> /base_model/stem/stem.2/Mul_output_0"
    assert lines[4].startswith("[004] gate /base_model/features/features.0/block/block.6")
    document = json.loads(run_cli("heatmap", "--model", model, "--list-layers", "--limit", 1, "--json").stdout)
    assert [target["kind"] for target in document["targets"]] == ["silu"]


def saved_nodes(result: Result) -> list[str]:
    return re.findall(r"\[OK\] Saved (\S+) ->", result.stdout)


def test_layers_take_several_texts_and_keep_their_order(run_cli: Cli, model: Path, crop: Path, tmp_path: Path) -> None:
    common = ("heatmap", "--model", model, "--image", crop, "--output-dir", tmp_path / "maps")
    result = run_cli(*common, "--layers", "OUT_ACT", "stem", "--composite-topk", 2, "--composite-sort", "order")
    nodes = saved_nodes(result)
    assert nodes[:4] == [f"/base_model/features/features.{index}/out_act/Mul" for index in range(4)]
    assert nodes[4:] == ["/base_model/stem/stem.2/Mul", "/base_model/stem/stem.5/Mul"]
    limited = run_cli(*common, "--layers", "out_act", "--layers", "stem", "--limit", 3)
    assert saved_nodes(limited) == ["/base_model/features/features.0/out_act/Mul", *nodes[4:]]


def test_addresses_find_what_they_say_among_all_tensors(run_cli: Cli, model: Path) -> None:
    def listed(*options: object) -> list[str]:
        result = run_cli("heatmap", "--model", model, "--list-layers", "--json", *options)
        return [
            f"{target['kind'] or target['op_type']} {target['node']}" for target in json.loads(result.stdout)["targets"]
        ]

    gates = [f"gate /base_model/features/features.{index}/block/block.6/Mul" for index in range(4)]
    assert listed("--layers", "se@*") == listed("--pattern", "se") == listed("--name-contains", "gate@*") == gates
    assert listed("--layers", "se@features.2", "conv@stem.0") == [gates[2], "Conv /base_model/stem/stem.0/Conv"]
    assert listed("--layers", "se@features.2", "stem") == [gates[2], *listed("--layers", "stem")]


def test_filter_that_finds_nothing_beside_one_that_does_is_mentioned(
    run_cli: Cli, model: Path, crop: Path, tmp_path: Path
) -> None:
    result = run_cli(
        "heatmap", "--model", model, "--image", crop, "--output-dir", tmp_path / "maps", "--layers", "stem", "typo"
    )
    assert result.exit_code == 0
    assert "Warning: no tensor matches --layers 'typo'" in result.stderr
    assert len(saved_nodes(result)) == 2


def test_classifier_without_sigmoids_shows_other_tensors_and_its_top_class(
    run_cli: Cli, crop: Path, tmp_path: Path
) -> None:
    path = write_model(RELU_CLASSES, tmp_path / "classes.onnx")
    common = ("heatmap", "--model", path, "--image", crop, "--output-dir", tmp_path / "maps")
    refused = run_cli(*common)
    assert refused.exit_code == 2
    assert "no Sigmoid→Mul tensor" in refused.stderr
    result = run_cli(*common, "--op-type", "Relu")
    assert saved_nodes(result) == ["act"]
    assert re.search(r"^Model scores\[0\]=0\.\d{4} \(red\)$", result.stdout, re.MULTILINE)


def test_options_change_the_pictures(run_cli: Cli, model: Path, crop: Path, tmp_path: Path) -> None:
    def draw(*options: object) -> bytes:
        out = tmp_path / "maps"
        result = run_cli("heatmap", "--model", model, "--image", crop, "--output-dir", out, "--limit", 1, *options)
        assert result.exit_code == 0, result.output
        return (out / "001_base_model_stem_stem_2_Mul.png").read_bytes()

    plain = draw()
    assert draw() == plain
    assert draw("--no-invert-cmap", "--alpha", 0.55, "--cmap", "turbo", "--reduce", "mean") == plain
    changes = [
        ("--alpha", 0.2),
        ("--cmap", "viridis"),
        ("--invert-cmap",),
        ("--reduce", "max"),
        ("--mean", 0.5, 0.5, 0.5),
        ("--std", 0.25, 0.25, 0.25),
    ]
    assert len({plain, *(draw(*change) for change in changes)}) == 1 + len(changes)


def test_picture_is_upright_by_its_exif_orientation(run_cli: Cli, model: Path, crop: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.png"
    with Image.open(crop) as upright:
        exif = upright.getexif()
        exif[0x0112] = 6  # to be shown turned 90 degrees clockwise
        upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    outputs = []
    for name in (crop, turned):
        out = tmp_path / f"maps-{name.stem}"
        run_cli("heatmap", "--model", model, "--image", name, "--output-dir", out, "--limit", 1)
        outputs.append((out / "001_base_model_stem_stem_2_Mul.png").read_bytes())
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"--model": "missing.onnx"}, "model file not found", id="no-model"),
        pytest.param({"--model": "text.onnx"}, "not an ONNX model", id="not-onnx"),
        pytest.param({"--model": "two.onnx"}, "has 2 inputs", id="two-inputs"),
        pytest.param({"--model": "grey.onnx"}, "expected 3 channels", id="wrong-channels"),
        pytest.param({"--image": "missing.png"}, "image not found", id="no-image"),
        pytest.param({"--image": "text.onnx"}, "is not an image", id="not-an-image"),
        pytest.param({"--image": None}, "no images given", id="image-left-out"),
        pytest.param({"--layers": "nowhere"}, "no tensor matches --layers 'nowhere'", id="layers"),
        pytest.param({"--name-contains": "nowhere"}, "no tensor matches", id="name-contains"),
        pytest.param({"--std": "0 1 1"}, "would divide by zero", id="std-0"),
        pytest.param({"--alpha": "1.5"}, "alpha 1.5", id="alpha"),
        pytest.param({"--alpha": "nan"}, "alpha nan", id="alpha-nan"),
        pytest.param({"--cmap": "terbo"}, "unknown colour map 'terbo'", id="colour-map"),
        pytest.param({"--input-size": "16x16"}, "does not fit the model", id="size"),
        pytest.param({"--composite-topk": "3", "--composite-output": "page.jpg"}, "is no PNG", id="composite-suffix"),
        pytest.param({"--output-dir": "text.onnx"}, "cannot make folder", id="output-is-a-file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    run_cli: Cli, model: Path, crop: Path, tmp_path: Path, changes: dict[str, str | None], message: str
) -> None:
    (tmp_path / "text.onnx").write_text("hello", encoding="utf-8")
    write_model(TWO_INPUTS, tmp_path / "two.onnx")
    write_model(GREY_INPUT, tmp_path / "grey.onnx")
    before = sorted(path.name for path in tmp_path.iterdir())
    options: dict[str, str | None] = {"--model": str(model), "--image": str(crop), "--output-dir": "maps", **changes}
    files = ("--model", "--image", "--output-dir")
    args = [
        part
        for name, value in options.items()
        if value is not None
        for part in (name, *([str(tmp_path / value)] if name in files else value.split()))
    ]
    result = run_cli("heatmap", *args)
    assert result.exit_code == 2
    errors = result.stderr.removeprefix("[INFO] provider: cpu\n")
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert result.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_help_shows_every_option(run_cli: Cli) -> None:
    text = run_cli("heatmap", "--help").stdout
    for option in (
        "--layers",
        "--limit",
        "--list-layers",
        "--reduce",
        "--input-size",
        "--alpha",
        "--cmap",
        "--provider",
    ):
        assert option in text
    assert "--invert-cmap / --no-invert-cmap" in text
