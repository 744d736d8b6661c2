"""Scores as an .npz file: one array for each figure, written row by row, so that none is ever whole in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.studies.ablation.saving.columns import Records, difference, path_text
from pgc_graph.studies.ablation.saving.record import Record
from pgc_graph.studies.ablation.scores import Scores

__all__ = ["write_npz"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: the same bytes whenever they are written

Part = Callable[[Record, Scores], NDArray[Any] | None]


def write_npz(records: Records, tensors: Sequence[str], path: Path) -> None:
    """Write scores of N images under G gates as arrays, images first.

    `position`, `image_path`, `label`, `scored_class`, `baseline` `(N,)`, `tensor` `(G,)`, `prob`, `delta` `(N, G)`; where
    there are logits `baseline_logit`, `logit`, `logit_delta`; where there are classes to compare with `baseline_class`,
    `predicted_class`, `baseline_loss`, `loss`.
    """
    size = _Size.of(records)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _write(archive, "tensor", np.array(tensors, str).dtype, (len(tensors),), iter([np.array(tensors, str)]))
        for name, part in _arrays(size).items():
            first = next(_parts(records, part), None)
            if first is not None:
                shape = (size.images, *first.shape[1:])
                _write(archive, name, first.dtype, shape, _parts(records, part))


@dataclass(frozen=True)
class _Size:
    """How many images there are, and how long the longest path and label is."""

    images: int
    path: int
    label: int

    @staticmethod
    def of(records: Records) -> _Size:
        images = path = label = 0
        for record in records():
            images += len(record.paths)
            path = max([path, *(len(path_text(one)) for one in record.paths)])
            label = max([label, *map(len, record.labels or ())])
        return _Size(images, max(path, 1), max(label, 1))


def _arrays(size: _Size) -> dict[str, Part]:
    return {
        "position": lambda record, scores: record.positions,
        "image_path": lambda record, scores: np.array([path_text(path) for path in record.paths], f"<U{size.path}"),
        "label": lambda record, scores: None if record.labels is None else np.array(record.labels, f"<U{size.label}"),
        "scored_class": lambda record, scores: scores.classes,
        "baseline": lambda record, scores: scores.baseline,
        "prob": lambda record, scores: scores.ablated.T,
        "delta": lambda record, scores: _turned(difference(scores.baseline, scores.ablated)),
        "baseline_logit": lambda record, scores: scores.baseline_logit,
        "logit": lambda record, scores: _turned(scores.ablated_logit),
        "logit_delta": lambda record, scores: _turned(difference(scores.baseline_logit, scores.ablated_logit)),
        "baseline_class": lambda record, scores: scores.predicted,
        "predicted_class": lambda record, scores: _turned(scores.ablated_predicted),
        "baseline_loss": lambda record, scores: scores.loss,
        "loss": lambda record, scores: _turned(scores.ablated_loss),
    }


def _turned(values: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if values is None else values.T


def _parts(records: Records, part: Part) -> Iterator[NDArray[Any]]:
    for record in records():
        array = None if record.scores is None else part(record, record.scores)
        if array is not None:
            yield array


def _write(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterator[NDArray[Any]]
) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as member:
        _write_header(member, dtype, shape)
        for part in parts:
            member.write(np.ascontiguousarray(part, dtype).tobytes())


def _write_header(member: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, described)
