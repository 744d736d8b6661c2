"""Progress: a bar with rate and time left on a terminal, nothing at all elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")

CODE = """
import time
from pgc_cli.progress import progress_bar
with progress_bar("work") as advance:
    advance(500, 1000)
    for done in range(510, 601, 10):
        time.sleep(0.05)
        advance(done, 1000)
"""


def shown_on_a_terminal() -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen([sys.executable, "-c", CODE], stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end has closed
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_terminal_shows_count_rate_and_time_left() -> None:
    shown = shown_on_a_terminal()
    assert "600/1000" in shown
    rates = [float(word[:-2].replace(",", "")) for word in shown.split() if word.endswith("/s") and word[0].isdigit()]
    assert rates
    assert max(rates) < 400  # what was done before the bar began is left out of it: 100 in half a second at most
    assert "0:00:0" in shown


def test_pipe_shows_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
