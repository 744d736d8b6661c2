"""Write a Parquet file of images row by row; only the row group that is being filled is in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgc_graph.errors import OptionError

__all__ = ["ParquetRow", "ParquetWriter", "write_parquet"]

_GROUP_ROWS = 8192
_GROUP_BYTES = 16 << 20
"""A row group ends at whichever comes first: images of any size fit in little memory, tables without keep few groups."""

_TEXTS = ("split", "label", "image_path", "source", "group")


@dataclass(frozen=True, eq=False)
class ParquetRow:
    """One image of a table.

    Attributes:
        split: The part of the data that it belongs to, such as `train`.
        label: The name of its class.
        class_id: The number of its class, from 0.
        image_path: Its file, relative to the folder of the table.
        source: The data set that it comes from.
        group: Who or what it shows: rows of a group stand in one split.
        image_bytes: The encoded image file, or None in a table without images.
    """

    split: str
    label: str
    class_id: int
    image_path: str
    source: str
    group: str
    image_bytes: bytes | None = None


@dataclass(eq=False)
class ParquetWriter:
    """An open table: add rows to it; `write_parquet` opens and closes it.

    Attributes:
        file: The pyarrow writer.
        schema: The columns.
        rows: What has not been written yet.
        size: Bytes of the images among them.
    """

    file: Any
    schema: Any
    rows: list[ParquetRow] = field(default_factory=list)
    size: int = 0

    def add(self, row: ParquetRow) -> None:
        """Add a row; a row group that is full is written."""
        self.rows.append(row)
        self.size += len(row.image_bytes or b"")
        if len(self.rows) >= _GROUP_ROWS or self.size >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows added since the last row group, if any."""
        import pyarrow as arrow

        if self.rows:
            columns = {name: [getattr(row, name) for row in self.rows] for name in self.schema.names}
            self.file.write_table(arrow.table(columns, schema=self.schema))
        self.rows, self.size = [], 0


@contextlib.contextmanager
def write_parquet(path: Path, *, embed: bool) -> Iterator[ParquetWriter]:
    """Open a table for writing; it is whole when the block ends without an error.

    Args:
        path: The file to write, which a caller moves into place when it is whole.
        embed: Whether there is a column `image_bytes`.

    Raises:
        OptionError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise OptionError("Parquet files need pyarrow, which is missing; pip install 'pgc-graph[parquet]'") from error
    text = {name: arrow.string() for name in _TEXTS}
    kinds = {"split": text["split"], "label": text["label"], "class_id": arrow.int32(), **text}
    kinds |= {"image_bytes": arrow.binary()} if embed else {}
    schema = arrow.schema([arrow.field(name, kind, nullable=False) for name, kind in kinds.items()])
    # Encoded images do not shrink any further, and no two paths are the same.
    compression = {name: "NONE" if name == "image_bytes" else "SNAPPY" for name in kinds}
    repeated = [name for name in _TEXTS if name != "image_path"]
    with parquet.ParquetWriter(
        path, schema, compression=compression, use_dictionary=repeated, write_statistics=repeated
    ) as file:
        writer = ParquetWriter(file, schema)
        yield writer
        writer.flush()
