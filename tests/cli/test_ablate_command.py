"""`pgc-graph ablate`: the lines it prints, the pictures it draws, and how it answers bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import Result
from PIL import Image

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from reference.plain_ablation import plain_ablation

Run = Callable[..., Result]
NUMBER = r"[+-]?\d+\.\d{4}"
RANKING = re.compile(
    rf"\d\d\. Mul      (?P<node>\S+) \((?P<tensor>\S+)\) -> meanΔ=(?P<delta>[+-]\d+\.\d{{4}}) "
    rf"stdΔ=(?P<std>{NUMBER}) meanProb=(?P<prob>{NUMBER}) meanΔlogit=(?P<logit>[+-]\d+\.\d{{4}})"
)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "pgc_s.onnx"
    modelio.save(calibrated_pgc("s"), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images in two folders, written as 32x32 PNG: exactly the model's input."""
    root = tmp_path / "images"
    for index, image in enumerate(smooth_images(5)):
        path = root / ("b" if index % 2 else "a") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).round().astype(np.uint8).transpose(1, 2, 0)).save(path)
    return root


def pixels(paths: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255 for path in paths])


def tensors_of(model_file: Path) -> list[str]:
    return [target.tensor for target in select_targets(find_targets(modelio.load(model_file)), TargetQuery())]


def test_folder_prints_images_then_aggregate_then_ranking(model_file: Path, folder: Path, run_cli: Run) -> None:
    result = run_cli("ablate", "--model", model_file, "--image-dir", folder, "--topk-heatmaps", 0)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    paths = sorted(folder.rglob("*.png"))
    plain = plain_ablation(onnx.load(model_file), pixels(paths), tensors_of(model_file))
    assert lines[:5] == [
        f"[IMAGE {index:04d}] {path}: baseline={score:.4f}"
        for index, (path, score) in enumerate(zip(paths, plain.baseline, strict=True), start=1)
    ]
    base = plain.baseline
    assert lines[5:9] == [
        "",
        f"Processed 5 images. Baseline prob: mean={base.mean():.4f} std={base.std():.4f} "
        f"min={base.min():.4f} max={base.max():.4f}",
        "",
        "Aggregate feature impact (sorted by mean Δ):",
    ]
    matches = [RANKING.fullmatch(line) for line in lines[9:]]
    assert len(matches) == 18
    assert all(matches)
    found = {m["tensor"]: (float(m["delta"]), float(m["std"]), float(m["prob"])) for m in matches if m}
    for tensor, scores in zip(tensors_of(model_file), plain.ablated, strict=True):
        delta = base - scores
        assert found[tensor] == pytest.approx((delta.mean(), delta.std(), scores.mean()), abs=6e-5)
    deltas = [delta for delta, _, _ in found.values()]
    assert deltas == sorted(deltas, reverse=True)
    assert "[INFO] provider: cpu" in result.stderr


def test_quiet_leaves_out_the_lines_for_each_image(model_file: Path, folder: Path, run_cli: Run) -> None:
    result = run_cli("ablate", "--model", model_file, "--image-dir", folder, "--topk-heatmaps", 0, "--quiet")
    assert "[IMAGE" not in result.stdout
    assert "Processed 5 images." in result.stdout


def test_max_images_takes_the_first(model_file: Path, folder: Path, run_cli: Run) -> None:
    result = run_cli("ablate", "--model", model_file, "--image-dir", folder, "--topk-heatmaps", 0, "--max-images", 2)
    assert "Processed 2 images." in result.stdout
    assert [line.split(": ")[0] for line in result.stdout.splitlines()[:2]] == [
        f"[IMAGE {index:04d}] {path}" for index, path in enumerate(sorted(folder.rglob("*.png"))[:2], start=1)
    ]


