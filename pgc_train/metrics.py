"""How well scores separate the two classes: confusion counts, F1, precision, recall, accuracy, loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scores", "score_logits"]


@dataclass(frozen=True)
class Scores:
    """Quality of a classifier on some crops; the positive class is `pointing`.

    Attributes:
        count: Crops scored.
        true_positive: Pointing, called pointing.
        false_positive: Not pointing, called pointing.
        true_negative: Not pointing, called not pointing.
        false_negative: Pointing, called not pointing.
        f1: Harmonic mean of precision and recall; 0 where there is no true positive.
        precision: Share of the crops called pointing that are; 0 where none is called so.
        recall: Share of the pointing crops called so; 0 where there are none.
        accuracy: Share called rightly.
        loss: Mean binary cross-entropy in nats, both classes weighing the same.
    """

    count: int
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    f1: float
    precision: float
    recall: float
    accuracy: float
    loss: float


def score_logits(logits: NDArray[np.floating], labels: NDArray[np.floating], threshold: float = 0.5) -> Scores:
    """Score logits against labels.

    Args:
        logits: `(N,)`; a crop is called pointing where its probability, the sigmoid, reaches the threshold.
        labels: `(N,)`, 0 or 1.
        threshold: A probability between 0 and 1.
    """
    values = np.asarray(logits, np.float64)
    truth = np.asarray(labels) > 0.5
    called = values >= np.log(threshold / (1.0 - threshold))
    hits, alarms = int((called & truth).sum()), int((called & ~truth).sum())
    misses, rejections = int((~called & truth).sum()), int((~called & ~truth).sum())
    return Scores(
        count=truth.size,
        true_positive=hits,
        false_positive=alarms,
        true_negative=rejections,
        false_negative=misses,
        f1=_ratio(2 * hits, 2 * hits + alarms + misses),
        precision=_ratio(hits, hits + alarms),
        recall=_ratio(hits, hits + misses),
        accuracy=_ratio(hits + rejections, truth.size),
        loss=_balanced_loss(values, truth),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _balanced_loss(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    # log(1 + exp(-margin)), written so that it does not overflow.
    losses = np.logaddexp(0.0, np.where(truth, -logits, logits))
    classes = [losses[chosen].mean() for chosen in (truth, ~truth) if chosen.any()]
    return float(np.mean(classes)) if classes else 0.0
