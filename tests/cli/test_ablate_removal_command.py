"""`pgc-graph ablate --per-channel` and `--cumulative`: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio

Run = Callable[..., Result]
LAST = ("--name-contains", "features.3")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "pgc_s.onnx"
    modelio.save(calibrated_pgc("s"), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images in two folders named like the classes."""
    root = tmp_path / "images"
    for index, image in enumerate(smooth_images(5)):
        path = root / ("pointing" if index % 2 else "not_pointing") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).round().astype(np.uint8).transpose(1, 2, 0)).save(path)
    return root


def options(model_file: Path, folder: Path, *more: object) -> list[object]:
    return ["ablate", "--model", model_file, "--image-dir", folder, "--op-type", "Mul", *LAST, *more]


def test_channels_are_summed_up_by_tensor_and_ranked(model_file: Path, folder: Path, run_cli: Run) -> None:
    result = run_cli(*options(model_file, folder, "--per-channel", "--top-channels", 3))
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    document = json.loads(run_cli(*options(model_file, folder, "--per-channel", "--json")).stdout)
    assert lines[0].startswith("Processed 5 images, 832 channels of 4 tensors. Baseline prob: mean=")
    assert lines[2] == "By tensor (a channel matters from |meanΔ| = 0.001 on; idle ones change no score):"
    for line, tensor in zip(lines[4:8], document["tensors"], strict=True):
        cells = line.split()
        assert cells[:3] == [str(tensor[key]) for key in ("channels", "matter", "idle")]
        assert cells[-2:] == ["compiled", tensor["target"]["tensor"]]
    assert lines[9] == "The first 3 of 832 channels (ranked by mean Δ; interval: 95 %, of the mean):"
    for line, channel in zip(lines[11:], document["channels"][:3], strict=True):
        cells = line.split()
        assert cells[:2] == [f"{channel['rank']}.", f"{channel['delta']['mean']:+.4f}"]
        assert cells[-2:] == [str(channel["channel"]), channel["tensor"]]


def test_json_counts_what_matters(model_file: Path, folder: Path, run_cli: Run) -> None:
    more = ("--per-channel", "--json", "--channel-threshold", 0.01, "--mode", "mean")
    document = json.loads(run_cli(*options(model_file, folder, *more)).stdout)
    assert document["schema_version"] == 1
    assert document["intervention"]["mode"] == "mean"
    assert [label["label"] for label in document["labels"]] == ["not_pointing", "pointing"]
    channels = document["channels"]
    assert len(channels) == 832
    means = [channel["delta"]["mean"] for channel in channels]
    assert means == sorted(means, reverse=True)
    for tensor in document["tensors"]:
        mine = [channel for channel in channels if channel["tensor"] == tensor["target"]["tensor"]]
        assert sorted(channel["channel"] for channel in mine) == list(range(tensor["channels"]))
        assert tensor["matter"] == sum(abs(channel["delta"]["mean"]) >= 0.01 for channel in mine)


def test_tensors_are_removed_the_lowest_rank_first(
    model_file: Path, folder: Path, run_cli: Run, tmp_path: Path
) -> None:
    chart = tmp_path / "curve.png"
    more = ("--topk-heatmaps", 0, "--cumulative", "--cumulative-chart", chart, "--json")
    document = json.loads(run_cli(*options(model_file, folder, *more)).stdout)
    ranked = [gate["target"]["tensor"] for gate in document["gates"]]
    curve = document["cumulative"]
    assert [removal["tensor"] for removal in curve["order"]] == ranked[::-1]
    assert [point["removed"] for point in curve["points"]] == [0, 1, 2, 3, 4]
    assert curve["points"][0]["prob"]["mean"] == pytest.approx(document["baseline"]["mean"])
    alone = next(gate for gate in document["gates"] if gate["target"]["tensor"] == ranked[-1])
    assert curve["points"][1]["prob"]["mean"] == pytest.approx(alone["prob"]["mean"], abs=1e-6)
    assert curve["points"][1]["quality"]["accuracy"] == alone["quality"]["accuracy"]
    with Image.open(chart) as picture:
        assert picture.size == (1000, 560)
    lines = run_cli(*options(model_file, folder, *more[:3], "--quiet")).stdout.splitlines()
    assert lines[-8] == "Removed one after another, the least important first:"
    assert lines[-6].split()[0] == "0"
    assert lines[-2].split()[-1] == ranked[0]
    expected = f"Area under the mean score: {curve['area']:.4f}, under accuracy: {curve['accuracy_area']:.4f}"
    assert lines[-1] == expected


def test_channels_are_removed_in_even_steps(model_file: Path, folder: Path, run_cli: Run) -> None:
    more = ("--limit", 1, "--per-channel", "--cumulative", "--cumulative-steps", 4, "--json")
    document = json.loads(run_cli(*options(model_file, folder, *more)).stdout)
    curve = document["cumulative"]
    assert [point["removed"] for point in curve["points"]] == [0, 64, 128, 192, 256]
    assert [removal["channel"] for removal in curve["order"]] == [c["channel"] for c in document["channels"][::-1]]
    assert curve["points"][2]["last"] == curve["order"][127]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(("--per-channel", "--explain"), "leave out --per-channel", id="explain"),
        pytest.param(("--cumulative-chart", "x.png"), "add --cumulative", id="chart-alone"),
        pytest.param(("--cumulative", "--cumulative-chart", "x.gif"), "no PNG", id="no-png"),
        pytest.param(("--per-channel", "--channel-threshold", "0"), "0.0 is not in the range x>0", id="threshold"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    model_file: Path, folder: Path, run_cli: Run, more: tuple[str, ...], message: str
) -> None:
    result = run_cli(*options(model_file, folder, *more))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_interrupt_keeps_the_images_that_are_done(model_file: Path, folder: Path) -> None:
    source = folder / "pointing" / "1.png"
    for index in range(1000):
        os.link(source, folder / f"{index:04d}.png")
    command = [sys.executable, "-u", "-m", "pgc_cli.main", "ablate", "--model", str(model_file)]
    command += ["--image-dir", str(folder), "--max-images", "1000", "--per-channel", "--json", "--cumulative"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert first == "[INFO] provider: cpu\n"
    document = json.loads(out)
    done = len(document["images"])
    assert document["interrupted"]
    assert 0 < done < 1000
    assert {channel["delta"]["count"] for channel in document["channels"]} == {done}
    assert "cumulative" not in document
    assert f"interrupted: the figures cover {done} of 1000 images" in err
    assert process.returncode == 130
