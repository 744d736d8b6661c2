"""Labelled crops: find them, split them by group, decode each once.

A crop's label is the nearest folder above it called `pointing` or `not_pointing`. Its group is what stands before the
first `_` of its file name (a person, a session): neighbours in a group are near copies, so a hold-out takes whole
groups.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import Preprocess, find_images, resize_image, to_tensor
from pgc_train.crops import LABELS, Crop
from pgc_train.tables import open_crops

__all__ = [
    "LABELS",
    "Crop",
    "CropPixels",
    "count_labels",
    "decode_for_inference",
    "decode_for_training",
    "find_crops",
    "fingerprint",
    "hold_out_groups",
    "label_crop",
    "read_splits",
]

logger = logging.getLogger(__name__)

_COLUMNS = ("image_path", "label", "source", "group", "split")


@dataclass(frozen=True, eq=False)
class CropPixels:
    """Decoded crops; crops that could not be read are left out.

    Attributes:
        crops: The crops that were read, in order.
        pixels: `(N, 3, S, S)`: uint8 for training, float32 as a model takes it for inference.
        labels: `(N,)` float32, 0 or 1.
        skipped: How many files could not be read.
    """

    crops: tuple[Crop, ...]
    pixels: NDArray[Any]
    labels: NDArray[np.float32]
    skipped: int


def find_crops(roots: Iterable[Path]) -> tuple[Crop, ...]:
    """Find labelled crops anywhere below some folders, in lexicographic order within each; a file counts once.

    Args:
        roots: Folders; images outside a `pointing` or `not_pointing` folder are ignored, with a warning.

    Raises:
        ImageError: A folder does not exist, holds no image, or holds none under a label folder.
    """
    found: dict[Path, Crop] = {}
    for root in roots:
        paths = find_images(root)
        crops = [crop for crop in (label_crop(path, root) for path in paths) if crop is not None]
        if not crops:
            raise ImageError(
                f"none of the {len(paths)} images in {root} lies in a folder called pointing or not_pointing; "
                "sort them into two such folders"
            )
        if len(crops) < len(paths):
            logger.warning("%d images in %s lie in no label folder and are ignored", len(paths) - len(crops), root)
        for crop in crops:
            found.setdefault(crop.path.resolve(), crop)
    return tuple(found.values())


def label_crop(path: Path, root: Path) -> Crop | None:
    """Label an image below a root by the nearest label folder above it; None where there is none."""
    absolute = path.resolve()
    for folder in absolute.parents:
        if folder.name in LABELS:
            source = folder.parent.name or root.name
            return Crop(path, LABELS.index(folder.name), source, f"{source}/{path.stem.partition('_')[0]}")
    return None


def read_splits(table: Path, split: str) -> tuple[Crop, ...]:
    """Read the rows of one split from a CSV with the columns image_path, label, source, group, split.

    Args:
        table: The file; paths in it are relative to its folder.
        split: The value of the `split` column to keep.

    Raises:
        OptionError: The file cannot be read, lacks a column or has an unknown label.
    """
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise OptionError(f"{table} has no column {missing[0]!r}; expected the columns {','.join(_COLUMNS)}")
            rows = [row for row in reader if row["split"] == split]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"cannot read {table}: {error}; expected a CSV of {','.join(_COLUMNS)}") from error
    return tuple(_row_to_crop(row, table) for row in rows)


def hold_out_groups(crops: Sequence[Crop], fraction: float, seed: int) -> tuple[tuple[Crop, ...], tuple[Crop, ...]]:
    """Split crops into training and validation by whole groups, so that near copies never stand on both sides.

    Groups are shuffled by `seed` and taken until each source has given about `fraction` of its crops of each class.

    Args:
        crops: The crops to split.
        fraction: Share of the crops to hold out, above 0 and below 1.
        seed: Which shuffle.

    Returns:
        Training crops and validation crops, both in the given order.

    Raises:
        OptionError: The fraction is out of range, or there are too few groups to split.
    """
    if not 0 < fraction < 1:
        raise OptionError(f"hold-out fraction {fraction} is impossible; expected a number between 0 and 1")
    generator = np.random.default_rng(seed)
    held: set[str] = set()
    for source in sorted({crop.source for crop in crops}):
        held |= _choose_groups([crop for crop in crops if crop.source == source], fraction, generator)
    training = tuple(crop for crop in crops if crop.group not in held)
    validation = tuple(crop for crop in crops if crop.group in held)
    if not training or not validation:
        groups = len({crop.group for crop in crops})
        raise OptionError(
            f"{groups} group(s) (file name before the first _) cannot be split into training and validation; "
            "give validation crops with --val-data"
        )
    return training, validation


def count_labels(crops: Sequence[Crop]) -> tuple[int, int]:
    """Count `not_pointing` and `pointing` crops."""
    positive = sum(crop.label for crop in crops)
    return len(crops) - positive, positive


def fingerprint(crops: Iterable[Crop]) -> str:
    """Digest file names, labels and order of crops, to tell whether two runs see the same data."""
    digest = hashlib.sha256()
    for crop in crops:
        digest.update(f"{crop.source}/{crop.path.name}={crop.label}\n".encode())
    return digest.hexdigest()[:16]


def decode_for_training(crops: Sequence[Crop], size: int) -> CropPixels:
    """Decode crops to uint8 `(N, 3, size, size)`; augmentation makes the model's input from them.

    Raises:
        ImageError: Not one of them can be read.
    """
    return _decode(crops, lambda image: resize_image(image, (size, size)).transpose(2, 0, 1))


def decode_for_inference(crops: Sequence[Crop], preprocess: Preprocess) -> CropPixels:
    """Decode crops to float32 `(N, 3, H, W)` exactly as every other command feeds a model.

    Raises:
        ImageError: Not one of them can be read.
    """
    return _decode(crops, lambda image: to_tensor(image, preprocess))


def _decode(crops: Sequence[Crop], convert: Callable[[NDArray[np.uint8]], NDArray[Any]]) -> CropPixels:
    rows: list[NDArray[Any]] = []
    good: list[Crop] = []
    for crop, load in open_crops(crops):
        try:
            rows.append(convert(load()))
            good.append(crop)
        except ImageError as error:
            logger.warning("skipped: %s", error)
    if not rows:
        raise ImageError(f"none of the {len(crops)} crops could be read; give readable images")
    labels = np.array([crop.label for crop in good], np.float32)
    return CropPixels(tuple(good), np.stack(rows), labels, len(crops) - len(good))


def _row_to_crop(row: dict[str, str], table: Path) -> Crop:
    if row["label"] not in LABELS:
        raise OptionError(
            f"{table} gives {row['image_path']} the label {row['label']!r}; expected {' or '.join(LABELS)}"
        )
    group = f"{row['source']}/{row['group']}"
    return Crop(table.parent / row["image_path"], LABELS.index(row["label"]), row["source"], group)


def _choose_groups(crops: Sequence[Crop], fraction: float, generator: np.random.Generator) -> set[str]:
    sizes: dict[str, NDArray[np.int64]] = {}
    for crop in crops:
        sizes.setdefault(crop.group, np.zeros(2, np.int64))[crop.label] += 1
    wanted = fraction * sum(sizes.values(), np.zeros(2, np.int64))
    taken, held = np.zeros(2, np.int64), set[str]()
    names = sorted(sizes)
    for name in (names[index] for index in generator.permutation(len(names))):
        # A group is worth taking while it brings either class closer to its share than it overshoots.
        if len(held) + 1 < len(names) and np.abs(taken + sizes[name] - wanted).sum() < np.abs(taken - wanted).sum():
            held.add(name)
            taken = taken + sizes[name]
    return held
