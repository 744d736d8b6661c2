"""Images in a Parquet file, one a row: `image_path`, `image_bytes` (an encoded image file), `label`, `split`.

Rows are read a few at a time, also out of one huge row group, so that memory does not grow with the file.
"""

from __future__ import annotations

import bisect
import collections
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import decode_image
from pgc_graph.sources.source import Entry, ImageSource, Pixels, file_stamp

__all__ = ["ParquetImages", "parquet_images", "parquet_rows"]

_ROWS = 64  # read at once
_NARROW_ROWS = 8192  # of columns without images
_BUFFER = 1 << 18


@dataclass(frozen=True, eq=False)
class ParquetImages(ImageSource):
    """Rows of a Parquet file.

    Attributes:
        path: The file.
        split: Only rows whose `split` is this one, or None for all.
        ends: How many chosen rows there are up to the end of each row group.
        names: The labels that occur.
        columns: The columns that are read.
    """

    path: Path
    split: str | None
    ends: tuple[int, ...]
    names: tuple[str, ...]
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return self.ends[-1]

    def read(self, positions: Sequence[int]) -> Iterator[Entry]:
        """Yield the images at some positions, as `ImageSource.read`."""
        with _open(self.path) as file:
            for group, (first, end) in enumerate(itertools.pairwise((0, *self.ends))):
                low, high = bisect.bisect_left(positions, first), bisect.bisect_left(positions, end)
                if low < high:
                    yield from self._read_group(file, group, first, positions[low:high])

    def paths(self) -> Iterator[Path]:
        """Yield what stands in the column `image_path`."""
        return itertools.islice(self._paths(), len(self))

    def labels(self) -> tuple[str, ...]:
        """Return what stands in the column `label`, in alphabetic order."""
        return self.names

    def fingerprint(self) -> str:
        """Return a hash of the file's name, size and time of change, the split and the number of rows."""
        return f"{file_stamp(self.path)} {self.split} {len(self)}"

    def _paths(self) -> Iterator[Path]:
        columns = tuple(name for name in self.columns if name in ("image_path", "split"))
        with _open(self.path) as file:
            for group in range(len(self.ends)):
                for rows in _rows(self.path, file, columns, _NARROW_ROWS, group):
                    yield from (Path(_text(row["image_path"])) for row in rows if self._chooses(row))

    def _chooses(self, row: dict[str, Any]) -> bool:
        return self.split is None or _text(row["split"]) == self.split

    def _read_group(self, file: Any, group: int, first: int, positions: Sequence[int]) -> Iterator[Entry]:
        position, wanted = first, 0
        for rows in _rows(self.path, file, self.columns, _ROWS, group):
            for row in rows:
                if not self._chooses(row):
                    continue
                if position == positions[wanted]:
                    yield _entry(row)
                    wanted += 1
                    if wanted == len(positions):
                        return
                position += 1


def parquet_images(path: Path, *, split: str | None = None, limit: int | None = None) -> ParquetImages:
    """Look into a Parquet file of images.

    Args:
        path: The file, with columns `image_path` and `image_bytes`; `label` and `split` may be missing.
        split: Take only rows whose `split` is this one.
        limit: Keep only the first so many.

    Raises:
        ImageError: The file cannot be read, lacks a column, or has no such row.
        OptionError: There is no such split, or pyarrow is not installed.
    """
    with _open(path) as file:
        found = file.schema_arrow.names
        needed = ["image_path", "image_bytes", *(["split"] if split is not None else [])]
        missing = [name for name in needed if name not in found]
        if missing:
            raise ImageError(
                f"{path} has no column {missing[0]} (found {', '.join(found)}); expected {' '.join(needed)}"
            )
        columns = (*needed, *(["label"] if "label" in found else []))
        labels: dict[str, None] = {}
        splits: collections.Counter[str] = collections.Counter()
        ends: list[int] = []
        total = 0
        narrow = tuple(name for name in columns if name in ("label", "split"))
        for group in range(file.num_row_groups):
            kept = file.metadata.row_group(group).num_rows if not narrow else 0
            for rows in _rows(path, file, narrow, _NARROW_ROWS, group) if narrow else ():
                splits.update(_text(row["split"]) for row in rows if split is not None)
                chosen = [row for row in rows if split is None or _text(row["split"]) == split]
                kept += len(chosen)
                room = None if limit is None else max(0, limit - total - kept + len(chosen))
                labels.update(dict.fromkeys(_text(row.get("label")) for row in chosen[:room]))
            total += kept
            ends.append(total if limit is None else min(total, limit))
    if not total:
        known = f"no row whose split is {split!r} (found {', '.join(sorted(splits))})" if splits else "no rows"
        raise OptionError(f"{path} has {known}; expected at least one image")
    return ParquetImages(path, split, tuple(ends), tuple(sorted(labels.keys() - {""})), columns)


def parquet_rows(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> tuple[tuple[str, ...], Iterator[dict[str, str]]]:
    """Read columns of text, a few rows at a time.

    Args:
        path: The file.
        needed: Columns that must be there.
        optional: Columns that are read where they are.

    Returns:
        The names of all columns, and an iterator of rows; a missing value is an empty text.

    Raises:
        ImageError: The file cannot be read or lacks a column.
        OptionError: pyarrow is not installed.
    """
    with _open(path) as file:
        found = tuple(file.schema_arrow.names)
    missing = [name for name in needed if name not in found]
    if missing:
        raise ImageError(f"{path} has no column {missing[0]} (found {', '.join(found)}); expected {' '.join(needed)}")
    columns = (*needed, *(name for name in optional if name in found))
    return found, _text_rows(path, columns)


def _text_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    with _open(path) as file:
        for group in range(file.num_row_groups):
            for rows in _rows(path, file, columns, _NARROW_ROWS, group):
                yield from ({name: _text(value) for name, value in row.items()} for row in rows)


def _open(path: Path) -> Any:
    """Open a file so that its columns are streamed, not read as a whole."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise OptionError("Parquet files need pyarrow, which is missing; pip install 'pgc-graph[parquet]'") from error
    try:
        return parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    except FileNotFoundError as error:
        raise ImageError(f"Parquet file not found: {path}; check the path") from error
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, error) from error


def _rows(path: Path, file: Any, columns: Sequence[str], count: int, group: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a row group, so many at a time."""
    import pyarrow as arrow

    try:
        batches = file.iter_batches(batch_size=count, row_groups=[group], columns=list(columns), use_threads=False)
        for batch in batches:
            yield batch.to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ImageError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ImageError(f"cannot read {path}: {reason}; expected a Parquet file of images")


def _entry(row: dict[str, Any]) -> Entry:
    path = Path(_text(row["image_path"]))
    return Entry(path, _text(row.get("label")), functools.partial(_load, row["image_bytes"], path))


def _load(data: Any, path: Path) -> Pixels:
    if not isinstance(data, bytes):
        raise ImageError(f"image {path} has no bytes in its row (found {type(data).__name__}); expected an image file")
    return decode_image(data, path)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
