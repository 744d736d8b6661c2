"""Statistics gathered in shards and merged: the same summary as gathered in one piece, to 1e-9, whatever the shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgc_graph.analysis.targets import Target
from pgc_graph.images import SkippedImage
from pgc_graph.results import to_data
from pgc_graph.studies.ablation.collect import KEPT, Collector
from pgc_graph.studies.ablation.scores import Scores
from pgc_graph.studies.ablation.stats import RunningStats

GATES, IMAGES = 3, 60
LABELS = ("left", "1", "0", "")


@st.composite
def shardings(draw: st.DrawFn) -> list[list[int]]:
    """Split the positions of all images over up to six shards, in any manner; shards may be empty."""
    owner = draw(st.lists(st.integers(0, 5), min_size=IMAGES, max_size=IMAGES))
    return [[position for position, shard in enumerate(owner) if shard == index] for index in range(6)]


def scores_of(positions: Sequence[int]) -> tuple[Scores, np.ndarray, list[str]]:
    """Scores, truth and labels of all images, cut down to some; a few scores are no numbers."""
    rng = np.random.default_rng(4)
    predicted, truth = rng.integers(0, 4, (GATES + 1, IMAGES)), rng.integers(-1, 4, IMAGES)
    values = rng.random((4, GATES + 1, IMAGES)) * 1e-4 + 0.99
    values[:, rng.random((GATES + 1, IMAGES)) < 0.1] = np.nan
    (prob, logit, loss, _), classes = values, rng.integers(0, 2, IMAGES)
    whole = Scores(
        prob[0], prob[1:], logit[0], logit[1:], classes, predicted[0], predicted[1:], loss[0], loss[1:]
    )  # fmt: skip
    labels = [LABELS[index % len(LABELS)] for index in range(IMAGES)]
    return whole.rows(positions), truth[list(positions)], [labels[position] for position in positions]


def collected(positions: Sequence[int], size: int) -> Collector:
    targets = [Target(f"t{index}", f"n{index}", "Mul") for index in range(GATES)]
    collector = Collector(targets, has_logit=True, rank_by="delta")
    for start in range(0, len(positions), size):
        chunk = positions[start : start + size]
        scores, truth, labels = scores_of(chunk)
        paths = [Path(f"{position}.png") for position in chunk]
        collector.add(paths, scores, labels, truth, np.asarray(chunk, np.int64))
    return collector


def everything(collector: Collector) -> dict[str, Any]:
    names = ("ranking", "baseline", "baseline_logit", "quality", "labels")
    found = {name: to_data(getattr(collector, name)()) for name in names}
    return {**found, "images": to_data(collector.images), "count": collector.image_count}


def assert_close(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_close(value, other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_close(first, second)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12)
    else:
        assert one == other


@given(shards=shardings(), order=st.permutations(range(6)), size=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_any_sharding_collects_the_same(shards: list[list[int]], order: list[int], size: int) -> None:
    merged = collected([], 1)
    for index in order:
        merged.merge(collected(shards[index], size))
    assert_close(everything(merged), everything(collected(range(IMAGES), 7)))


@given(
    spread=st.sampled_from([0.0, 1e-9, 1.0, 1e6]),
    centre=st.floats(-1e6, 1e6),
    cuts=st.lists(st.integers(0, 500), max_size=8),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_any_sharding_has_the_same_statistics(spread: float, centre: float, cuts: list[int], seed: int) -> None:
    values = centre + spread * np.random.default_rng(seed).normal(size=(2, 500))
    merged = RunningStats(2)
    for part in np.split(np.random.default_rng(seed).permutation(500), sorted(cuts)):
        stats = RunningStats(2)
        stats.update(values[:, part], part)
        merged.merge(stats)
    for summary, row in zip(merged.summaries(), values, strict=True):
        assert summary.count == 500
        assert summary.mean == pytest.approx(row.mean(), rel=1e-9, abs=1e-12)
        assert summary.std == pytest.approx(row.std(), rel=1e-9, abs=1e-9)
        assert (summary.min, summary.max) == (row.min(), row.max())
        assert dataclasses.astuple(summary.quantiles) == tuple(np.quantile(row, [0.05, 0.25, 0.5, 0.75, 0.95]))


def test_sample_of_many_values_is_the_same_in_shards_of_any_size() -> None:
    values = np.random.default_rng(2).exponential(size=(1, 50_000)).cumsum(axis=1)  # sorted: order must not matter
    whole = RunningStats(1)
    whole.update(values)
    for shards in (3, 40):
        merged = RunningStats(1)
        for part in reversed(np.array_split(np.random.default_rng(shards).permutation(50_000), shards)):
            stats = RunningStats(1)
            for piece in np.array_split(part, 5):
                stats.update(values[:, piece], piece)
            merged.merge(stats)
        assert merged.summaries()[0].quantiles == whole.summaries()[0].quantiles


def test_merging_leaves_the_other_as_it_is() -> None:
    other = collected(range(20, 40), 6)
    before = everything(other)
    collected(range(20), 6).merge(other)
    assert everything(other) == before


def test_what_does_not_belong_together_is_not_merged() -> None:
    with pytest.raises(ValueError, match="2 series into those of 3"):
        RunningStats(3).merge(RunningStats(2))
    with pytest.raises(ValueError, match="under others"):
        collected([], 1).merge(Collector([Target("x", "y", "Mul")], has_logit=True))


def test_only_the_first_images_are_remembered() -> None:
    def shard(first: int, count: int) -> Collector:
        collector = Collector([Target("t", "n", "Mul")], has_logit=False)
        zeros = np.zeros(count)
        scores = Scores(zeros, zeros[None], None, None, zeros.astype(int))
        names = [Path(str(first + index)) for index in range(count)]
        collector.add(names, scores, positions=np.arange(first, first + count))
        collector.skip([SkippedImage(path, "broken") for path in names])
        return collector

    merged = shard(KEPT // 2, KEPT)
    merged.merge(shard(0, KEPT // 2))
    assert [image.path.name for image in merged.images] == [str(index) for index in range(KEPT)]
    assert (merged.image_count, merged.skipped_count, len(merged.skipped)) == (KEPT * 3 // 2, KEPT * 3 // 2, KEPT)
