"""Keep the scores of a run: begin or go on, add batch after batch, and put the file together at the end."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pgc_graph.errors import OptionError
from pgc_graph.studies.ablation.reference import TensorStatistics
from pgc_graph.studies.ablation.saving.formats import FORMATS, write_table
from pgc_graph.studies.ablation.saving.identity import Identity, to_identity
from pgc_graph.studies.ablation.saving.journal import (
    HEADER,
    SCORES,
    STATISTICS,
    Journal,
    journal_folder,
    put,
    sync_folder,
)
from pgc_graph.studies.ablation.saving.record import Record

__all__ = ["Keeper", "Saving", "open_keeper", "summary_path"]


@dataclass(frozen=True)
class Saving:
    """Where scores go.

    Attributes:
        path: A file that ends in .parquet, .csv, .json or .npz; its summary goes beside it, to NAME.summary.json.
        resume: Whether to go on with a run that was killed or interrupted, if there is one.
        model_file: The file that the model came from, if it came from one and was not changed since.
    """

    path: Path
    resume: bool = False
    model_file: Path | None = None

    def check(self) -> None:
        """Find out before the work, not after it, that scores cannot be saved.

        Raises:
            OptionError: The format is unknown or needs a library that is missing; the folder does not exist; there is an
                unfinished run that is not to be resumed.
        """
        if self.path.suffix.lower() not in FORMATS:
            raise OptionError(f"cannot save to {self.path}; expected a name that ends in {', '.join(FORMATS)}")
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise OptionError(f"cannot save to {self.path}; choose a file in an existing folder")
        FORMATS[self.path.suffix.lower()].check()
        folder = journal_folder(self.path)
        if folder.exists() and not self.resume:
            raise OptionError(
                f"an unfinished run is in {folder}; go on with --resume, or remove the folder to begin anew"
            )


class Keeper:
    """Keeps the scores of one run."""

    def __init__(self, saving: Saving, identity: Identity) -> None:
        """Remember what is to be kept; nothing is written yet."""
        self.identity = identity
        self._target, self._folder = saving.path, journal_folder(saving.path)
        self._journal: Journal | None = None
        self.batches = 0

    def begin(self) -> None:
        """Open the journal, or make one.

        Raises:
            OptionError: The folder cannot be written, or another run is at it.
        """
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OptionError(f"cannot write {self._folder}: {error.strerror}; choose another place") from error
        self._journal = Journal(self._folder)
        if not (self._folder / HEADER).exists():
            put(self._folder / HEADER, _as_json(self.identity).encode())
            sync_folder(self._folder.absolute().parent)

    def replay(self) -> Iterator[Record]:
        """Yield what a run before this one has kept, in order; to be gone through before anything is added."""
        for record in self._opened.replay():
            self.batches += 1
            yield record

    def append(self, record: Record) -> None:
        """Keep the scores of the next batch.

        Raises:
            OptionError: The disk is full.
        """
        self._opened.append(record)
        self.batches += 1

    def finish(self, tensors: Sequence[str], summary: str) -> None:
        """Put the file and its summary together and remove the journal.

        Args:
            tensors: The gates, in the order of the scores.
            summary: What goes into the summary.

        Raises:
            OptionError: The disk is full, or the target cannot be replaced.
        """
        self._opened.sync()
        table, text = self._folder / f"table{self._target.suffix.lower()}", self._folder / "summary.json"
        try:
            write_table(self._opened.records, tensors, table)
            with table.open("rb") as written:
                os.fsync(written.fileno())
            put(text, summary.encode())
            os.replace(text, summary_path(self._target))
            os.replace(table, self._target)
            sync_folder(self._target.absolute().parent)
        except OSError as error:
            raise OptionError(
                f"cannot write {self._target}: {error.strerror}; make room, then go on with --resume"
            ) from error
        self._opened.close()
        # The header goes last: without it, what is left would not be known for what it is.
        for name in (SCORES, STATISTICS, HEADER):
            (self._folder / name).unlink(missing_ok=True)
        self._folder.rmdir()

    def close(self) -> None:
        """Let go of the journal; a run that has kept nothing leaves nothing behind."""
        if self._journal is None:
            return
        self._journal.close()
        if not self.batches and self._folder.exists() and not (self._folder / STATISTICS).exists():
            for path in sorted(self._folder.iterdir()):
                path.unlink()
            self._folder.rmdir()

    def statistics(self) -> tuple[TensorStatistics, ...]:
        """Return what a run before this one kept of the images; nothing if it kept nothing."""
        path = self._folder / STATISTICS
        if not path.exists():
            return ()
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(
                TensorStatistics(
                    arrays[f"mean{index}"],
                    arrays[f"std{index}"],
                    tuple(arrays[f"shape{index}"].tolist()),
                    np.dtype(str(arrays[f"dtype{index}"])),
                )
                for index in range(len(arrays.files) // 4)
            )

    def keep_statistics(self, statistics: Sequence[TensorStatistics]) -> None:
        """Keep what the intervention has to know of the images.

        Raises:
            OptionError: The disk is full.
        """
        arrays: dict[str, Any] = {}
        for index, one in enumerate(statistics):
            parts = {"mean": one.mean, "std": one.std, "shape": np.array(one.shape, np.int64), "dtype": one.dtype.str}
            arrays.update({f"{name}{index}": np.asarray(part) for name, part in parts.items()})
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        put(self._folder / STATISTICS, stream.getvalue())

    @property
    def _opened(self) -> Journal:
        if self._journal is None:
            raise AssertionError("the journal has not been opened")
        return self._journal


def open_keeper(saving: Saving, identity: Identity) -> Keeper:
    """Find out whether there is a run to go on with, and whether it is the same.

    Raises:
        OptionError: As for `Saving.check`, or the unfinished run is another one, and in what.
    """
    saving.check()
    header = journal_folder(saving.path) / HEADER
    if header.exists():
        try:
            before = to_identity(json.loads(header.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise OptionError(f"cannot read {header}: {error}; remove the folder to begin anew") from error
        differences = identity.differences(before)
        if differences:
            raise OptionError(
                f"cannot go on with the run in {header.parent}: it differs in {'; '.join(differences)}; "
                "run what was run before, or remove the folder to begin anew"
            )
    return Keeper(saving, identity)


def summary_path(target: Path) -> Path:
    """Return where the summary of a file of scores goes."""
    return target.with_name(f"{target.stem}.summary.json")


def _as_json(identity: Identity) -> str:
    return json.dumps(dataclasses.asdict(identity), indent=1)
