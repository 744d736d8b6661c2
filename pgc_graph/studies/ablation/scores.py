"""A batch's scores, without gates and for every gate, and how they are read off a model's outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import UnsupportedError

__all__ = ["Runner", "Scores", "largest_difference", "pick_scores"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a batch of N images for G gates.

    Attributes:
        baseline: `(N,)` float64, without gates.
        ablated: `(G, N)` float64.
        baseline_logit: `(N,)` float64, or None where the model has no logit.
        ablated_logit: `(G, N)` float64, or None.
        classes: `(N,)`, the class that is scored: the one that the model finds most likely without gates.
    """

    baseline: NDArray[np.float64]
    ablated: NDArray[np.float64]
    baseline_logit: NDArray[np.float64] | None
    ablated_logit: NDArray[np.float64] | None
    classes: NDArray[np.int64]

    def rows(self, index: Sequence[int]) -> Scores:
        """Return the scores of some of the images."""
        take = list(index)
        return Scores(
            self.baseline[take],
            self.ablated[:, take],
            None if self.baseline_logit is None else self.baseline_logit[take],
            None if self.ablated_logit is None else self.ablated_logit[:, take],
            self.classes[take],
        )

    def gates(self, index: Sequence[int]) -> Scores:
        """Return the scores under some of the gates."""
        take = list(index)
        logit = None if self.ablated_logit is None else self.ablated_logit[take]
        return dataclasses.replace(self, ablated=self.ablated[take], ablated_logit=logit)


Runner = Callable[[NDArray[np.float32]], Scores]
"""Scores the images of one `(N, ...)` tensor."""


def pick_scores(baseline: Sequence[Array], ablated: Sequence[Sequence[Array]], count: int) -> Scores:
    """Read the scores of a batch off raw outputs.

    Args:
        baseline: The score output, then the logit where there is one, each with a row for each image.
        ablated: The same for each gate; one row stands for all images.
        count: The number of images N.

    Raises:
        UnsupportedError: An output has not one row for each image.
    """
    score = _rows(np.atleast_1d(baseline[0]), count)
    if np.size(baseline[0]) != score.size:
        raise UnsupportedError(f"the score has one row for a batch of {count} images; expected one row for each")
    classes = np.argmax(np.where(np.isnan(score), -np.inf, score), axis=1)
    index = np.arange(count)

    def values(outputs: Sequence[Array], which: int) -> NDArray[np.float64]:
        # What lies between logit and score keeps the number of elements and their order.
        picked: NDArray[np.float64] = _rows(np.reshape(outputs[which], (-1, score.shape[1])), count)[index, classes]
        return picked

    def gates(which: int) -> NDArray[np.float64]:
        return np.stack([values(outputs, which) for outputs in ablated])

    has_logit = len(baseline) > 1
    return Scores(
        values(baseline, 0),
        gates(0),
        values(baseline, 1) if has_logit else None,
        gates(1) if has_logit else None,
        classes.astype(np.int64),
    )


def largest_difference(first: Scores, second: Scores) -> float:
    """Return the largest |Δ| between two scores, in proportion to magnitudes above 1; infinite where NaN meets number."""
    pairs = [(first.baseline, second.baseline), (first.ablated, second.ablated)]
    for a, b in ((first.baseline_logit, second.baseline_logit), (first.ablated_logit, second.ablated_logit)):
        if a is not None and b is not None:
            pairs.append((a, b))
    return max(_difference(a, b) for a, b in pairs)


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    finite = np.isfinite(first)
    if not np.array_equal(finite, np.isfinite(second)):
        return float("inf")
    gap = np.abs(first[finite] - second[finite]) / np.maximum(1.0, np.abs(second[finite]))
    return float(np.max(gap, initial=0.0))


def _rows(array: Array, count: int) -> NDArray[np.float64]:
    values = np.asarray(array, np.float64)
    if values.shape[0] not in (1, count):
        shown = "x".join(map(str, values.shape))
        raise UnsupportedError(f"an output is {shown} for a batch of {count}; expected one row for each image")
    return np.broadcast_to(values.reshape(values.shape[0], -1), (count, values[0].size))
