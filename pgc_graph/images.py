"""Find, decode, resize and normalise images: one preprocessing for training, ablation, heatmaps and the demo."""

from __future__ import annotations

import io
import itertools
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pgc_graph.errors import ImageError
from pgc_graph.preprocess import Preprocess, preprocess_from_metadata

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageBatch",
    "Preprocess",
    "SkippedImage",
    "decode_image",
    "find_images",
    "load_image",
    "preprocess_from_metadata",
    "read_batches",
    "resize_image",
    "to_tensor",
    "walk_images",
]

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Some images, ready for a model.

    Attributes:
        paths: The files that were read, in order.
        tensor: `(N, C, H, W)` or `(N, H, W, C)` float32, normalised.
        skipped: The files between them that could not be read.
        positions: `(N,)` int64, where the images stand among all, if anybody knows.
        labels: What the images are labelled as where they come from, an empty text for nothing; empty if nobody knows.
    """

    paths: tuple[Path, ...]
    tensor: NDArray[np.float32]
    skipped: tuple[SkippedImage, ...]
    positions: NDArray[np.int64] | None = None
    labels: tuple[str, ...] = ()


def find_images(folder: Path, *, limit: int | None = None) -> tuple[Path, ...]:
    """List the images under a folder, recursively, in lexicographic order of their paths.

    Args:
        folder: Where to look, for png, jpg, jpeg, bmp and webp files.
        limit: Keep only the first so many.

    Raises:
        ImageError: The folder does not exist or holds no image.
    """
    paths = tuple(itertools.islice(walk_images(folder), limit))
    if not paths:
        raise ImageError(f"no images in {folder}; expected png, jpg, jpeg, bmp or webp files in it or below")
    return paths


def walk_images(folder: Path) -> Iterator[Path]:
    """Yield the images under a folder one by one, in the order of `find_images`; links to folders are not followed.

    Raises:
        ImageError: The folder does not exist.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ImageError(f"image folder {folder} {what}; give a folder of images")
    yield from _walk(folder)


def _walk(folder: Path) -> Iterator[Path]:
    folders: set[str] = set()
    names: list[str] = []  # names alone: a folder may hold a million files
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
                elif os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES or not entry.is_file():
                    continue
                names.append(entry.name)
    except PermissionError as error:
        logger.warning("skipped folder %s: %s", folder, error.strerror)
        return
    names.sort()
    for name in names:
        if name in folders:
            yield from _walk(folder / name)
        else:
            yield folder / name


def load_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image file, upright by its EXIF orientation.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        ImageError: The file is missing, unreadable, truncated, too large or not an image.
    """
    return _decode(path, path)


def decode_image(data: bytes, name: Path) -> NDArray[np.uint8]:
    """Decode an image file that has been read; as for `load_image`.

    Args:
        data: What the file holds.
        name: What it is called where it cannot be decoded.

    Raises:
        ImageError: It is truncated, too large or not an image.
    """
    return _decode(io.BytesIO(data), name)


def _decode(file: Path | io.BytesIO, path: Path) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                ImageOps.exif_transpose(image, in_place=True)  # else it copies images that are upright
                return np.asarray(image if image.mode == "RGB" else _to_rgb(image))
    except FileNotFoundError as error:
        raise ImageError(f"image not found: {path}; check the path") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image that can be read; expected png, jpg, bmp or webp") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(f"image {path} is too large: {error}; make it smaller or remove it") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        # Pillow's decoders report damaged data through all of these types.
        raise ImageError(f"cannot read image {path}: {error}; replace or remove it") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits of gray, which Pillow would clip at 255 instead of scaling.
        gray = np.clip(np.asarray(image, np.float64) / 257 + 0.5, 0, 255)
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize `(H, W, 3)` uint8 to `size` (height, width), bilinear with antialiasing when shrinking."""
    if image.shape[:2] == size:
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def to_tensor(image: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """Turn an `(H, W, 3)` uint8 RGB image of any size into one row of a model's input.

    Returns:
        `(3, H, W)` or `(H, W, 3)` float32 of the size and layout that `preprocess` names.
    """
    normalised = resize_image(image, preprocess.size).astype(np.float32)
    if not preprocess.pixels:
        normalised /= np.float32(255.0)
        normalised -= np.asarray(preprocess.mean, np.float32)
        normalised /= np.asarray(preprocess.std, np.float32)
    if preprocess.channel_order == "BGR":
        normalised = normalised[..., ::-1]
    return np.ascontiguousarray(normalised.transpose(2, 0, 1) if preprocess.layout == "NCHW" else normalised)


def read_batches(paths: Sequence[Path], preprocess: Preprocess, *, batch_size: int = 8) -> Iterator[ImageBatch]:
    """Read images in order, a batch at a time; files that cannot be read are skipped, logged and counted.

    Args:
        paths: The files to read.
        preprocess: Size, normalisation and layout.
        batch_size: Files a batch; a batch has fewer rows where files were skipped, and none where all were.

    Yields:
        Batches, in order.

    Raises:
        ImageError: Not a single file could be read.
    """
    read = 0
    for start in range(0, len(paths), batch_size):
        batch = _read_batch(paths[start : start + batch_size], preprocess)
        read += len(batch.paths)
        yield batch
    if not read:
        raise ImageError(
            f"none of the {len(paths)} images could be read (first: {paths[0] if paths else 'none given'})"
        )


def _read_batch(paths: Sequence[Path], preprocess: Preprocess) -> ImageBatch:
    rows: list[NDArray[np.float32]] = []
    good: list[Path] = []
    skipped: list[SkippedImage] = []
    for path in paths:
        try:
            rows.append(to_tensor(load_image(path), preprocess))
            good.append(path)
        except ImageError as error:
            logger.warning("skipped: %s", error)
            skipped.append(SkippedImage(path, str(error)))
    height, width = preprocess.size
    shape = (3, height, width) if preprocess.layout == "NCHW" else (height, width, 3)
    tensor = np.stack(rows) if rows else np.zeros((0, *shape), np.float32)
    return ImageBatch(tuple(good), tensor, tuple(skipped))
