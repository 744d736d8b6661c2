"""What all tests share: models to try, photographs, and ways to call the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

if TYPE_CHECKING:
    import onnx_ir as ir

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PGC_GRAPH_SHARED", REPOSITORY.parent / "shared"))
CORPUS_NAMES = (
    "resnet20_cifar10",
    "resnet20_cifar10_dynamo",
    "mnasnet_small",
    "sqnxt23_w1",
    "dla46c",
    "efficientnet_b0",
)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def corpus_names() -> tuple[str, ...]:
    """Names for `corpus_model`."""
    return CORPUS_NAMES


@pytest.fixture(scope="session")
def corpus_model() -> Callable[[str], Path]:
    """The file of a public architecture, exported from torch; skips the test where it is not there."""

    def find(name: str) -> Path:
        path = SHARED / "corpus" / f"{name}.onnx"
        if not path.is_file():
            pytest.skip(f"needs {name}.onnx in the corpus folder of PGC_GRAPH_SHARED (looked in {SHARED})")
        return path

    return find


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photographs of hands; skips the test where it is not there."""
    path = SHARED / "data"
    if not path.is_dir():
        pytest.skip(f"needs photographs in the data folder of PGC_GRAPH_SHARED (looked in {SHARED})")
    return path


@pytest.fixture(scope="session")
def pgc_model() -> Callable[[str], ir.Model]:
    """A PGC model by variant that behaves like a trained one (see `calibrated`); a fresh one each call."""
    from calibrated import calibrated_pgc

    return calibrated_pgc


@pytest.fixture
def runner() -> CliRunner:
    """Click's runner; `result.stdout` and `result.stderr` are apart."""
    return CliRunner()


@pytest.fixture
def run_cli(runner: CliRunner) -> Callable[..., Result]:
    """Call `pgc-graph` in this process; an exception that is not meant for users fails the test."""

    def run(*args: object) -> Result:
        from pgc_cli.main import cli

        return runner.invoke(cli, [str(arg) for arg in args], catch_exceptions=False)

    return run


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run this Python in a process of its own: `run_python("-c", code)` or `run_python("-m", "pgc_cli.main", ...)`."""

    def run(*args: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=tmp_path, check=False)

    return run