def test_single_image_prints_one_line_a_gate(model_file: Path, folder: Path, run_cli: Run) -> None:
    path = folder / "a" / "0.png"
    names = ("stem.2/Mul", "features.0/out_act/Mul")
    result = run_cli("ablate", "--model", model_file, "--image", path, "--topk-heatmaps", 0, "--name-contains", *names)
    assert result.exit_code == 0, result.stderr
    tensors = [t for t in tensors_of(model_file) if any(name in t for name in names)]
    plain = plain_ablation(onnx.load(model_file), pixels([path]), tensors)
    (base,) = plain.baseline
    assert result.stdout.splitlines()[:3] == [
        f"[BASELINE] {path}: prob={base:.4f}",
        *(
            f"[ABLATE] {tensor}: prob={score:.4f} delta={base - score:+.4f}"
            for tensor, score in zip(tensors, plain.ablated[:, 0], strict=True)
        ),
    ]
    assert "Aggregate feature impact" in result.stdout


def test_other_value_than_zero(model_file: Path, folder: Path, run_cli: Run) -> None:
    path = folder / "a" / "0.png"
    common = ("ablate", "--model", model_file, "--image", path, "--topk-heatmaps", 0, "--limit", 1)
    plain = plain_ablation(onnx.load(model_file), pixels([path]), tensors_of(model_file)[:1], value=0.5)
    result = run_cli(*common, "--ablation-value", 0.5)
    assert f"prob={plain.ablated[0, 0]:.4f}" in result.stdout.splitlines()[1]


def test_mean_is_that_of_the_images(model_file: Path, folder: Path, run_cli: Run) -> None:
    images = pixels(sorted(folder.rglob("*.png")))
    (tensor,) = tensors_of(model_file)[:1]
    tapped = onnx.load(model_file)
    tapped.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    mean = session.run([tensor], {"images": images})[0].mean(axis=0, keepdims=True)
    plain = plain_ablation(onnx.load(model_file), images, [tensor], shifts=[mean])
    common = ("ablate", "--model", model_file, "--image-dir", folder, "--topk-heatmaps", 0, "--limit", 1)
    result = run_cli(*common, "--mode", "mean", "--mean-per", "element")
    assert result.exit_code == 0, result.stderr
    match = RANKING.fullmatch(result.stdout.splitlines()[-1])
    assert match is not None
    assert float(match["delta"]) == pytest.approx((plain.baseline - plain.ablated[0]).mean(), abs=6e-5)


def test_seed_decides_what_noise_does(model_file: Path, folder: Path, run_cli: Run) -> None:
    common = ("ablate", "--model", model_file, "--image-dir", folder, "--topk-heatmaps", 0, "--limit", 3, "--json")
    options = [(), ("--seed", 0), ("--seed", 1), ("--noise-sigma", 0.1)]
    first, again, other, weak = (run_cli(*common, "--mode", "noise", *more).stdout for more in options)
    assert first == again
    assert len({first, other, weak}) == 3


def test_plan_of_means_needs_images(model_file: Path, folder: Path, run_cli: Run, tmp_path: Path) -> None:
    options = ("ablate", "--model", model_file, "--mode", "mean", "--limit", 3, "--save-plan", tmp_path / "plan.onnx")
    result = run_cli(*options)
    assert result.exit_code == 2
    assert "give images" in result.stderr
    assert run_cli(*options, "--explain", "--image-dir", folder).exit_code == 0
    onnx.checker.check_model(tmp_path / "plan.onnx", full_check=True)


def test_json_is_one_document_and_nothing_else(model_file: Path, folder: Path, run_cli: Run, tmp_path: Path) -> None:
    (folder / "a" / "broken.png").write_bytes(b"no image")
    result = run_cli(
        "ablate", "--model", model_file, "--image-dir", folder, "--json",
        "--topk-heatmaps", 2, "--topk-output-dir", tmp_path / "out",
    )  # fmt: skip
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["baseline"]["count"] == len(document["images"]) == 5
    assert [gate["rank"] for gate in document["gates"]] == list(range(1, 19))
    figures = {"delta", "prob", "logit_delta", "non_finite", "quality", "labels"}
    assert set(document["gates"][0]) == {"rank", "position", "target", *figures}
    assert [Path(item["path"]).name for item in document["skipped_images"]] == ["broken.png"]
    assert document["engine"]["method"] == "planned"
    assert "Skipped 1 unreadable images" in result.stderr
    assert "[INFO] Rendering heatmaps for top-2 tensors" in result.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (
            ("--limit", 2),
            [
                "[000] * Mul      /base_model/stem/stem.2/Mul -> /base_model/stem/stem.2/Mul_output_0",
                "[001] * Mul      /base_model/stem/stem.5/Mul -> /base_model/stem/stem.5/Mul_output_0",
            ],
        ),
        (
            ("--op-type", "Sigmoid", "--limit", 1),
            ["[000]   Sigmoid  /base_model/stem/stem.2/Sigmoid -> /base_model/stem/stem.2/Sigmoid_output_0"],
        ),
    ],
    ids=["default", "other-operator"],
)
def test_list_targets_needs_no_image(
    options: tuple[object, ...], lines: list[str], model_file: Path, run_cli: Run
) -> None:
    result = run_cli("ablate", "--model", model_file, "--list-targets", *options)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == lines
    assert result.stderr == ""


