"""How good a classifier is on labelled images, without gates and under every gate: accuracy, F1 and loss.

F1 is the harmonic mean of precision and recall (van Rijsbergen 1979): of class 1 where there are two classes, otherwise
the mean over all classes that occur among the labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgc_graph.studies.ablation.result import Quality
from pgc_graph.studies.ablation.scores import Scores
from pgc_graph.studies.ablation.stats import RunningStats

__all__ = ["QualityCounter"]


class QualityCounter:
    """Counts right and wrong answers, first without gates, then for every gate."""

    def __init__(self, gates: int) -> None:
        self._right = np.zeros((gates + 1, 2), np.int64)  # by true class; grows with the classes seen
        self._answers = np.zeros((gates + 1, 2), np.int64)
        self._truth = np.zeros(2, np.int64)
        self._loss = RunningStats(gates + 1, sample=0)

    def add(self, scores: Scores, truth: NDArray[np.int64], positions: NDArray[np.int64] | None = None) -> None:
        """Take in a batch.

        Args:
            scores: Of N images, with predictions and losses.
            truth: `(N,)`, the class that each shows, -1 where unknown.
            positions: `(N,)`, where the images stand among all; by default they are counted.
        """
        if scores.predicted is None or scores.ablated_predicted is None or scores.loss is None:
            raise AssertionError("the scores were taken without truth")
        known = truth >= 0
        predicted = np.concatenate([scores.predicted[None], scores.ablated_predicted])[:, known]
        losses = np.concatenate([scores.loss[None], np.asarray(scores.ablated_loss)])
        truth = truth[known]
        self._grow(int(max(truth.max(initial=1), predicted.max(initial=1))) + 1)
        np.add.at(self._truth, truth, 1)
        for row, answers in enumerate(predicted):
            np.add.at(self._answers[row], answers[answers >= 0], 1)
            np.add.at(self._right[row], truth[answers == truth], 1)
        self._loss.update(losses[:, known], None if positions is None else positions[known])

    def merge(self, other: QualityCounter) -> None:
        """Take in what another has counted of other images under the same gates; the other one stays as it is.

        Raises:
            ValueError: The other one has another number of gates.
        """
        self._loss.merge(other._loss)
        self._grow(len(other._truth))
        classes = slice(len(other._truth))
        self._truth[classes] += other._truth
        self._right[:, classes] += other._right
        self._answers[:, classes] += other._answers

    def results(self) -> tuple[Quality, ...]:
        """Return the quality without gates, then for every gate."""
        count = int(self._truth.sum())
        losses = self._loss.summaries()
        return tuple(
            Quality(count, float(right.sum() / count) if count else float("nan"), self._f1(row), losses[row].mean)
            for row, right in enumerate(self._right)
        )

    def _f1(self, row: int) -> float:
        found, answers = self._right[row], self._answers[row]
        present = np.flatnonzero(self._truth) if len(self._truth) > 2 else np.array([1])
        if not self._truth[present].any():
            return float("nan")
        return float(np.mean(2 * found[present] / (answers[present] + self._truth[present])))

    def _grow(self, classes: int) -> None:
        more = classes - len(self._truth)
        if more > 0:
            self._right = np.pad(self._right, ((0, 0), (0, more)))
            self._answers = np.pad(self._answers, ((0, 0), (0, more)))
            self._truth = np.pad(self._truth, (0, more))
