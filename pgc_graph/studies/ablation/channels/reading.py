"""Read scores off raw outputs whose rows are channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.studies.ablation.scores import Scores, Wanted, pick_scores

__all__ = ["read_rows", "stack_changes"]

Array = NDArray[Any]


def read_rows(baseline: Sequence[Array], found: Sequence[Array | None] | None, count: int, wanted: Wanted) -> Scores:
    """Return the scores of one image for a number of changes, each with a row of its own.

    Args:
        baseline: The outputs without any change, one row each.
        found: The same for each change, R rows each; None where they do not change.
        count: The number of changes R.
        wanted: Of that image.

    Raises:
        UnsupportedError: An output has not one row for each change.
    """
    unchanged = [np.repeat(np.atleast_1d(array)[:1], count, axis=0) for array in baseline]
    changed = [
        same if new is None else new for same, new in zip(unchanged, found or [None] * len(unchanged), strict=True)
    ]
    # Changes in the place of images: one reading for all of them.
    scores = pick_scores(unchanged, [changed], count, wanted.rows([0] * count))

    def first(array: Array | None) -> Array | None:
        return None if array is None else array[:1]

    def upright(array: Array | None) -> Array | None:
        return None if array is None else array.T

    return Scores(
        baseline=scores.baseline[:1],
        ablated=scores.ablated.T,
        baseline_logit=first(scores.baseline_logit),
        ablated_logit=upright(scores.ablated_logit),
        classes=scores.classes[:1],
        predicted=first(scores.predicted),
        ablated_predicted=upright(scores.ablated_predicted),
        loss=first(scores.loss),
        ablated_loss=upright(scores.ablated_loss),
    )


def stack_changes(parts: Sequence[Scores]) -> Scores:
    """Return the scores of some images for the changes of several parts, one after another."""
    names = ("ablated", "ablated_logit", "ablated_predicted", "ablated_loss")
    columns = {name: [getattr(part, name) for part in parts] for name in names}
    joined = {name: np.concatenate(arrays) for name, arrays in columns.items() if arrays[0] is not None}
    return dataclasses.replace(parts[0], **joined)
