"""Streaming statistics in float64, without sums of squares, which cancel where the spread is small.

Two groups of values are merged by Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for
computing sample variances"; with one value in a group this is Welford's (1962) update.

Quantiles are exact as long as all values fit into the sample (by default 8,192 columns for up to 256 series). Beyond, from
a sample of the columns: those whose position has the smallest hash, so that the same columns are taken however they arrive,
and in whatever parts they are gathered and merged. With 8,192 the share of values below a quoted median is within 1.1
points of one half (95 %).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgc_graph.studies.ablation.hashing import scatter
from pgc_graph.studies.ablation.result import Quantiles, Summary

__all__ = ["SAMPLE", "RunningStats"]

Values = NDArray[np.float64]

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
SAMPLE = 8192
"""Columns that quantiles are taken from."""
_SMALLEST_SAMPLE, _SAMPLE_VALUES = 1024, 8192 * 256
_NORMAL_95 = 1.959963984540054  # the 0.975 quantile of the standard normal distribution
_NAN = float("nan")


class RunningStats:
    """Mean, standard deviation, extremes and quantiles of several series that grow together."""

    def __init__(self, series: int, *, sample: int = SAMPLE) -> None:
        """Begin with nothing.

        Args:
            series: How many series there are.
            sample: Most columns that quantiles are taken from; 0 where nobody asks for quantiles, which are NaN then.
        """
        self._count = np.zeros(series, np.int64)
        self._mean = np.zeros(series)
        self._deviation = np.zeros(series)  # sum of squared deviations from the mean
        self._minimum = np.full(series, np.inf)
        self._maximum = np.full(series, -np.inf)
        self._sample = _Sample(series, sample)

    def update(self, values: Values, positions: NDArray[np.int64] | None = None) -> None:
        """Take in more values; those that are not finite are left out.

        Args:
            values: `(series, N)`.
            positions: `(N,)`, where the columns stand among all, each to be seen once; by default they are counted.
        """
        self._sample.update(values, positions)
        finite = np.isfinite(values)
        count = finite.sum(axis=1)
        known = np.where(finite, values, 0.0)
        # The first finite value as origin keeps the mean of nearly equal values exact.
        origin = known[np.arange(len(values)), np.argmax(finite, axis=1)] if values.shape[1] else np.zeros(len(values))
        shifted = np.where(finite, values - origin[:, None], 0.0)
        mean = origin + shifted.sum(axis=1) / np.maximum(count, 1)
        deviation = np.where(finite, (values - mean[:, None]) ** 2, 0.0).sum(axis=1)
        minimum = np.where(finite, values, np.inf).min(axis=1, initial=np.inf)
        maximum = np.where(finite, values, -np.inf).max(axis=1, initial=-np.inf)
        self._add(count, mean, deviation, minimum, maximum)

    def merge(self, other: RunningStats) -> None:
        """Take in what another has gathered of the same series at other positions; the other one stays as it is.

        Raises:
            ValueError: The other one has another number of series.
        """
        if len(other._count) != len(self._count):
            raise ValueError(f"cannot merge statistics of {len(other._count)} series into those of {len(self._count)}")
        self._sample.merge(other._sample)
        self._add(other._count, other._mean, other._deviation, other._minimum, other._maximum)

    def _add(self, count: NDArray[np.int64], mean: Values, deviation: Values, minimum: Values, maximum: Values) -> None:
        """Take in groups of values of which these figures are known, `(series,)` each."""
        total = self._count + count
        share = count / np.maximum(total, 1)
        gap = mean - self._mean
        self._deviation += np.where(count > 0, deviation + gap**2 * self._count * share, 0.0)
        self._mean += np.where(count > 0, gap * share, 0.0)
        self._count = total
        self._minimum = np.minimum(self._minimum, minimum)
        self._maximum = np.maximum(self._maximum, maximum)

    def summaries(self) -> tuple[Summary, ...]:
        """Return the statistics of each series; NaN where it has no finite value."""
        return tuple(self._summary(index) for index in range(len(self._count)))

    def means(self) -> Values:
        """Return the mean of each series, `(series,)`; NaN where it has no finite value."""
        return np.where(self._count > 0, self._mean, _NAN)

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
    """Some of the columns of several series: all of them, or those whose position has the smallest hash."""

    def __init__(self, series: int, size: int) -> None:
        self._size = min(size, max(_SAMPLE_VALUES // max(series, 1), _SMALLEST_SAMPLE))
        self._room = self._size + self._size // 4
        self._seen = 0
        self._shares: Values | None = None
        self._columns = 0
        self._keys = np.zeros(0, np.uint64)
        self._values: Values = np.zeros((series, 0))  # the first `_columns` columns count; the others are room

    def update(self, values: Values, positions: NDArray[np.int64] | None) -> None:
        count = values.shape[1]
        if positions is None:
            positions = np.arange(self._seen, self._seen + count, dtype=np.int64)
        self._seen += count
        if count:
            self._take(scatter(positions.astype(np.uint64)), values)

    def merge(self, other: _Sample) -> None:
        self._seen += other._seen
        self._take(other._keys[: other._columns], other._values[:, : other._columns])

    def quantiles(self, index: int) -> Quantiles:
        if self._shares is None:
            self._shares = self._all_shares()
        return Quantiles(*self._shares[:, index].tolist())

    def _all_shares(self) -> Values:
        """Return `(5, series)`: all quantiles at once, since thousands of small calls take long."""
        shares = np.full((len(_SHARES), len(self._values)), _NAN)
        self._shrink()
        if not self._columns:
            return shares
        values = self._values[:, : self._columns]
        finite = np.isfinite(values)
        whole = finite.all(axis=1)
        shares[:, whole] = np.quantile(values[whole], _SHARES, axis=1)
        # Where the few finite values, if any, lie outside of the sample, there is none.
        for row in np.flatnonzero(~whole & finite.any(axis=1)).tolist():
            shares[:, row] = np.quantile(values[row, finite[row]], _SHARES)
        return shares

    def _take(self, keys: NDArray[np.uint64], values: Values) -> None:
        self._shares = None
        if not self._size:
            return
        if self._columns >= self._size:  # most columns of a long series go no further than this
            chosen = keys < self._keys[: self._columns].max()
            keys, values = keys[chosen], values[:, chosen]
        for start in range(0, len(keys), self._size // 4):
            self._add(keys[start : start + self._size // 4], values[:, start : start + self._size // 4])

    def _add(self, keys: NDArray[np.uint64], values: Values) -> None:
        """Take in at most as many columns as there is room for beyond the size."""
        if self._columns + len(keys) > self._room:
            self._shrink()
        end = self._columns + len(keys)
        if end > len(self._keys):
            more = min(self._room, max(end, 2 * len(self._keys))) - len(self._keys)
            self._keys = np.concatenate([self._keys, np.zeros(more, np.uint64)])
            self._values = np.concatenate([self._values, np.zeros((len(self._values), more))], axis=1)
        self._keys[self._columns : end], self._values[:, self._columns : end] = keys, values
        self._columns = end

    def _shrink(self) -> None:
        if self._columns > self._size:
            order = np.argpartition(self._keys[: self._columns], self._size - 1)[: self._size]
            self._keys[: self._size], self._values[:, : self._size] = self._keys[order], self._values[:, order]
            self._columns = self._size
