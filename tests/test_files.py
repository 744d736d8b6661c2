"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from pgc_graph.errors import OptionError
from pgc_graph.files import atomic_path, write_text


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Δ → ü\n")
    assert (tmp_path / "a.txt").read_bytes() == "Δ → ü\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old and longer")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_the_target_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"data")
        assert not target.exists()
    assert target.read_bytes() == b"data"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError], ids=lambda error: error.__name__)
def test_a_failure_leaves_the_target_alone(error: type[BaseException], tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("precious")

    def fail_halfway() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail_halfway()
    assert target.read_text() == "precious"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are those of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)], ids=["022", "077"])
def test_permissions_follow_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("nowhere/a.txt", "No such file", id="no-such-folder"),
        pytest.param("", "is a folder", id="a-folder"),
        pytest.param("file/a.txt", "Not a directory", id="below-a-file"),
        pytest.param("x" * 300, "too long", id="long-name"),
    ],
)
def test_a_path_that_cannot_be_written_is_an_option_error(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=message) as caught:
        write_text(tmp_path / name, "text")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX resource limits")
def test_a_full_disk_is_an_option_error(run_python: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    code = (
        "import resource, pathlib\n"
        "from pgc_graph.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(pathlib.Path('a.txt'), 'x' * 5000)\n"
    )
    result = run_python("-c", code)
    assert result.stderr.splitlines()[-1].startswith("pgc_graph.errors.OptionError: cannot write a.txt: File too large")
    assert os.listdir(tmp_path) == []