def test_folders_named_like_classes_are_set_side_by_side(
    model_file: Path, folder: Path, run_cli: Run, tmp_path: Path
) -> None:
    (folder / "a").rename(folder / "not_pointing")
    (folder / "b").rename(folder / "pointing")
    paths = sorted(folder.rglob("*.png"))
    common = ("ablate", "--model", model_file, "--image-dir", folder, "--topk-heatmaps", 0, "--limit", 2)
    document = json.loads(run_cli(*common, "--json").stdout)
    lines = run_cli(*common, "--stats").stdout.splitlines()
    start = lines.index("By label, without each tensor:")
    assert lines[start + 1].split() == [
        "rank",
        "not_pointing",
        "meanΔ",
        "accuracy",
        "pointing",
        "meanΔ",
        "accuracy",
        "accuracy",
        "F1",
        "loss",
        "tensor",
    ]
    assert lines[start + 2].split()[:4:2] == ["n=3", "n=2"]
    for line, gate in zip(lines[start + 3 : start + 5], document["gates"], strict=True):
        parts = [[f"{p['delta']['mean']:+.4f}", f"{p['accuracy']:.4f}"] for p in gate["labels"]]
        quality = [f"{gate['quality'][name]:.4f}" for name in ("accuracy", "f1", "loss")]
        assert line.split() == [f"{gate['rank']:02d}.", *parts[0], *parts[1], *quality, gate["target"]["tensor"]]
    for line, gate in zip(lines[-2:], document["gates"], strict=True):
        low, high = gate["delta"]["interval"]
        assert f"[{low:+.4f}, {high:+.4f}]" in line
        assert f" {gate['delta']['quantiles']['q50']:+.4f} " in line
    (tmp_path / "labels.csv").write_text("image_path,label\n" + "".join(f"{path},here\n" for path in paths))
    (group,) = json.loads(run_cli(*common, "--json", "--labels", tmp_path / "labels.csv").stdout)["labels"]
    assert (group["label"], group["images"], group["accuracy"]) == ("here", 5, None)
    assert json.loads(run_cli(*common, "--json", "--labels", "none").stdout)["labels"] == []


def test_target_and_ranking_are_said(model_file: Path, folder: Path, run_cli: Run) -> None:
    common = ("ablate", "--model", model_file, "--image-dir", folder, "--topk-heatmaps", 0)
    lines = run_cli(*common, "--rank-by", "logit", "--target", "not_pointing").stdout.splitlines()
    assert "Aggregate feature impact (sorted by mean Δ of the logit):" in lines
    logits = [float(match["logit"]) for match in map(RANKING.fullmatch, lines) if match]
    assert len(logits) == 18
    assert logits == sorted(logits, reverse=True)


def test_explain_needs_no_image_and_text_agrees_with_json(model_file: Path, run_cli: Run) -> None:
    options = ("ablate", "--model", model_file, "--explain", "--limit", 5)
    text, document = run_cli(*options).stdout.splitlines(), json.loads(run_cli(*options, "--json").stdout)
    assert document["plain_macs"] == 6 * document["model_macs"]
    for line, gate in zip(text[1:], document["gates"], strict=False):
        assert ("cut: a number" in line) == gate["cut"]
        assert line.endswith(f" {gate['target']['tensor']}")
        assert f" {gate['nodes']:,}  " in line
        assert f" {gate['macs']:,}  " in line
    ratio = document["plain_macs"] / document["plan_macs"]
    assert text[7:9] == [
        f"plain loop  {document['plain_macs']:,} MACs an image: {document['model_macs']:,} x 6 runs",
        f"plan        {document['plan_macs']:,} MACs an image, {ratio:.1f}x fewer: "
        f"{document['plan_nodes']:,} nodes in one graph",
    ]


