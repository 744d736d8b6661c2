"""Streaming statistics in float64, without sums of squares, which cancel where the spread is small.

Two groups of values are merged by Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for
computing sample variances"; with one value in a group this is Welford's (1962) update.

Quantiles are exact as long as all values fit into the sample (8,192 columns for up to 256 series). Beyond, they come from
a sample of the columns: those whose number has the smallest hash, so that the same columns are taken however they arrive.
With 8,192 the share of values below a quoted median is within 1.1 points of one half (95 %).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgc_graph.studies.ablation.hashing import scatter
from pgc_graph.studies.ablation.result import Quantiles, Summary

__all__ = ["RunningStats"]

Values = NDArray[np.float64]

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SAMPLE, _SMALLEST_SAMPLE, _SAMPLE_VALUES = 8192, 1024, 8192 * 256
_NORMAL_95 = 1.959963984540054  # the 0.975 quantile of the standard normal distribution
_NAN = float("nan")


class RunningStats:
    """Mean, standard deviation, extremes and quantiles of several series that grow together."""

    def __init__(self, series: int) -> None:
        self._count = np.zeros(series, np.int64)
        self._mean = np.zeros(series)
        self._deviation = np.zeros(series)  # sum of squared deviations from the mean
        self._minimum = np.full(series, np.inf)
        self._maximum = np.full(series, -np.inf)
        self._sample = _Sample(series)

    def update(self, values: Values) -> None:
        """Take in more values; those that are not finite are left out.

        Args:
            values: `(series, N)`.
        """
        self._sample.update(values)
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
            return Summary(0, _NAN, _NAN, _NAN, _NAN, (_NAN, _NAN), Quantiles(*(_NAN,) * len(_SHARES)))
        mean, deviation = float(self._mean[index]), float(self._deviation[index])
        half = _NORMAL_95 * float(np.sqrt(deviation / (count - 1) / count)) if count > 1 else _NAN
        extremes = float(self._minimum[index]), float(self._maximum[index])
        interval = mean - half, mean + half
        return Summary(
            count, mean, float(np.sqrt(deviation / count)), *extremes, interval, self._sample.quantiles(index)
        )


class _Sample:
    """Some of the columns of several series: all of them, or those whose number has the smallest hash."""

    def __init__(self, series: int) -> None:
        self._size = int(np.clip(_SAMPLE_VALUES // max(series, 1), _SMALLEST_SAMPLE, _SAMPLE))
        self._seen = 0
        self._keys = np.zeros(0, np.uint64)
        self._kept: list[Values] = []
        self._columns = 0

    def update(self, values: Values) -> None:
        count = values.shape[1]
        keys = scatter(np.arange(self._seen, self._seen + count, dtype=np.uint64))
        self._seen += count
        if self._columns >= self._size:  # most columns of a long series go no further than this
            chosen = keys < self._keys.max()
            keys, values = keys[chosen], values[:, chosen]
        if len(keys):
            self._keys = np.concatenate([self._keys, keys])
            self._kept.append(values.copy())
            self._columns += len(keys)
        if self._columns > 2 * self._size:
            self._shrink()

    def quantiles(self, index: int) -> Quantiles:
        if self._columns > self._size or len(self._kept) > 1:
            self._shrink()
        row = self._kept[0][index] if self._kept else np.zeros(0)
        row = row[np.isfinite(row)]
        if not len(row):  # the few finite values, if any, lie outside of the sample
            return Quantiles(*(_NAN,) * len(_SHARES))
        return Quantiles(*(float(value) for value in np.quantile(row, _SHARES)))

    def _shrink(self) -> None:
        together = np.concatenate(self._kept, axis=1)
        order = np.argsort(self._keys, kind="stable")[: self._size]
        self._keys, self._kept, self._columns = self._keys[order], [together[:, order]], len(order)
