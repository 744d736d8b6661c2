"""Put labelled crops into one Parquet file, split by group and by class.

The crops are walked twice: once for their classes and groups, which take nine bytes each, once to be written. So
memory does not grow with the number of crops beyond that.
"""

from __future__ import annotations

import csv
import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.files import atomic_path
from pgc_graph.images import decode_image, walk_images
from pgc_graph.sources.parquet_writer import ParquetRow, write_parquet
from pgc_train.assign import assign_groups, compile_group, group_key, name_group
from pgc_train.crops import LABELS, Crop
from pgc_train.data import label_crop

__all__ = ["DatasetQuery", "DatasetReport", "walk_crops", "write_dataset"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetQuery:
    """What goes into a Parquet file.

    Attributes:
        inputs: Folders with `pointing` and `not_pointing` somewhere below them, and CSV files with the columns
            image_path and label (source, group and split may be there), paths relative to the CSV's folder.
        validation_fraction: Share of the split `val`.
        test_fraction: Share of the split `test`.
        group: A regular expression on the path; None = a table's group, or the file name before the first `_`.
        embed: Whether the image files themselves go into the table.
        seed: Which groups go where.
    """

    inputs: tuple[Path, ...]
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    group: str | None = None
    embed: bool = False
    seed: int = 0


@dataclass(frozen=True)
class DatasetReport:
    """What was written.

    Attributes:
        rows: Crops in the table.
        groups: Groups among all crops.
        splits: Per split the counts of not_pointing and pointing crops.
        sources: The same per source.
        skipped: Files that are missing or cannot be decoded.
    """

    rows: int
    groups: int
    splits: dict[str, tuple[int, int]]
    sources: dict[str, tuple[int, int]]
    skipped: int


def write_dataset(
    query: DatasetQuery, path: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> DatasetReport:
    """Write crops to a Parquet file: split, label, class_id, image_path, source, group and, if asked, image_bytes.

    A crop whose table names its split keeps it; the others are split by `assign_groups`.

    Args:
        query: Which crops, and how they are split.
        path: The file to write.
        progress: Called with (crops done, crops in all).

    Raises:
        ImageError: A folder does not exist, or there is no labelled crop that can be read.
        OptionError: A table is wrong, shares are impossible, or a group would lie in two splits.
    """
    names, places, groups = _plan(query)
    counts: Counter[tuple[str, int]] = Counter()
    sources: Counter[tuple[str, int]] = Counter()
    base = Path(os.path.abspath(path.parent))
    with atomic_path(path) as temporary, write_parquet(temporary, embed=query.embed) as table:
        for done, ((crop, _), place) in enumerate(_pairs(walk_crops(query), places)):
            split = names[place]
            try:
                table.add(_row(crop, split, base, embed=query.embed))
                counts[split, crop.label] += 1
                sources[crop.source, crop.label] += 1
            except ImageError as error:
                logger.warning("skipped: %s", error)
            progress(done + 1, len(places))
        if not counts:
            raise ImageError(f"none of the {len(places)} crops could be read; give readable images")
    rows = counts.total()
    return DatasetReport(rows, groups, _by_name(counts, names), _by_name(sources), len(places) - rows)


def walk_crops(query: DatasetQuery) -> Iterator[tuple[Crop, str]]:
    """Yield crops one by one, in a fixed order, each with the split its table names or an empty text.

    Raises:
        ImageError: A folder does not exist or holds no labelled image.
        OptionError: A table is wrong, folders overlap, or the group expression does not fit a path.
    """
    pattern = compile_group(query.group)
    _check_overlap(query.inputs)
    for root in query.inputs:
        for crop, split in _walk_table(root) if root.suffix.lower() == ".csv" else _walk_folder(root):
            if pattern is None:
                yield crop, split
            else:
                yield Crop(crop.path, crop.label, crop.source, name_group(pattern, crop.path)), split


def _plan(query: DatasetQuery) -> tuple[list[str], NDArray[np.uint8], int]:
    fractions = {
        "train": 1.0 - query.validation_fraction - query.test_fraction,
        "val": query.validation_fraction,
        "test": query.test_fraction,
    }
    names = list(fractions)
    keys, labels, given = array("Q"), array("B"), array("b")
    for crop, split in walk_crops(query):
        if split and split not in names:
            names.append(split)
        keys.append(group_key(crop.group))
        labels.append(crop.label)
        given.append(names.index(split) if split else -1)
    groups, places = np.frombuffer(keys, np.uint64), np.frombuffer(given, np.int8).astype(np.uint8)
    free = np.frombuffer(given, np.int8) < 0
    if free.any():
        places[free] = assign_groups(groups[free], np.frombuffer(labels, np.uint8)[free], fractions, query.seed)
    _check_apart(groups, places, names)
    return names, places, len(np.unique(groups))


def _check_apart(groups: NDArray[np.uint64], places: NDArray[np.uint8], names: Sequence[str]) -> None:
    pairs = np.unique(np.stack([groups, places.astype(np.uint64)], axis=1), axis=0)
    torn = np.flatnonzero(pairs[1:, 0] == pairs[:-1, 0])
    if torn.size:
        first, second = (names[int(pairs[torn[0] + step, 1])] for step in (0, 1))
        raise OptionError(
            f"{torn.size} group(s) stand in two splits of the tables (one in {first} and {second}); "
            "give one split a group, or leave the column split out"
        )


def _pairs(crops: Iterator[tuple[Crop, str]], places: NDArray[np.uint8]) -> Iterator[tuple[tuple[Crop, str], int]]:
    try:
        yield from zip(crops, (int(place) for place in places), strict=True)
    except ValueError as error:
        raise ImageError("the image files changed while they were being read; try again") from error


def _walk_folder(root: Path) -> Iterator[tuple[Crop, str]]:
    found = ignored = 0
    for path in walk_images(root):
        crop = label_crop(path, root)
        if crop is None:
            ignored += 1
            continue
        found += 1
        yield crop, ""
    if not found:
        raise ImageError(
            f"none of the {ignored} images in {root} lies in a folder called pointing or not_pointing; "
            "sort them into two such folders"
        )
    if ignored:
        logger.info("%d images in %s lie in no label folder and are ignored", ignored, root)


def _walk_table(table: Path) -> Iterator[tuple[Crop, str]]:
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in ("image_path", "label") if name not in (reader.fieldnames or ())]
            if missing:
                raise OptionError(f"{table} has no column {missing[0]!r}; expected at least image_path,label")
            for row in reader:
                yield _table_crop(row, table), row.get("split") or ""
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"cannot read {table}: {error}; expected a CSV of image_path,label") from error


