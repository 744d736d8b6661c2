"""The files that scores are saved to: long (a row an image and gate) in CSV and Parquet, wide in JSON and .npz.

The same records make the same bytes: no file has a time or a name of the machine in it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError
from pgc_graph.results import SCHEMA_VERSION
from pgc_graph.studies.ablation.saving.columns import COLUMNS, Records, difference, long_columns, path_text
from pgc_graph.studies.ablation.saving.npz_table import write_npz
from pgc_graph.studies.ablation.saving.record import Record

__all__ = ["FORMATS", "Format", "write_table"]

_GROUP_ROWS = 1 << 14


def write_table(records: Records, tensors: Sequence[str], path: Path) -> None:
    """Write scores to a file, a few at a time.

    Args:
        records: The scores.
        tensors: The gates, in the order of the scores.
        path: A file that ends in one of `FORMATS`.

    Raises:
        OSError: It cannot be written.
    """
    FORMATS[path.suffix.lower()].write(records, tensors, path)


def write_csv(records: Records, tensors: Sequence[str], path: Path) -> None:
    """Write a long table as CSV: UTF-8, one header line, numbers in full."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for record in records():
            count = len(record.paths) * len(tensors)
            columns = (([""] * count if c is None else c.tolist()) for c in long_columns(record, tensors))
            writer.writerows(zip(*columns, strict=True))


def write_json(records: Records, tensors: Sequence[str], path: Path) -> None:
    """Write a JSON document: `tensors`, and for each of `images` one line with lists of figures, one a tensor."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"schema_version": {SCHEMA_VERSION},\n"tensors": {json.dumps(list(tensors))},\n"images": [')
        between = "\n"
        for record in records():
            for row in _documents(record):
                file.write(between + json.dumps(row, allow_nan=False))
                between = ",\n"
        file.write("\n]}\n")


def write_parquet(records: Records, tensors: Sequence[str], path: Path) -> None:
    """Write a long table as Parquet, compressed with Zstandard, 16,384 rows or a little more a row group."""
    import pyarrow as arrow
    from pyarrow import parquet

    kinds = {str: arrow.string(), np.int64: arrow.int64(), np.float64: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    texts = [name for name, kind in COLUMNS.items() if kind is str]
    with parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=texts) as writer:
        for columns in _groups(records, tensors):
            count = max(len(column) for column in columns if column is not None)
            pairs = zip(columns, schema.types, strict=True)
            arrays = [arrow.nulls(count, kind) if c is None else arrow.array(c, kind) for c, kind in pairs]
            writer.write_batch(arrow.RecordBatch.from_arrays(arrays, schema=schema))


def _groups(records: Records, tensors: Sequence[str]) -> Iterator[list[NDArray[Any] | None]]:
    """Gather the columns of records until they make a row group."""
    group: list[list[NDArray[Any] | None]] = []
    rows = 0
    for record in records():
        if record.paths:
            group.append(long_columns(record, tensors))
            rows += len(record.paths) * len(tensors)
        if rows >= _GROUP_ROWS:
            yield _joined(group)
            group, rows = [], 0
    if rows:
        yield _joined(group)


def _joined(group: Sequence[Sequence[NDArray[Any] | None]]) -> list[NDArray[Any] | None]:
    """Join columns, of which each is empty in all parts or in none."""
    joined: list[NDArray[Any] | None] = []
    for parts in zip(*group, strict=True):
        filled = [part for part in parts if part is not None]
        joined.append(np.concatenate(filled) if filled else None)
    return joined


def _documents(record: Record) -> Iterator[dict[str, Any]]:
    scores = record.scores
    if scores is None:
        return
    one = {
        "prob": scores.baseline,
        "logit": scores.baseline_logit,
        "predicted_class": scores.predicted,
        "loss": scores.loss,
    }
    without = {
        "prob": scores.ablated,
        "delta": difference(scores.baseline, scores.ablated),
        "logit": scores.ablated_logit,
        "logit_delta": difference(scores.baseline_logit, scores.ablated_logit),
        "predicted_class": scores.ablated_predicted,
        "loss": scores.ablated_loss,
    }
    for row, path in enumerate(record.paths):
        yield {
            "position": int(record.positions[row]),
            "image_path": path_text(path),
            "label": (record.labels[row] or None) if record.labels is not None else None,
            "scored_class": int(scores.classes[row]),
            **{name: _plain(values[row]) for name, values in one.items() if values is not None},
            "without": {
                name: [_plain(value) for value in values[:, row]]
                for name, values in without.items()
                if values is not None
            },
        }


def _plain(value: np.generic) -> Any:
    number = value.item()
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _check_parquet() -> None:
    try:
        import pyarrow as arrow
    except ImportError as error:
        raise OptionError("Parquet files need pyarrow, which is missing; pip install 'pgc-graph[parquet]'") from error
    if not arrow.Codec.is_available("zstd"):
        raise OptionError("this build of pyarrow cannot write Zstandard; save to .csv or .npz instead")


@dataclass(frozen=True)
class Format:
    """How a kind of file is written, and what has to be there for it."""

    write: Callable[[Records, Sequence[str], Path], None]
    check: Callable[[], None] = lambda: None


FORMATS = {
    ".parquet": Format(write_parquet, _check_parquet),
    ".csv": Format(write_csv),
    ".json": Format(write_json),
    ".npz": Format(write_npz),
}
"""By how the file's name ends."""
