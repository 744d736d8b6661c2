"""Streaming statistics in float64, without sums of squares, which cancel where the spread is small.

Two groups of values are merged by Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for
computing sample variances"; with one value in a group this is Welford's (1962) update.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgc_graph.studies.ablation.result import Summary

__all__ = ["RunningStats"]

Values = NDArray[np.float64]


class RunningStats:
    """Mean, population standard deviation, minimum and maximum of several series that grow together."""

    def __init__(self, series: int) -> None:
        self._count = np.zeros(series, np.int64)
        self._mean = np.zeros(series)
        self._deviation = np.zeros(series)  # sum of squared deviations from the mean
        self._minimum = np.full(series, np.inf)
        self._maximum = np.full(series, -np.inf)

    def update(self, values: Values) -> None:
        """Take in more values; those that are not finite are left out.

        Args:
            values: `(series, N)`.
        """
        finite = np.isfinite(values)
        count = finite.sum(axis=1)
        known = np.where(finite, values, 0.0)
        # The first finite value as origin keeps the mean of nearly equal values exact.
        origin = known[np.arange(len(values)), np.argmax(finite, axis=1)] if values.shape[1] else np.zeros(len(values))
        shifted = np.where(finite, values - origin[:, None], 0.0)
        mean = origin + shifted.sum(axis=1) / np.maximum(count, 1)
        deviation = np.where(finite, (values - mean[:, None]) ** 2, 0.0).sum(axis=1)
        total = self._count + count
        share = count / np.maximum(total, 1)
        gap = mean - self._mean
        self._deviation += np.where(count > 0, deviation + gap**2 * self._count * share, 0.0)
        self._mean += np.where(count > 0, gap * share, 0.0)
        self._count = total
        self._minimum = np.minimum(self._minimum, np.where(finite, values, np.inf).min(axis=1, initial=np.inf))
        self._maximum = np.maximum(self._maximum, np.where(finite, values, -np.inf).max(axis=1, initial=-np.inf))

    def summaries(self) -> tuple[Summary, ...]:
        """Return the statistics of each series; NaN where it has no finite value."""
        return tuple(self._summary(index) for index in range(len(self._count)))

    def _summary(self, index: int) -> Summary:
        count = int(self._count[index])
        if not count:
            return Summary(0, float("nan"), float("nan"), float("nan"), float("nan"))
        std = float(np.sqrt(self._deviation[index] / count))
        values = (self._mean[index], std, self._minimum[index], self._maximum[index])
        return Summary(count, *(float(value) for value in values))
