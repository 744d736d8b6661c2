"""Images in an .npz file as numpy writes it: `images` `(N, H, W, 3)` uint8 or `(N, 3, H, W)` float32, maybe `labels`.

Rows are read one by one. A file by `numpy.savez` is entered anywhere; one by `numpy.savez_compressed` has to be unpacked
from its beginning up to the first row that is wanted.
"""

from __future__ import annotations

import collections
import functools
import math
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import ImageError
from pgc_graph.sources.source import Entry, ImageSource, Pixels, file_stamp

__all__ = ["NpzImages", "npz_images"]

_LOCAL_HEADER = struct.Struct("<26x2H")  # of a file in a zip: name and extra field have their lengths at byte 26
_ARRAY_KINDS = {"images": "uint8 (N, H, W, 3) or float32 (N, 3, H, W)", "labels": "(N,) text or whole numbers"}


@dataclass(frozen=True)
class _Array:
    """An array in an .npz file: where its rows begin, and what they are."""

    file: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    header: int
    start: int | None

    def rows(self, positions: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Yield some rows, ascending."""
        shape = self.shape[1:]
        size = self.dtype.itemsize * math.prod(shape)
        with zipfile.ZipFile(self.file) as archive, _stream(self, archive) as stream:
            base, following = (self.header if self.start is None else self.start), -1
            for position in positions:
                if position != following:
                    stream.seek(base + position * size)
                data = stream.read(size)
                if len(data) != size:
                    raise ImageError(f"{self.file} ends within row {position} of {self.member}; write it again")
                yield np.frombuffer(data, self.dtype).reshape(shape)
                following = position + 1


@dataclass(frozen=True, eq=False)
class NpzImages(ImageSource):
    """Rows of an .npz file.

    Attributes:
        path: The file.
        array: Where the images are.
        count: How many there are.
        codes: For each image its place in `names`, or None without labels.
        names: The labels that occur, in alphabetic order.
    """

    path: Path
    array: _Array
    count: int
    codes: NDArray[np.int32] | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return self.count

    def read(self, positions: Sequence[int]) -> Iterator[Entry]:
        """Yield the images at some positions, as `ImageSource.read`; they are called `file.npz#position`."""
        try:
            for position, row in zip(positions, self.array.rows(positions), strict=True):
                label = "" if self.codes is None else self.names[self.codes[position]]
                yield Entry(Path(f"{self.path}#{position}"), label, functools.partial(_same, row))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ImageError(f"cannot read {self.path}: {error}; expected an .npz file by numpy.savez") from error

    def paths(self) -> Iterator[Path]:
        """Yield `file.npz#position` for each image."""
        return (Path(f"{self.path}#{position}") for position in range(self.count))

    def labels(self) -> tuple[str, ...]:
        """Return what stands in `labels`, in alphabetic order."""
        return tuple(name for name in self.names if name)

    def fingerprint(self) -> str:
        """Return a hash of the file's name, size and time of change, and the number of images."""
        return f"{file_stamp(self.path)} {len(self)}"


def npz_images(path: Path, *, limit: int | None = None) -> NpzImages:
    """Look into an .npz file of images.

    Args:
        path: The file, with `images`: `(N, H, W, 3)` uint8, RGB pixels that are resized and normalised as those of files;
            or `(N, 3, H, W)` float32, ready for the model. `labels`, if there, has a text or a whole number for each.
        limit: Keep only the first so many.

    Raises:
        ImageError: The file cannot be read, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            if "images.npy" not in members:
                held = ", ".join(sorted(name.removesuffix(".npy") for name in members)) or "nothing"
                raise ImageError(f"{path} holds {held}; expected an array 'images', {_ARRAY_KINDS['images']}")
            images = _array(path, archive, "images")
            labels = _array(path, archive, "labels") if "labels.npy" in members else None
        _check(images, labels)
        count = images.shape[0] if limit is None else min(images.shape[0], limit)
        codes, names = (None, ()) if labels is None else _read_labels(labels, count)
    except FileNotFoundError as error:
        raise ImageError(f"image file not found: {path}; check the path") from error
    except (OSError, ValueError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise ImageError(f"cannot read images from {path}: {error}; expected an .npz file by numpy.savez") from error
    return NpzImages(path, images, count, codes, names)


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> _Array:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        header = stream.tell()
    if dtype.hasobject or (fortran and len(shape) > 1):
        found = "Python objects" if dtype.hasobject else "columns first"
        raise ImageError(f"{path}: array {name!r} holds {found}; expected {_ARRAY_KINDS[name]} in C order")
    start = None
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as file:
            file.seek(info.header_offset)
            lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        start = info.header_offset + _LOCAL_HEADER.size + sum(lengths) + header
    return _Array(path, info.filename, shape, dtype, header, start)


def _check(images: _Array, labels: _Array | None) -> None:
    shown = "x".join(map(str, images.shape)) or "a scalar"
    fits = len(images.shape) == 4 and (
        (images.dtype == np.uint8 and images.shape[3] == 3) or (images.dtype == np.float32 and images.shape[1] == 3)
    )
    if not fits or not images.shape[0]:
        kind = f"{images.dtype} {shown}"
        raise ImageError(f"{images.file}: array 'images' is {kind}; expected {_ARRAY_KINDS['images']}, at least one")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iuU"):
        held = f"{labels.dtype} {'x'.join(map(str, labels.shape)) or 'a scalar'}"
        raise ImageError(
            f"{images.file}: array 'labels' is {held} beside {images.shape[0]} images; expected {_ARRAY_KINDS['labels']}"
        )


def _read_labels(labels: _Array, count: int) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the labels as numbers, which take less memory than texts, and what they stand for."""
    known: collections.defaultdict[str, int] = collections.defaultdict(lambda: len(known))
    found = np.fromiter((known[str(row[()])] for row in labels.rows(range(count))), np.int32, count)
    names = sorted(known)
    places = np.array([names.index(name) for name in known], np.int32)
    return places[found], tuple(names)


def _stream(array: _Array, archive: zipfile.ZipFile) -> IO[bytes]:
    return archive.open(array.member) if array.start is None else array.file.open("rb")


def _same(row: NDArray[Any]) -> Pixels:
    return row
