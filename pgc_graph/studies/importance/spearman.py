"""Rank correlation (Spearman 1904, "The proof and measurement of association between two things")."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ranks", "spearman"]


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return the rank of each of some numbers, `(N,)` from 1 upwards; equal ones share the mean of their ranks."""
    array = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse.reshape(-1)]
    return shared


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return the correlation of the ranks of two `(N,)` series; NaN where one of them is constant or N is below 2.

    Raises:
        ValueError: The series differ in length.
    """
    a, b = ranks(first), ranks(second)
    if len(a) != len(b):
        raise ValueError(f"cannot correlate {len(a)} numbers with {len(b)}; expected as many")
    if not len(a):
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale else float("nan")
