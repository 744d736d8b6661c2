"""What is saved of each image and gate, as the columns of a long table: one row an image and gate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.studies.ablation.saving.record import Record

__all__ = ["COLUMNS", "Records", "difference", "long_columns", "path_text"]

Records = Callable[[], Iterator[Record]]
"""Reads the records of a run from the beginning, as often as it is called."""

COLUMNS: dict[str, Any] = {
    "position": np.int64,
    "image_path": str,
    "label": str,
    "scored_class": np.int64,
    "tensor": str,
    "baseline": np.float64,
    "prob": np.float64,
    "delta": np.float64,
    "baseline_logit": np.float64,
    "logit": np.float64,
    "logit_delta": np.float64,
    "baseline_class": np.int64,
    "predicted_class": np.int64,
    "baseline_loss": np.float64,
    "loss": np.float64,
}
"""The columns and what they hold; a column is empty where there is no such figure."""


def long_columns(record: Record, tensors: Sequence[str]) -> list[NDArray[Any] | None]:
    """Return `COLUMNS` for the images of a record, image after image and gate after gate; None for an empty one."""
    scores = record.scores
    if scores is None:
        return [None] * len(COLUMNS)
    labels = None if record.labels is None else np.array(record.labels, object)

    def an_image(values: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if values is None else np.repeat(values, len(tensors))

    def a_gate(values: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if values is None else values.T.ravel()

    return [
        an_image(record.positions),
        an_image(np.array([path_text(path) for path in record.paths], object)),
        an_image(labels),
        an_image(scores.classes),
        np.tile(np.array(tensors, object), len(record.paths)),
        an_image(scores.baseline),
        a_gate(scores.ablated),
        a_gate(difference(scores.baseline, scores.ablated)),
        an_image(scores.baseline_logit),
        a_gate(scores.ablated_logit),
        a_gate(difference(scores.baseline_logit, scores.ablated_logit)),
        an_image(scores.predicted),
        a_gate(scores.ablated_predicted),
        an_image(scores.loss),
        a_gate(scores.ablated_loss),
    ]


def path_text(path: Path) -> str:
    """Return a path as text that every format can hold: what is no UTF-8 in it becomes U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def difference(baseline: NDArray[np.float64] | None, ablated: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Return the scores `(N,)` minus those for every gate `(G, N)`: NaN where both are infinite."""
    if baseline is None or ablated is None:
        return None
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = baseline - ablated
    return found
