"""Images in files of their own: those of a folder, or those that a list names."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pgc_graph.errors import ImageError
from pgc_graph.images import load_image, walk_images
from pgc_graph.sources.source import Entry, ImageSource, stamp_line

__all__ = ["FileImages", "image_folder", "image_list"]


class FileImages(ImageSource):
    """Image files, labelled by the names of the folders that they lie in."""

    def __init__(self, paths: Iterable[Path]) -> None:
        # One long text takes a tenth of what so many Path objects do.
        names, self._ends = bytearray(), array("q")
        for path in paths:
            names += os.fsencode(path)
            self._ends.append(len(names))
        self._names = bytes(names)

    def __len__(self) -> int:
        return len(self._ends)

    def path(self, position: int) -> Path:
        """Return one of the files."""
        start = self._ends[position - 1] if position else 0
        return Path(os.fsdecode(self._names[start : self._ends[position]]))

    def read(self, positions: Sequence[int]) -> Iterator[Entry]:
        """Yield the images at some positions, as `ImageSource.read`."""
        for position in positions:
            path = self.path(position)
            yield Entry(path, folder_name(os.fspath(path.parent)), functools.partial(load_image, path))

    def paths(self) -> Iterator[Path]:
        """Yield the files, in order."""
        return map(self.path, range(len(self)))

    def labels(self) -> tuple[str, ...]:
        """Return the names of the folders, in alphabetic order."""
        folders = {os.path.dirname(path) for path in self.paths()}
        return tuple(sorted({folder_name(folder) for folder in folders} - {""}))

    def fingerprint(self) -> str:
        """Return a hash of the files' names, sizes and times of change."""
        found = hashlib.sha256()
        for path in self.paths():
            found.update(stamp_line(path))
        return found.hexdigest()


def image_folder(folder: Path, *, limit: int | None = None) -> FileImages:
    """Return the images under a folder, in the order of `find_images`.

    Args:
        folder: Where to look, for png, jpg, jpeg, bmp and webp files.
        limit: Keep only the first so many.

    Raises:
        ImageError: The folder does not exist or holds no image.
    """
    found = FileImages(itertools.islice(walk_images(folder), limit))
    if not len(found):
        raise ImageError(f"no images in {folder}; expected png, jpg, jpeg, bmp or webp files in it or below")
    return found


def image_list(file: Path, *, limit: int | None = None) -> FileImages:
    """Return the images that a text file names, one a line, in its order; empty lines are passed over.

    Args:
        file: UTF-8; its paths are absolute or relative to its folder.
        limit: Keep only the first so many.

    Raises:
        ImageError: The list cannot be read or is empty.
    """
    try:
        with file.open(encoding="utf-8-sig") as lines:
            names = (line.strip() for line in lines)
            found = FileImages(itertools.islice((file.parent / name for name in names if name), limit))
    except FileNotFoundError as error:
        raise ImageError(f"image list not found: {file}; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"cannot read image list {file}: {error}; expected a UTF-8 text, one path a line") from error
    if not len(found):
        raise ImageError(f"image list {file} is empty; expected one path a line")
    return found


@functools.lru_cache(maxsize=1024)
def folder_name(folder: str) -> str:
    """Return the last part of a folder's absolute path; cached, since many images share a folder."""
    return os.path.basename(os.path.abspath(folder))
