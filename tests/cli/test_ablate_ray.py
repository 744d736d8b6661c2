"""`pgc-graph ablate --engine ray`: the document of one machine, and errors of one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

RunCli = Callable[..., Result]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def study(repository: Path) -> list[str]:
    crops = repository / "models" / "crops"
    return ["ablate", "--model", str(repository / "models" / "pgc_s_32x32.onnx"), "--image-dir", str(crops)]


def test_document_is_that_of_one_machine(run_python: RunPython, study: list[str]) -> None:
    more = ["--topk-heatmaps", 0, "--max-images", 40, "--mode", "noise", "--json"]
    here = run_python("-m", "pgc_cli.main", *study, *more)
    there = run_python("-m", "pgc_cli.main", *study, *more, "--engine", "ray", "--threads", 1, "--shard-images", 32)
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert there.stderr.splitlines() == ["[INFO] provider: ray"]
    assert json.loads(there.stdout) == json.loads(here.stdout)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--address", "auto"], "--address has no meaning without --engine ray", id="address-alone"),
        pytest.param(["--shard-images", "8"], "--shard-images has no meaning without", id="shards-alone"),
        pytest.param(["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster answers at", id="nobody-there"),
        pytest.param(["--engine", "ray", "--address", "here"], "expected HOST:PORT", id="no-address"),
        pytest.param(["--engine", "ray", "--save", "s.csv"], "--save s.csv needs --engine local", id="save"),
        pytest.param(["--engine", "ray", "--provider", "cuda"], "expected provider auto or cpu", id="cuda"),
    ],
)
def test_options_that_make_no_sense_are_one_line(
    run_cli: RunCli, study: list[str], options: list[str], words: str
) -> None:
    result = run_cli(*study, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)


@pytest.mark.slow
def test_interrupt_prints_what_is_done(study: list[str], repository: Path, tmp_path: Path) -> None:
    crops = sorted((repository / "models" / "crops").rglob("*.png"))
    listed = tmp_path / "images.txt"
    listed.write_text("\n".join(str(crops[index % len(crops)]) for index in range(20_000)))
    command = [sys.executable, "-m", "pgc_cli.main", *study[:3], "--image-list", str(listed), "--max-images", "0"]
    command += ["--labels", "none", "--engine", "ray", "--threads", "1", "--shard-images", "8", "--topk-heatmaps", "0"]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path
    )
    assert started.stderr is not None
    assert started.stderr.readline() == "[INFO] provider: ray\n"
    time.sleep(0.5)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: everybody in the group hears of it
    out, error = started.communicate(timeout=60)
    assert started.returncode == 130
    assert error.startswith("interrupted: the figures cover ")
    covered = int(error.split()[4])
    assert 8 <= covered < 20_000
    assert f"Processed {covered} images." in out
