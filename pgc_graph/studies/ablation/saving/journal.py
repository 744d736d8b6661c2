"""A folder in which a run keeps what it has done: nothing in it is ever changed, only added to.

`header.json`     what the run is, written before anything else
`statistics.npz`  what the intervention had to know of the images beforehand
`scores.bin`      the scores, batch after batch (`record.py`); what was being written when the power went is cut off
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pgc_graph.errors import OptionError
from pgc_graph.studies.ablation.saving.record import Record, read_frames, to_frame

__all__ = ["Journal", "journal_folder", "put", "sync_folder"]

HEADER, STATISTICS, SCORES = "header.json", "statistics.npz", "scores.bin"

_SYNC_S = 1.0  # at most so much work is lost when the power goes; a killed process loses only the batch in hand


class Journal:
    """The scores of a run on disk, open for more."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, which has a header.

        Raises:
            OptionError: It cannot be written, or another run is at it.
        """
        self.folder = folder
        with _writing(folder):
            self._file: IO[bytes] = (folder / SCORES).open("ab", buffering=0)
        try:
            _lock(self._file, folder)
        except OptionError:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def replay(self) -> Iterator[Record]:
        """Yield what is there, and cut off what was not written to its end."""
        end = 0
        for record, after in self._frames():
            yield record
            end = after
        with _writing(self.folder):
            self._file.truncate(end)

    def records(self) -> Iterator[Record]:
        """Yield what is there."""
        return (record for record, _ in self._frames())

    def append(self, record: Record) -> None:
        """Add a record; once this returns, it outlasts the process.

        Raises:
            OptionError: The disk is full.
        """
        with _writing(self.folder):
            frame = memoryview(to_frame(record))
            while frame:
                frame = frame[self._file.write(frame) :]
        if time.monotonic() - self._synced > _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Bring everything to the disk.

        Raises:
            OptionError: The disk is full.
        """
        with _writing(self.folder):
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Bring everything to the disk and let go of the folder."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()

    def _frames(self) -> Iterator[tuple[Record, int]]:
        path = self.folder / SCORES
        with path.open("rb") as file:
            yield from read_frames(file, path.stat().st_size)


def journal_folder(target: Path) -> Path:
    """Return the folder beside a file in which the run that makes it keeps what it has done."""
    return target.parent / f"{target.name}.journal"


def put(path: Path, data: bytes) -> None:
    """Write a file of a journal, all or nothing, and for good.

    Raises:
        OptionError: The folder cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.new")
    with _writing(path.parent):
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder's files to the disk, where the system can do that."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OptionError(
            f"cannot write {folder}: {error.strerror}; make room or choose another place, then go on with --resume"
        ) from error


def _lock(file: IO[bytes], folder: Path) -> None:
    """See that no other process writes; the system lets go when this one ends, however it ends."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OptionError(f"another run is at {folder}; wait for it or choose another file to save to") from error
