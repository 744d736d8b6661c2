"""Crops in Parquet files, as `pgc-train to-parquet` writes them, with or without the images themselves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError
from pgc_graph.images import load_image
from pgc_graph.sources import parquet_images, parquet_rows
from pgc_train.crops import LABELS, Crop

__all__ = ["is_table", "open_crops", "read_table", "split_roots"]

_NEEDED = ("image_path", "label")
_OPTIONAL = ("split", "source", "group")


def is_table(path: Path) -> bool:
    """Tell whether a path means a Parquet file of crops."""
    return path.suffix.lower() == ".parquet"


def split_roots(roots: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Part folders from Parquet files, each in the given order."""
    paths = tuple(roots)
    return tuple(path for path in paths if not is_table(path)), tuple(path for path in paths if is_table(path))


def read_table(table: Path, split: str | None) -> tuple[Crop, ...]:
    """List the crops of one split of a Parquet file.

    Args:
        table: The file, with columns image_path and label; split, source, group and image_bytes may be missing. Paths
            are relative to its folder.
        split: The value of the column `split` to keep; None = all rows.

    Raises:
        ImageError: The file cannot be read or lacks a column.
        OptionError: A label is unknown, or a split is asked for and there is no such column.
    """
    columns, rows = parquet_rows(table, _NEEDED, _OPTIONAL)
    if split is not None and "split" not in columns:
        raise OptionError(
            f"{table} has no column split (found {', '.join(columns)}); write it with pgc-train to-parquet"
        )
    holder = table if "image_bytes" in columns else None
    crops = []
    for index, row in enumerate(rows):
        if split is not None and row["split"] != split:
            continue
        if row["label"] not in LABELS:
            raise OptionError(
                f"{table} gives {row['image_path']} the label {row['label']!r}; expected {' or '.join(LABELS)}"
            )
        path = table.parent / row["image_path"]
        source = row.get("source") or table.stem
        group = row.get("group") or f"{source}/{path.stem.partition('_')[0]}"
        crops.append(Crop(path, LABELS.index(row["label"]), source, group, holder, index if holder else 0))
    return tuple(crops)


def open_crops(crops: Sequence[Crop]) -> Iterator[tuple[Crop, Callable[[], NDArray[np.uint8]]]]:
    """Yield crops, each with a function that decodes it to `(H, W, 3)` uint8 RGB, in order.

    Rows of a Parquet file are read a few at a time.

    Raises:
        ImageError: A Parquet file cannot be read; the function, where the image cannot be decoded.
    """
    for table, run in itertools.groupby(crops, key=lambda crop: crop.table):
        if table is None:
            yield from ((crop, _file_loader(crop.path)) for crop in run)
        else:
            yield from _open_rows(table, tuple(run))


def _open_rows(table: Path, crops: tuple[Crop, ...]) -> Iterator[tuple[Crop, Callable[[], NDArray[np.uint8]]]]:
    source = parquet_images(table)
    for stretch in _ascending(crops):
        entries = source.read([crop.row for crop in stretch])
        for crop, entry in zip(stretch, entries, strict=True):
            yield crop, lambda load=entry.load: np.asarray(load(), np.uint8)  # type: ignore[misc]


def _ascending(crops: tuple[Crop, ...]) -> Iterator[list[Crop]]:
    stretch: list[Crop] = []
    for crop in crops:
        if stretch and crop.row <= stretch[-1].row:
            yield stretch
            stretch = []
        stretch.append(crop)
    yield stretch


def _file_loader(path: Path) -> Callable[[], NDArray[np.uint8]]:
    return lambda: load_image(path)
