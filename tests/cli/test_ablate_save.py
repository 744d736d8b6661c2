"""`pgc-graph ablate --save, --resume, --chart`: killed at any moment, it ends with the same bytes once it is resumed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.sources import npz_images
from pgc_graph.studies.ablation import Saving, ablate

Run = Callable[..., Result]
COUNT = 600
unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and many small images with labels, in the current folder."""
    modelio.save(calibrated_pgc("s"), tmp_path / "s.onnx")
    images = (smooth_images(40) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    many = images[np.random.default_rng(0).integers(0, 40, COUNT)]
    np.savez(tmp_path / "images.npz", images=many, labels=np.arange(COUNT) % 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(path: str, *options: str) -> list[str]:
    base = ["ablate", "--model", "s.onnx", "--npz", "images.npz", "--max-images", "0", "--labels", "folders"]
    return [*base, "--limit", "3", "--quiet", "--topk-heatmaps", "0", "--save", path, *options]


def files_of(name: str, place: Path) -> tuple[bytes, bytes]:
    path = place / name
    assert not (place / f"{name}.journal").exists()
    return path.read_bytes(), path.with_suffix(".summary.json").read_bytes()


def start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pgc_cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[bytes], enough: Callable[[], bool]) -> bool:
    """Kill a process as soon as something is true; whether it was alive until then."""
    with process:
        while process.poll() is None and not enough():
            time.sleep(0.002)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return alive and process.returncode == -signal.SIGKILL


def size_of(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


@unix
def test_killed_runs_end_with_the_same_bytes(place: Path, run_cli: Run) -> None:
    assert run_cli(*line("whole.csv")).exit_code == 0
    chance = random.Random(2)
    scores = place / "out.csv.journal" / "scores.bin"
    kills = 0
    for _ in range(2):
        wanted = size_of(scores) + chance.randrange(1, 30_000)
        kills += kill_when(start(*line("out.csv", "--resume")), lambda wanted=wanted: size_of(scores) >= wanted)  # type: ignore[misc]
    assert kills
    result = run_cli(*line("out.csv", "--resume"))
    assert result.exit_code == 0, result.stderr
    assert "[INFO] resumed: " in result.stderr
    assert files_of("out.csv", place) == files_of("whole.csv", place)


@unix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        ("csv", "zero"),
        ("csv", "mean"),
        ("npz", "mean"),
        ("json", "resample"),
        ("parquet", "resample"),
        ("npz", "noise"),
    ],
)
def test_kills_at_any_time_end_with_the_same_bytes(suffix: str, mode: str, place: Path, run_cli: Run) -> None:
    """Kills fall anywhere between the start of the process and its end, while files are put together included."""
    options = ("--mode", mode, "--seed", "4")
    begin = time.monotonic()
    with start(*line(f"whole.{suffix}", *options)) as process:
        process.communicate()
    lasts = time.monotonic() - begin
    assert process.returncode == 0
    chance = random.Random(f"{suffix} {mode}")
    for _ in range(6):
        end = time.monotonic() + chance.uniform(0, 1.2 * lasts)
        kill_when(start(*line(f"out.{suffix}", *options, "--resume")), lambda end=end: time.monotonic() > end)  # type: ignore[misc]
    assert run_cli(*line(f"out.{suffix}", *options, "--resume")).exit_code == 0
    assert files_of(f"out.{suffix}", place) == files_of(f"whole.{suffix}", place)
    assert sorted(path.name for path in place.iterdir()) == sorted(
        ["images.npz", "s.onnx", *(f"{stem}.{end}" for stem in ("out", "whole") for end in (suffix, "summary.json"))]
    )


@unix
def test_interrupted_run_says_how_to_go_on(place: Path, run_cli: Run) -> None:
    with np.load("images.npz") as arrays:
        longer = {name: np.tile(arrays[name], (3,) + (1,) * (arrays[name].ndim - 1)) for name in arrays.files}
    np.savez("images.npz", **longer)
    scores = place / "out.parquet.journal" / "scores.bin"
    process = start(*line("out.parquet", "--threads", "1"))
    with process:
        while process.poll() is None and not size_of(scores):
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert b"--resume goes on from there" in err
    assert not (place / "out.parquet").exists()
    refused = run_cli(*line("out.parquet"))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "go on with --resume" in refused.stderr
    assert run_cli(*line("out.parquet", "--resume")).exit_code == 0
    assert run_cli(*line("whole.parquet")).exit_code == 0
    assert files_of("out.parquet", place) == files_of("whole.parquet", place)


def test_chart_and_files_are_named(place: Path, run_cli: Run) -> None:
    result = run_cli(*line("out.json", "--max-images", "20", "--chart", "ablation.png"))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == [
        "[INFO] scores of 20 images and 3 tensors -> out.json",
        "[INFO] chart -> ablation.png",
    ]
    with Image.open("ablation.png") as picture:
        assert picture.size[0] == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--save", "out.txt"], "ends in .parquet, .csv, .json, .npz", id="format"),
        pytest.param(["--save", "nowhere/out.csv"], "existing folder", id="folder"),
        pytest.param(["--save", "images.npz"], "is the input itself", id="over-the-images"),
        pytest.param(["--resume"], "give --save FILE as before", id="resume-alone"),
        pytest.param(["--chart", "a.jpg"], "ends in .png", id="chart-format"),
        pytest.param(["--chart", "nowhere/a.png"], "existing folder", id="chart-folder"),
    ],
)
def test_bad_place_is_one_line_and_exit_code_2(options: list[str], message: str, place: Path, run_cli: Run) -> None:
    before = sorted(os.listdir(place))
    result = run_cli("ablate", "--model", "s.onnx", "--npz", "images.npz", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    errors = [text for text in result.stderr.splitlines() if text.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert sorted(os.listdir(place)) == before


def test_another_run_is_refused_in_one_line(place: Path, run_cli: Run) -> None:
    model = modelio.load("s.onnx")
    targets = select_targets(find_targets(model), TargetQuery(limit=3))
    calls = iter([False, False])
    ablate(
        model, npz_images(Path("images.npz")), targets, saving=Saving(Path("out.csv")), stop=lambda: next(calls, True)
    )
    result = run_cli(*line("out.csv", "--resume", "--ablation-value", "0.5"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "intervention.mode (zero before, scale now)" in result.stderr
