"""A sequence of images that can be read again, from any position, and that is never held in memory as a whole."""

from __future__ import annotations

import abc
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import to_tensor
from pgc_graph.preprocess import Preprocess

__all__ = ["Entry", "ImageSource", "Pixels", "file_stamp", "first_image", "to_picture", "to_row"]

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""`(H, W, 3)` uint8 RGB, or `(3, H, W)` float32, ready for the model."""


@dataclass(frozen=True, eq=False)
class Entry:
    """An image that has not been decoded yet.

    Attributes:
        path: Its file, or what stands for it.
        label: What it is labelled as where it comes from; an empty text for nothing.
        load: Decodes it, on any thread; raises ImageError where that cannot be done.
    """

    path: Path
    label: str
    load: Callable[[], Pixels]


class ImageSource(abc.ABC):
    """Images in a fixed order. It can be sent to another process that sees the same files."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return how many images there are, those included that cannot be decoded."""

    @abc.abstractmethod
    def read(self, positions: Sequence[int]) -> Iterator[Entry]:
        """Yield the images at some positions.

        Args:
            positions: From 0, ascending; a range for a stretch.
        """

    @abc.abstractmethod
    def paths(self) -> Iterator[Path]:
        """Yield the files of all images, or what stands for them, in order."""

    @abc.abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Return the labels that occur, without the empty one, in alphabetic order."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return a text that changes when the images or their order do: by files' names, sizes and times, not contents."""


def first_image(source: ImageSource) -> Pixels:
    """Decode the first image that can be.

    Raises:
        ImageError: There is none.
    """
    for entry in source.read(range(len(source))):
        try:
            return entry.load()
        except ImageError as error:
            logger.info("not the first image: %s", error)
    raise ImageError(f"none of the {len(source)} images could be read")


def to_row(pixels: Pixels, preprocess: Preprocess) -> NDArray[np.float32]:
    """Turn a decoded image into one row of a model's input.

    Returns:
        `(3, H, W)` or `(H, W, 3)` float32 of the size and layout that `preprocess` names.

    Raises:
        OptionError: It is ready for another model's input: it has another size.
    """
    if pixels.dtype == np.uint8:
        return to_tensor(pixels.astype(np.uint8, copy=False), preprocess)
    expected = (3, *preprocess.size)
    if pixels.shape != expected:
        found, wanted = ("x".join(map(str, shape)) for shape in (pixels.shape, expected))
        raise OptionError(f"an image of float32 is {found}; expected {wanted}, ready for the model: it is not resized")
    row = pixels.astype(np.float32, copy=False)
    return np.ascontiguousarray(row if preprocess.layout == "NCHW" else row.transpose(1, 2, 0))


def to_picture(pixels: Pixels, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Turn a decoded image into what people look at: `(H, W, 3)` uint8 RGB."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    shown = pixels.transpose(1, 2, 0)
    if preprocess.channel_order == "BGR":
        shown = shown[..., ::-1]
    if not preprocess.pixels:
        shown = (shown * np.asarray(preprocess.std) + np.asarray(preprocess.mean)) * 255
    return np.asarray(np.clip(np.round(shown), 0, 255), np.uint8)


def file_stamp(path: Path) -> str:
    """Return a file's name, size and time of change as a hash; as a source's fingerprint."""
    return hashlib.sha256(stamp_line(path)).hexdigest()


def stamp_line(path: Path) -> bytes:
    """Return a file's name, size and time of change; only its name where there is no such file."""
    try:
        seen = path.stat()
    except OSError:
        return f"{path}\0missing\n".encode(errors="surrogateescape")
    return f"{path}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode(errors="surrogateescape")