def _table_crop(row: dict[str, str], table: Path) -> Crop:
    if row["label"] not in LABELS:
        raise OptionError(
            f"{table} gives {row['image_path']} the label {row['label']!r}; expected {' or '.join(LABELS)}"
        )
    path = table.parent / row["image_path"]
    source = row.get("source") or table.resolve().parent.name
    group = row.get("group") or path.stem.partition("_")[0]
    return Crop(path, LABELS.index(row["label"]), source, f"{source}/{group}")


def _check_overlap(inputs: Sequence[Path]) -> None:
    folders = [root.resolve() for root in inputs]
    for index, folder in enumerate(folders):
        others = folders[:index] + folders[index + 1 :]
        if any(folder == other or folder.is_relative_to(other) for other in others):
            raise OptionError(f"{inputs[index]} lies in another of the inputs; name every folder and table once")


def _row(crop: Crop, split: str, base: Path, *, embed: bool) -> ParquetRow:
    data = None
    if embed:
        try:
            data = crop.path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read image {crop.path}: {error.strerror}; check the path") from error
        decode_image(data, crop.path)
    elif not crop.path.is_file():
        raise ImageError(f"image not found: {crop.path}; check the path")
    path = Path(os.path.relpath(os.path.abspath(crop.path), base)).as_posix()
    return ParquetRow(split, LABELS[crop.label], crop.label, path, crop.source, crop.group, data)


def _by_name(counts: Counter[tuple[str, int]], order: Sequence[str] = ()) -> dict[str, tuple[int, int]]:
    found = {name for name, _ in counts}
    names = [name for name in order if name in found] if order else sorted(found)
    return {name: (counts[name, 0], counts[name, 1]) for name in names}
