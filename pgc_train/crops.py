"""What a labelled crop is: a file, or a row of a Parquet file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["LABELS", "Crop"]

LABELS = ("not_pointing", "pointing")
"""Folder names; the position is the class."""


@dataclass(frozen=True)
class Crop:
    """One labelled image.

    Attributes:
        path: The file, or what it was called before it went into a table.
        label: 1 = pointing, 0 = not_pointing.
        source: The data set it comes from.
        group: Who or which session, unique across sources.
        table: The Parquet file that holds the image itself; None = it is a file.
        row: Which row of it, from 0.
    """

    path: Path
    label: int
    source: str
    group: str
    table: Path | None = None
    row: int = 0
