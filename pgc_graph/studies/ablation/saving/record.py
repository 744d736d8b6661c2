"""One batch of scores as bytes, framed so that a file of them tells where it was torn off.

A frame is: `PGCR`, the length of what follows as 8 bytes (little-endian), its BLAKE2b-128 digest, and then the content: the
length of a JSON text as 8 bytes, the text (what arrays there are, paths, labels), and the arrays' bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.images import SkippedImage
from pgc_graph.studies.ablation.scores import Scores

__all__ = ["Record", "read_frames", "to_frame"]

_MAGIC = b"PGCR"
_FRAME = struct.Struct("<4sQ16s")
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, eq=False)
class Record:
    """The scores of a batch of images.

    Attributes:
        paths: Their files.
        labels: What they are labelled as, an empty text for nothing; None where no image is labelled.
        positions: `(N,)` int64, where they stand among all.
        skipped: The files between them that could not be read.
        scores: Their scores; None where there is no image.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...] | None
    positions: NDArray[np.int64]
    skipped: tuple[SkippedImage, ...]
    scores: Scores | None


def to_frame(record: Record) -> bytes:
    """Write a record as a frame."""
    arrays: dict[str, NDArray[Any]] = {"positions": record.positions}
    for field in dataclasses.fields(Scores):
        array = None if record.scores is None else getattr(record.scores, field.name)
        if array is not None:
            arrays[field.name] = np.ascontiguousarray(array)
    described = {
        "arrays": [[name, array.dtype.str, array.shape] for name, array in arrays.items()],
        "paths": [str(path) for path in record.paths],
        "labels": record.labels,
        "skipped": [[str(skipped.path), skipped.reason] for skipped in record.skipped],
    }
    text = json.dumps(described).encode()
    content = b"".join([_LENGTH.pack(len(text)), text, *(array.tobytes() for array in arrays.values())])
    return _FRAME.pack(_MAGIC, len(content), _digest(content)) + content


def read_frames(file: IO[bytes], size: int) -> Iterator[tuple[Record, int]]:
    """Yield the records of a file up to the first that is damaged or torn off, each with the offset of its end.

    Args:
        file: At its beginning.
        size: Of the file, in bytes.
    """
    end = 0
    while True:
        head = file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            return
        magic, length, digest = _FRAME.unpack(head)
        end += _FRAME.size + length
        if magic != _MAGIC or end > size:
            return
        content = file.read(length)
        if len(content) < length or _digest(content) != digest:
            return
        yield _to_record(content), end


def _to_record(content: bytes) -> Record:
    (length,) = _LENGTH.unpack_from(content)
    start = _LENGTH.size + length
    described = json.loads(content[_LENGTH.size : start])
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in described["arrays"]:
        count = math.prod(shape)
        arrays[name] = np.frombuffer(content, np.dtype(dtype), count, start).reshape(shape)
        start += arrays[name].nbytes
    positions = arrays.pop("positions")
    labels = described["labels"]
    return Record(
        paths=_paths(described["paths"]),
        labels=None if labels is None else tuple(labels),
        positions=positions,
        skipped=tuple(SkippedImage(Path(path), reason) for path, reason in described["skipped"]),
        scores=_to_scores(arrays) if arrays else None,
    )


def _to_scores(arrays: dict[str, NDArray[Any]]) -> Scores:
    return Scores(**{field.name: arrays.get(field.name) for field in dataclasses.fields(Scores)})  # type: ignore[arg-type]


def _paths(names: Sequence[str]) -> tuple[Path, ...]:
    return tuple(map(Path, names))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
