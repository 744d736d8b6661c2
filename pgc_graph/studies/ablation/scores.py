"""A batch's scores, without gates and for every gate, and how they are read off a model's outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.studies.ablation.classes import TargetClass

__all__ = ["Runner", "Scores", "Wanted", "join_scores", "largest_difference", "pick_scores"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

_SMALLEST = 1e-12  # of a probability whose logarithm is taken


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is wanted of a batch of N images.

    Attributes:
        target: The class whose score counts.
        truth: `(N,)` int64, the class that each image shows, -1 where unknown; None if nobody asks for losses.
        positions: `(N,)` int64, where the images stand among all; for the intervention `noise`.
        donors: `(N, ...)` float32, the images that `resample` takes tensors from.
        classes: `(N,)` int64, the column that is scored, where that has been decided before.
    """

    target: TargetClass = dataclasses.field(default_factory=TargetClass)
    truth: NDArray[np.int64] | None = None
    positions: NDArray[np.int64] | None = None
    donors: NDArray[np.float32] | None = None
    classes: NDArray[np.int64] | None = None

    def rows(self, index: Sequence[int]) -> Wanted:
        """Return what is wanted of some of the images."""
        arrays = {name: getattr(self, name) for name in ("truth", "positions", "donors", "classes")}
        taken: dict[str, Any] = {name: array[list(index)] for name, array in arrays.items() if array is not None}
        return dataclasses.replace(self, **taken)


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a batch of N images for G gates; images are the last axis of every array.

    Attributes:
        baseline: `(N,)` float64, without gates.
        ablated: `(G, N)` float64.
        baseline_logit: `(N,)` float64, or None where the model has no logit.
        ablated_logit: `(G, N)` float64, or None.
        classes: `(N,)`, the column that is scored.
        predicted: `(N,)`, the class that the model finds most likely without gates; None unless truth is wanted.
        ablated_predicted: `(G, N)`, the same for every gate; -1 where the scores are no numbers.
        loss: `(N,)` float64, minus the logarithm of the true class's probability, without gates.
        ablated_loss: `(G, N)` float64.
    """

    baseline: Floats
    ablated: Floats
    baseline_logit: Floats | None
    ablated_logit: Floats | None
    classes: NDArray[np.int64]
    predicted: NDArray[np.int64] | None = None
    ablated_predicted: NDArray[np.int64] | None = None
    loss: Floats | None = None
    ablated_loss: Floats | None = None

    def rows(self, index: Sequence[int]) -> Scores:
        """Return the scores of some of the images."""
        take = list(index)
        return _from_arrays({name: None if a is None else a[..., take] for name, a in _arrays(self).items()})

    def gates(self, index: Sequence[int]) -> Scores:
        """Return the scores under some of the gates."""
        arrays = {name: a for name, a in _arrays(self).items() if name.startswith("ablated") and a is not None}
        return dataclasses.replace(self, **{name: array[list(index)] for name, array in arrays.items()})


Runner = Callable[[NDArray[np.float32], Wanted], Scores]
"""Scores the images of one `(N, ...)` tensor."""


def join_scores(pieces: Sequence[Scores]) -> Scores:
    """Return the scores of the images of several batches, in order."""
    columns = {field.name: [getattr(piece, field.name) for piece in pieces] for field in dataclasses.fields(Scores)}
    return _from_arrays({name: None if c[0] is None else np.concatenate(c, axis=-1) for name, c in columns.items()})


def pick_scores(
    baseline: Sequence[Array], ablated: Sequence[Sequence[Array]], count: int, wanted: Wanted | None = None
) -> Scores:
    """Read the scores of a batch off raw outputs.

    Args:
        baseline: The score output, then the logit where there is one, each with a row for each image.
        ablated: The same for each gate; one row stands for all images.
        count: The number of images N.
        wanted: What is wanted of them.

    Raises:
        UnsupportedError: An output has not one row for each image.
        OptionError: The class that is to be scored does not exist.
    """
    wanted = wanted or Wanted()
    score = _rows(np.atleast_1d(baseline[0]), count)
    if np.size(baseline[0]) != score.size:
        raise UnsupportedError(f"the score has one row for a batch of {count} images; expected one row for each")
    columns = score.shape[1]
    classes = _scored(score, wanted.target) if wanted.classes is None else wanted.classes
    index, negated = np.arange(count), wanted.target.negated

    def rows(outputs: Sequence[Array], which: int) -> Floats:
        # What lies between logit and score keeps the number of elements and their order.
        return _rows(np.reshape(outputs[which], (-1, columns)), count)

    def values(outputs: Sequence[Array], which: int) -> Floats:
        picked: Floats = rows(outputs, which)[index, classes]
        return picked if not negated else (-picked if which else 1 - picked)

    has_logit = len(baseline) > 1
    scores = Scores(
        values(baseline, 0),
        np.stack([values(outputs, 0) for outputs in ablated]),
        values(baseline, 1) if has_logit else None,
        np.stack([values(outputs, 1) for outputs in ablated]) if has_logit else None,
        classes,
    )
    if wanted.truth is None:
        return scores
    truth = wanted.truth
    judged = [
        _judge(rows(outputs, 0), rows(outputs, 1) if has_logit else None, truth) for outputs in (baseline, *ablated)
    ]
    return dataclasses.replace(
        scores,
        predicted=judged[0][0],
        loss=judged[0][1],
        ablated_predicted=np.stack([predicted for predicted, _ in judged[1:]]),
        ablated_loss=np.stack([loss for _, loss in judged[1:]]),
    )


def largest_difference(first: Scores, second: Scores) -> float:
    """Return the largest |Δ| between two scores, in proportion to magnitudes above 1; infinite where NaN meets number."""
    pairs = [(first.baseline, second.baseline), (first.ablated, second.ablated)]
    for a, b in ((first.baseline_logit, second.baseline_logit), (first.ablated_logit, second.ablated_logit)):
        if a is not None and b is not None:
            pairs.append((a, b))
    return max(_difference(a, b) for a, b in pairs)


def _from_arrays(arrays: dict[str, Any]) -> Scores:
    return Scores(**arrays)


def _arrays(scores: Scores) -> dict[str, Any]:
    return {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}


def _scored(score: Floats, target: TargetClass) -> NDArray[np.int64]:
    """Return the column that is scored, for each image."""
    count, columns = score.shape
    if target.column is None:
        best: NDArray[np.int64] = np.argmax(np.where(np.isnan(score), -np.inf, score), axis=1).astype(np.int64)
        return best
    if target.column >= columns:
        raise OptionError(
            f"target class {target.column} does not exist: the score has {columns} columns; expected 0 to {columns - 1}"
        )
    return np.full(count, target.column, np.int64)


def _judge(score: Floats, logit: Floats | None, truth: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Return the most likely class and the loss of each image; a single column is the probability of class 1."""
    known = np.maximum(truth, 0)
    if score.shape[1] == 1:
        positive = score[:, 0]
        predicted = np.where(np.isnan(positive), -1, positive >= 0.5).astype(np.int64)
        if logit is not None:  # log(1 + exp(-z)) stays exact where the probability has saturated
            loss = np.logaddexp(0, np.where(known == 1, -logit[:, 0], logit[:, 0]))
            return predicted, np.where(truth < 0, np.nan, loss)
        chance = np.where(known == 1, positive, 1 - positive)
    else:
        predicted = np.where(np.isnan(score).any(axis=1), -1, np.argmax(score, axis=1)).astype(np.int64)
        chance = score[np.arange(len(score)), np.minimum(known, score.shape[1] - 1)]
        truth = np.where(known < score.shape[1], truth, -1)
    is_chance = (truth >= 0) & (chance >= 0) & (chance <= 1 + 1e-3)  # a score need not be a probability
    return predicted, np.where(is_chance, -np.log(np.clip(chance, _SMALLEST, 1)), np.nan)


def _difference(first: Floats, second: Floats) -> float:
    finite = np.isfinite(first)
    if not np.array_equal(finite, np.isfinite(second)):
        return float("inf")
    gap = np.abs(first[finite] - second[finite]) / np.maximum(1.0, np.abs(second[finite]))
    return float(np.max(gap, initial=0.0))


def _rows(array: Array, count: int) -> Floats:
    values = np.asarray(array, np.float64)
    if values.shape[0] not in (1, count):
        shown = "x".join(map(str, values.shape))
        raise UnsupportedError(f"an output is {shown} for a batch of {count}; expected one row for each image")
    return np.broadcast_to(values.reshape(values.shape[0], -1), (count, values[0].size))
