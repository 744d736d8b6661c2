"""Find, decode, resize and normalise images: one preprocessing for training, ablation, heatmaps and the demo."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pgc_graph.errors import ImageError, OptionError

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageBatch",
    "Preprocess",
    "SkippedImage",
    "find_images",
    "load_image",
    "preprocess_from_metadata",
    "read_batches",
    "resize_image",
    "to_tensor",
]

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a model's input: resize (bilinear), scale to [0, 1], subtract mean, divide by std.

    Attributes:
        size: Height and width in pixels.
        mean: Per channel, in units of [0, 1], in RGB order.
        std: Per channel, in units of [0, 1], in RGB order.
        layout: `NCHW` or `NHWC`.
        channel_order: `RGB` or `BGR`.
    """

    size: tuple[int, int] = (32, 32)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    layout: str = "NCHW"
    channel_order: str = "RGB"

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise OptionError(f"input size {self.size[0]}x{self.size[1]} is impossible; expected at least 1x1")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, (*self.mean, *self.std))):
            raise OptionError(f"mean {self.mean} and std {self.std} must be three finite numbers each (R, G, B)")
        if min(self.std) <= 0:
            raise OptionError(f"std {self.std} would divide by zero or flip signs; expected three numbers above 0")
        if self.layout not in ("NCHW", "NHWC"):
            raise OptionError(f"unknown layout {self.layout!r}; expected NCHW or NHWC")
        if self.channel_order not in ("RGB", "BGR"):
            raise OptionError(f"unknown channel order {self.channel_order!r}; expected RGB or BGR")


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
    """

    paths: tuple[Path, ...]
    tensor: NDArray[np.float32]
    skipped: tuple[SkippedImage, ...]


def find_images(folder: Path, *, limit: int | None = None) -> tuple[Path, ...]:
    """List the images under a folder, recursively, in lexicographic order of their paths.

    Args:
        folder: Where to look, for png, jpg, jpeg, bmp and webp files.
        limit: Keep only the first so many.

    Raises:
        ImageError: The folder does not exist or holds no image.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ImageError(f"image folder {folder} {what}; give a folder of images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise ImageError(f"no images in {folder}; expected png, jpg, jpeg, bmp or webp files in it or below")
    return tuple(paths if limit is None else paths[:limit])


def load_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image, upright by its EXIF orientation.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        ImageError: The file is missing, unreadable, truncated, too large or not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
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
    scaled = resize_image(image, preprocess.size).astype(np.float32) / np.float32(255.0)
    normalised = (scaled - np.asarray(preprocess.mean, np.float32)) / np.asarray(preprocess.std, np.float32)
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


def preprocess_from_metadata(
    metadata: Mapping[str, str],
    input_shape: Sequence[int | None],
    *,
    size: tuple[int, int] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> Preprocess:
    """Decide how to feed images to a model: given options win over its metadata, which wins over its input's shape.

    Args:
        metadata: The model's `metadata_props` (`pgc.image_size`, `pgc.mean`, `pgc.std`, `pgc.layout`, `pgc.channel_order`).
        input_shape: The image input's four dimensions, None where symbolic.
        size: Height and width to use whatever the model says.
        mean: Mean to use whatever the model says.
        std: Standard deviation to use whatever the model says.

    Raises:
        OptionError: The input is not an RGB image batch, a size contradicts a fixed input, or metadata cannot be read.
    """
    seen = _layout_from_shape(input_shape) if len(input_shape) != 4 or "pgc.layout" not in metadata else ""
    layout = metadata.get("pgc.layout") or seen
    rows, columns = (2, 3) if layout == "NCHW" else (1, 2)
    fixed = (input_shape[rows], input_shape[columns])
    chosen = size or _size_from_metadata(metadata) or (fixed[0] or 32, fixed[1] or 32)
    for got, wanted in zip(chosen, fixed, strict=True):
        if wanted is not None and got != wanted:
            raise OptionError(
                f"input size {chosen[0]}x{chosen[1]} does not fit the model, whose input is fixed at "
                f"{fixed[0]}x{fixed[1]}; leave the size out"
            )
    return Preprocess(
        size=chosen,
        mean=mean or _triple(metadata, "pgc.mean") or (0.0, 0.0, 0.0),
        std=std or _triple(metadata, "pgc.std") or (1.0, 1.0, 1.0),
        layout=layout,
        channel_order=metadata.get("pgc.channel_order", "RGB"),
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


def _layout_from_shape(shape: Sequence[int | None]) -> str:
    if len(shape) == 4 and shape[1] == 3:
        return "NCHW"
    if len(shape) == 4 and shape[3] == 3:
        return "NHWC"
    if len(shape) == 4 and shape[1] is None and shape[3] is None:
        return "NCHW"
    shown = "x".join("?" if dim is None else str(dim) for dim in shape) or "a scalar"
    raise OptionError(f"the model's input is {shown}; expected an RGB image batch: Nx3xHxW or NxHxWx3")


def _size_from_metadata(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    text = metadata.get("pgc.image_size")
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise OptionError(f"metadata pgc.image_size is {text!r}; expected HEIGHTxWIDTH such as 32x32")
    return int(height), int(width)


def _triple(metadata: Mapping[str, str], key: str) -> tuple[float, float, float] | None:
    text = metadata.get(key)
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise OptionError(f"metadata {key} is {text!r}; expected three numbers such as 0.0,0.0,0.0") from error
    return red, green, blue
