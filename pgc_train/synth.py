"""Labelled hand crops, drawn procedurally: no photographs, no downloads, no torch.

`pointing` is the index finger alone; every other pose, and crops without a hand, are `not_pointing`. Index and thumb
together are ambiguous and never drawn.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pgc_graph.errors import OptionError
from pgc_train.hand.crop import LABELS, DrawnCrop, check_size, draw_labelled_crop

__all__ = ["LABELS", "DrawnCrop", "SynthReport", "draw_crop", "draw_labelled_crop", "write_crops"]


@dataclass(frozen=True)
class SynthReport:
    """What was written.

    Attributes:
        root: The folder.
        pointing: Crops in its `pointing/`.
        not_pointing: Crops in its `not_pointing/`.
        poses: Crops by pose.
        size: Side of the crops in pixels.
        seed: Of the whole set.
    """

    root: Path
    pointing: int
    not_pointing: int
    poses: dict[str, int]
    size: int
    seed: int


def draw_crop(rng: np.random.Generator, *, pointing: bool, size: int = 96) -> Image.Image:
    """Draw one RGB crop of size x size pixels.

    Raises:
        OptionError: The size is too small.
    """
    return draw_labelled_crop(rng, pointing=pointing, size=size).image


def write_crops(
    root: Path,
    *,
    count: int,
    seed: int,
    size: int = 96,
    pointing_fraction: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> SynthReport:
    """Draw crops into `root/pointing/` and `root/not_pointing/`.

    Each crop has a generator of its own, from the seed and its number: the first crops of a larger set are the smaller set.

    Args:
        root: Folder to write; it must be empty or missing.
        count: How many crops.
        seed: Of the whole set.
        size: Side in pixels.
        pointing_fraction: Share of pointing crops, spread evenly over the numbers.
        progress: Called with the number of crops done and `count`.
        overwrite: Write into a folder that is not empty; crops drawn earlier go, other files stay.

    Returns:
        What was written.

    Raises:
        OptionError: A number makes no sense, or the folder is not empty.
    """
    _check_request(root, count, seed, size, pointing_fraction, overwrite)
    _prepare_folders(root)
    poses: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for index in range(count):
        pointing = int((index + 1) * pointing_fraction) > int(index * pointing_fraction)
        rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
        crop = draw_labelled_crop(rng, pointing=pointing, size=size)
        _write_png(root / crop.label / f"synth{index:06d}_{crop.pose}.png", crop.image)
        poses[crop.pose] += 1
        labels[crop.label] += 1
        if progress is not None:
            progress(index + 1, count)
    return SynthReport(root, labels["pointing"], labels["not_pointing"], dict(sorted(poses.items())), size, seed)


def _check_request(root: Path, count: int, seed: int, size: int, pointing_fraction: float, overwrite: bool) -> None:
    """Refuse what cannot be done before anything is touched."""
    if count < 1:
        raise OptionError(f"crop count {count} is not positive; expected at least 1; give a larger --count")
    check_size(size)
    if seed < 0:
        raise OptionError(f"seed {seed} is negative; expected 0 or more; give another --seed")
    if not 0.0 <= pointing_fraction <= 1.0:
        raise OptionError(f"pointing fraction {pointing_fraction} is outside of 0 to 1; give a share of the crops")
    if root.exists() and not root.is_dir():
        raise OptionError(f"{root} is a file; expected a folder to write crops into; give another folder")
    if root.is_dir() and any(root.iterdir()) and not overwrite:
        raise OptionError(f"{root} is not empty; expected an empty or missing folder; give another or pass --overwrite")


def _prepare_folders(root: Path) -> None:
    """Make the label folders and clear them of crops drawn earlier."""
    try:
        for label in LABELS:
            (root / label).mkdir(parents=True, exist_ok=True)
            for old in (root / label).glob("synth[0-9]*.png"):
                old.unlink()
    except OSError as error:
        raise OptionError(f"{root} cannot be written ({error}); expected a writable folder; give another") from error


def _write_png(path: Path, image: Image.Image) -> None:
    """Write a whole file or none."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_bytes(stream.getvalue())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