def test_plan_is_saved_without_images_and_never_over_the_model(
    model_file: Path, folder: Path, run_cli: Run, tmp_path: Path
) -> None:
    plan, before = tmp_path / "plan.onnx", model_file.read_bytes()
    result = run_cli("ablate", "--model", model_file, "--save-plan", plan, "--limit", 3)
    assert result.exit_code == 0, result.stderr
    onnx.checker.check_model(plan, full_check=True)
    nodes = len(onnx.load(plan).graph.node)
    assert result.stdout.splitlines() == [f"[INFO] plan: {nodes} nodes, 4 outputs -> {plan}"]
    result = run_cli("ablate", "--model", model_file, "--save-plan", model_file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert model_file.read_bytes() == before
    common = ("--image-dir", folder, "--topk-heatmaps", 0, "--limit", 3, "--save-plan", plan)
    assert "Processed 5 images." in run_cli("ablate", "--model", model_file, *common).stdout


def test_heatmaps_of_the_highest_ranking_tensors_are_drawn(
    model_file: Path, folder: Path, run_cli: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run_cli(
        "ablate", "--model", model_file, "--image-dir", folder, "--quiet",
        "--topk-heatmaps", 3, "--topk-output-dir", out, "--topk-composite-name", "top.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert f"[INFO] Rendering heatmaps for top-3 tensors -> {out / 'top.png'}" in result.stdout
    nodes = [match["node"] for match in map(RANKING.fullmatch, result.stdout.splitlines()) if match][:3]
    slugs = [re.sub(r"[^0-9A-Za-z]+", "_", node).strip("_") for node in nodes]
    expected = [f"{number:03d}_{slug}.png" for number, slug in enumerate(slugs, start=1)]
    assert sorted(path.name for path in out.iterdir()) == [*expected, "top.png"]
    with Image.open(out / "top.png") as picture:
        assert min(picture.size) > 100


def test_unreadable_images_are_skipped_with_a_warning(model_file: Path, folder: Path, run_cli: Run) -> None:
    (folder / "a" / "00.png").write_bytes(b"no image")
    (folder / "b" / "cut.png").write_bytes((folder / "b" / "1.png").read_bytes()[:60])
    result = run_cli("ablate", "--model", model_file, "--image-dir", folder, "--topk-heatmaps", 0)
    assert result.exit_code == 0
    assert "Processed 5 images." in result.stdout
    assert "[IMAGE 0005]" in result.stdout
    assert "00.png" in result.stderr
    assert "cut.png" in result.stderr
    assert "Skipped 2 unreadable images" in result.stderr


def write_bad_files(tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "cut.onnx").write_bytes(model_file.read_bytes()[:5000])
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes(b"no image")
    two = "agraph (float[n, 3, 4, 4] a, float[n, 3, 4, 4] b) => (float[n, 1, 1, 1] y) { y = Add (a, b) }"
    grey = "agraph (float[n, 1, 4, 4] a) => (float[n, 1, 1, 1] y) { y = Neg (a) }"
    for name, text in (("two", two), ("grey", grey)):
        onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'), tmp_path / f"{name}.onnx")


BAD_INPUT = {
    "missing-model": ("--model none.onnx --image-dir images", "not found: none.onnx"),
    "not-a-model": ("--model text.onnx --image-dir images", "text.onnx is not"),
    "truncated-model": ("--model cut.onnx --image-dir images", "cut.onnx is not"),
    "two-inputs": ("--model two.onnx --image-dir images --include-all", "2 inputs"),
    "one-channel": ("--model grey.onnx --image-dir images --include-all", "expected 3 channels"),
    "no-images-named": ("--model pgc_s.onnx", "--image FILE or --image-dir FOLDER"),
    "both-named": ("--model pgc_s.onnx --image-dir images --image images/a/0.png", "both --image and --image-dir"),
    "missing-folder": ("--model pgc_s.onnx --image-dir nowhere", "does not exist"),
    "empty-folder": ("--model pgc_s.onnx --image-dir empty", "no images in empty"),
    "missing-image": ("--model pgc_s.onnx --image none.png", "image not found: none.png"),
    "only-broken-images": ("--model pgc_s.onnx --image-dir broken", "none of the 1 images could be read"),
    "no-match": ("--model pgc_s.onnx --image-dir images --name-contains nowhere", "no tensor matches"),
    "bad-regex": ("--model pgc_s.onnx --image-dir images --regex (", "malformed"),
    "zero-std": ("--model pgc_s.onnx --image-dir images --std 0 1 1", "std (0.0, 1.0, 1.0)"),
    "wrong-size": ("--model fixed.onnx --image-dir images --input-size 16", "fixed at 32x32"),
    "endless-value": ("--model pgc_s.onnx --image-dir images --ablation-value inf", "expected a finite number"),
    "collage-no-png": ("--model pgc_s.onnx --image-dir images --topk-composite-name a.jpg", "is no PNG"),
    "value-without-scale": (
        "--model pgc_s.onnx --image-dir images --mode mean --ablation-value 2",
        "no meaning for intervention mean",
    ),
    "no-noise": ("--model pgc_s.onnx --image-dir images --mode noise --noise-sigma 0", "finite number above 0"),
    "strange-target": ("--model pgc_s.onnx --image-dir images --target sideways", "no class 'sideways'"),
    "missing-labels": ("--model pgc_s.onnx --image-dir images --labels none.csv", "cannot read labels from none.csv"),
    "rank-without-labels": ("--model pgc_s.onnx --image-dir images --rank-by f1", "cannot rank by f1"),
    "missing-topk-image": ("--model pgc_s.onnx --image-dir images --topk-image none.png", "image not found: none.png"),
}


@pytest.mark.parametrize(("line", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(
    line: str,
    message: str,
    model_file: Path,
    folder: Path,
    tmp_path: Path,
    run_cli: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_bad_files(tmp_path, model_file)
    fixed = onnx.load(model_file)
    onnx.save(fixed, tmp_path / "fixed.onnx")
    monkeypatch.chdir(tmp_path)
    result = run_cli("ablate", *line.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    errors = [text for text in result.stderr.splitlines() if text.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "ablation_heatmaps").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_interrupt_prints_what_is_done(model_file: Path, folder: Path, tmp_path: Path) -> None:
    source = folder / "a" / "0.png"
    for index in range(3000):
        os.link(source, folder / f"{index:04d}.png")
    command = [sys.executable, "-u", "-m", "pgc_cli.main", "ablate", "--model", str(model_file)]
    command += ["--image-dir", str(folder), "--max-images", "3000", "--threads", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    done = re.search(r"Processed (\d+) images\.", out)
    assert first.startswith("[IMAGE 0001]")
    assert done is not None
    assert 0 < int(done[1]) < 3000
    assert len(RANKING.findall(out)) == 18
    assert f"interrupted: the figures cover {done[1]} of 3000 images" in err
    assert process.returncode == 130
    assert not (tmp_path / "ablation_heatmaps").exists()


def test_costs_stand_beside_the_ranking(model_file: Path, folder: Path, run_cli: Run) -> None:
    arguments = ("ablate", "--model", model_file, "--image-dir", folder, "--quiet", "--topk-heatmaps", 0, "--costs")
    lines = run_cli(*arguments).stdout.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("Cost of the nodes"))
    assert lines[start + 1].split() == ["rank", "meanΔ", "nodes", "MACs", "weights", "activation", "ms", "tensor"]
    table = [line.split() for line in lines[start + 2 :]]
    assert sorted(row[-1] for row in table) == sorted(tensors_of(model_file))
    document = json.loads(run_cli(*arguments, "--json").stdout)
    ranked = [gate["target"]["tensor"] for gate in document["gates"]]
    assert [cost["tensor"] for cost in document["costs"]] == ranked == [row[-1] for row in table]
    assert [f"{cost['macs']:,}" for cost in document["costs"]] == [row[3] for row in table]
    assert "costs" not in json.loads(run_cli(*arguments[:-1], "--json").stdout)
