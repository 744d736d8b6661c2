"""RunningStats against numpy on the whole series, where sums of squares fail and where values are missing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pgc_graph.studies.ablation.stats import RunningStats


def streamed(values: np.ndarray, size: int) -> RunningStats:
    stats = RunningStats(len(values))
    for start in range(0, values.shape[1], size):
        stats.update(values[:, start : start + size])
    return stats


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("centre", "spread"), [(0.99999, 1e-9), (1e4, 1e-4), (0.0, 1.0), (-3.0, 0.0)], ids=str)
def test_tiny_spread_far_from_zero_is_measured(centre: float, spread: float, size: int) -> None:
    values = centre + spread * np.random.default_rng(0).normal(size=(2, 1000))
    (first, second) = streamed(values, size).summaries()
    for summary, row in zip((first, second), values, strict=True):
        assert summary.count == 1000
        assert summary.mean == pytest.approx(row.mean(), rel=1e-14, abs=1e-15)
        assert summary.std == pytest.approx(row.std(), rel=1e-5, abs=1e-15)
        assert (summary.min, summary.max) == (row.min(), row.max())


@given(
    values=arrays(
        np.float64,
        array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.floats(-1e3, 1e3) | st.sampled_from([np.nan, np.inf, -np.inf]),
    ),
    size=st.integers(1, 9),
)
def test_values_that_are_not_finite_are_left_out(values: np.ndarray, size: int) -> None:
    for summary, row in zip(streamed(values, size).summaries(), values, strict=True):
        finite = row[np.isfinite(row)]
        assert summary.count == len(finite)
        if len(finite):
            assert summary.mean == pytest.approx(finite.mean(), abs=1e-10)
            assert summary.std == pytest.approx(finite.std(), abs=1e-9)
            assert (summary.min, summary.max) == (finite.min(), finite.max())
            expected = np.quantile(finite, [0.05, 0.25, 0.5, 0.75, 0.95])
            assert dataclasses.astuple(summary.quantiles) == pytest.approx(expected, abs=1e-12)
            if len(finite) > 1:
                half = 1.959963984540054 * np.sqrt(finite.var(ddof=1) / len(finite))
                assert summary.interval == pytest.approx((finite.mean() - half, finite.mean() + half), abs=1e-6)
            else:
                assert np.isnan(summary.interval).all()
        else:
            assert np.isnan([summary.mean, summary.std, summary.min, summary.max]).all()


def test_quantiles_are_exact_up_to_8192_values() -> None:
    values = np.random.default_rng(1).exponential(size=(2, 8192))
    for summary, row in zip(streamed(values, 100).summaries(), values, strict=True):
        assert dataclasses.astuple(summary.quantiles) == pytest.approx(np.quantile(row, [0.05, 0.25, 0.5, 0.75, 0.95]))


def test_quantiles_of_many_values_come_from_the_same_sample_however_they_arrive() -> None:
    values = np.random.default_rng(2).exponential(size=(1, 100_000)).cumsum(axis=1)  # sorted: order must not matter
    found = [streamed(values, size).summaries()[0].quantiles for size in (7, 1000, 100_000)]
    assert found[0] == found[1] == found[2]
    shares = [np.mean(values[0] < value) for value in dataclasses.astuple(found[0])]
    # Four standard errors of a share that 8,192 values tell.
    for share, wanted in zip(shares, [0.05, 0.25, 0.5, 0.75, 0.95], strict=True):
        assert share == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / 8192))
        assert share != wanted  # it is a sample
