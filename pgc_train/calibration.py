"""How well scores order the classes, and how far probabilities are to be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "Calibration", "ReliabilityBin", "calibrate", "roc_auc"]

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Crops whose probability lies in a stretch of [0, 1].

    Attributes:
        low: Where it begins.
        high: Where it ends; only the last one holds its end.
        count: Crops in it.
        probability: Their mean probability; None where there is none.
        pointing: The share of them that is pointing; None where there is none.
    """

    low: float
    high: float
    count: int
    probability: float | None
    pointing: float | None


@dataclass(frozen=True)
class Calibration:
    """Whether of the crops called pointing with probability p the share p is pointing.

    Attributes:
        error: Expected calibration error (Naeini et al. 2015, for the probability of the positive class): the mean
            over crops of |share pointing - mean probability| of their bin.
        bins: Of equal width, from 0 to 1.
    """

    error: float
    bins: tuple[ReliabilityBin, ...]


def roc_auc(logits: NDArray[np.floating], labels: NDArray[np.floating]) -> float | None:
    """Return the area under the ROC curve: how often a pointing crop scores above another, ties counting half.

    By ranks (Mann and Whitney 1947); None where a class is missing.

    Args:
        logits: `(N,)`, or anything that orders crops the same.
        labels: `(N,)`, 0 or 1.
    """
    truth = np.asarray(labels) > 0.5
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return None
    _, place, counts = np.unique(np.asarray(logits, np.float64), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]  # equal scores share the mean of their ranks
    return float((ranks[truth].sum() - positive * (positive + 1) / 2.0) / (positive * negative))


def calibrate(logits: NDArray[np.floating], labels: NDArray[np.floating], bins: int = BINS) -> Calibration:
    """Compare probabilities with what came true, in bins of equal width.

    Args:
        logits: `(N,)`, N at least 1.
        labels: `(N,)`, 0 or 1.
        bins: How many.
    """
    probability = 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64)))
    truth = np.asarray(labels) > 0.5
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    found, error = [], 0.0
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        mean, share = (float(probability[inside].mean()), float(truth[inside].mean())) if count else (None, None)
        found.append(ReliabilityBin(index / bins, (index + 1) / bins, count, mean, share))
        error += abs(share - mean) * count if mean is not None and share is not None else 0.0
    return Calibration(error / truth.size, tuple(found))
