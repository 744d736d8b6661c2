"""Gather scores batch by batch, for all images and for those with each label, in memory that does not grow with them.

Parts of a study that were gathered apart are merged: into the same figures to 1e-9, whatever the parts were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.targets import Target
from pgc_graph.images import SkippedImage
from pgc_graph.studies.ablation.classes import class_index
from pgc_graph.studies.ablation.quality import QualityCounter
from pgc_graph.studies.ablation.rank import ranked
from pgc_graph.studies.ablation.result import GateImpact, ImageBaseline, LabelBaseline, LabelImpact, Quality, Summary
from pgc_graph.studies.ablation.scores import Scores
from pgc_graph.studies.ablation.stats import SAMPLE, RunningStats

__all__ = ["KEPT", "LABEL_SAMPLE", "Collector"]

KEPT = 1000
"""Images that are remembered one by one, scored and skipped ones each; the others are only counted."""

LABEL_SAMPLE = 2048
"""Images with one label whose quantiles are exact; those of more images are taken from so many."""


class Collector:
    """Statistics over all batches so far."""

    def __init__(
        self, targets: Sequence[Target], *, has_logit: bool, names: Sequence[str] = (), rank_by: str = "delta"
    ) -> None:
        self._targets = tuple(targets)
        self._names, self._rank_by, self._has_logit = tuple(names), rank_by, has_logit
        self._all = _Group(len(self._targets), has_logit=has_logit)
        self._labels: dict[str, _Group] = {}
        self._non_finite = np.zeros(len(self._targets), np.int64)
        self._images: list[tuple[int, ImageBaseline]] = []
        self._skipped: list[SkippedImage] = []
        self.skipped_count = 0

    def add(
        self,
        paths: Sequence[Path],
        scores: Scores,
        labels: Sequence[str] | None = None,
        truth: NDArray[np.int64] | None = None,
        positions: NDArray[np.int64] | None = None,
    ) -> None:
        """Take in a batch of N images.

        Args:
            paths: The files.
            scores: Their scores.
            labels: What they are labelled as, an empty text for nothing.
            truth: `(N,)`, the class that each label names, -1 for none; None where no label does.
            positions: `(N,)`, where the images stand among all, each to be seen once; by default they are counted.
        """
        if positions is None:
            positions = np.arange(self.image_count, self.image_count + len(paths), dtype=np.int64)
        shown = [label or None for label in labels or [""] * len(paths)]
        if len(self._images) < KEPT or (positions < self._images[-1][0]).any():
            self._keep(zip(positions.tolist(), _rows(paths, scores, shown), strict=True))
        self._non_finite += np.sum(~np.isfinite(scores.ablated), axis=1)
        self._all.add(scores, truth, positions)
        for label in dict.fromkeys(filter(None, shown)):
            index = [row for row, other in enumerate(shown) if other == label]
            group = self._group(label)
            group.add(scores.rows(index), None if truth is None else truth[index], positions[index])

    def skip(self, skipped: Sequence[SkippedImage]) -> None:
        """Take note of images that could not be read."""
        self.skipped_count += len(skipped)
        self._skipped.extend(skipped[: KEPT - len(self._skipped)])

    def merge(self, other: Collector) -> None:
        """Take in what another has gathered of other images under the same gates; the other one stays as it is.

        Raises:
            ValueError: The other one has other gates.
        """
        if other._targets != self._targets:
            raise ValueError("cannot merge the scores under some gates with those under others")
        self._keep(other._images)
        self.skipped_count += other.skipped_count
        self._skipped.extend(other._skipped[: KEPT - len(self._skipped)])
        self._non_finite += other._non_finite
        self._all.merge(other._all)
        for label, theirs in other._labels.items():
            self._group(label).merge(theirs)

    def _group(self, label: str) -> _Group:
        if label not in self._labels:
            self._labels[label] = _Group(len(self._targets), has_logit=self._has_logit, sample=LABEL_SAMPLE)
        return self._labels[label]

    def _keep(self, rows: Iterable[tuple[int, ImageBaseline]]) -> None:
        self._images = sorted([*self._images, *rows], key=lambda row: row[0])[:KEPT]

    @property
    def image_count(self) -> int:
        """How many images were scored."""
        return self._all.images

    @property
    def images(self) -> tuple[ImageBaseline, ...]:
        """The first `KEPT` images."""
        return tuple(image for _, image in self._images)

    @property
    def skipped(self) -> tuple[SkippedImage, ...]:
        """The first `KEPT` images that could not be read."""
        return tuple(self._skipped)

    def baseline(self) -> Summary:
        """Return the statistics of the scores without gates."""
        return self._all.baseline.summaries()[0]

    def baseline_logit(self) -> Summary | None:
        """Return the statistics of the logits without gates."""
        return self._all.baseline_logit.summaries()[0] if self._has_logit else None

    def quality(self) -> Quality | None:
        """Return how good the classifier is without gates."""
        qualities = self._all.qualities()
        return qualities[0] if qualities else None

    def labels(self) -> tuple[LabelBaseline, ...]:
        """Return the statistics of the images with each label, without gates."""
        return tuple(
            LabelBaseline(label, group.images, group.baseline.summaries()[0], _accuracy(group.qualities(), 0))
            for label, group in self._in_order()
        )

    def ranking(self) -> tuple[GateImpact, ...]:
        """Return the gates, ranked."""
        deltas, probs, logits = self._all.impacts()
        qualities = self._all.qualities()
        by_label = self._label_impacts()
        impacts = [
            GateImpact(
                rank=0,
                position=gate,
                target=target,
                delta=deltas[gate],
                prob=probs[gate],
                logit_delta=logits[gate],
                non_finite=int(self._non_finite[gate]),
                quality=qualities[gate + 1] if qualities else None,
                labels=by_label[gate],
            )
            for gate, target in enumerate(self._targets)
        ]
        return ranked(impacts, self._rank_by, self.quality())

    def _label_impacts(self) -> list[tuple[LabelImpact, ...]]:
        found: list[list[LabelImpact]] = [[] for _ in self._targets]
        for label, group in self._in_order():
            deltas, probs, logits = group.impacts()
            qualities = group.qualities()
            for gate, row in enumerate(found):
                accuracy = _accuracy(qualities, gate + 1)
                row.append(LabelImpact(label, deltas[gate], probs[gate], logits[gate], accuracy))
        return [tuple(row) for row in found]

    def _in_order(self) -> list[tuple[str, _Group]]:
        def key(item: tuple[str, _Group]) -> tuple[bool, int, str]:
            index = class_index(item[0], self._names)
            return index is None, index or 0, item[0]

        return sorted(self._labels.items(), key=key)


class _Group:
    """Statistics of some images."""

    def __init__(self, gates: int, *, has_logit: bool, sample: int = SAMPLE) -> None:
        self._has_logit = has_logit
        self.images = 0
        self.baseline, self.baseline_logit = RunningStats(1, sample=sample), RunningStats(1, sample=sample)
        self._delta, self._prob, self._logit = (RunningStats(gates, sample=sample) for _ in range(3))
        self._quality = QualityCounter(gates)
        self._is_judged = False

    def add(self, scores: Scores, truth: NDArray[np.int64] | None, positions: NDArray[np.int64]) -> None:
        self.images += len(scores.baseline)
        self.baseline.update(scores.baseline[None], positions)
        self._prob.update(scores.ablated, positions)
        self._delta.update(_difference(scores.baseline, scores.ablated), positions)
        if scores.baseline_logit is not None and scores.ablated_logit is not None:
            self.baseline_logit.update(scores.baseline_logit[None], positions)
            self._logit.update(_difference(scores.baseline_logit, scores.ablated_logit), positions)
        if truth is not None:
            self._quality.add(scores, truth, positions)
            self._is_judged = self._is_judged or bool((truth >= 0).any())

    def merge(self, other: _Group) -> None:
        self.images += other.images
        self.baseline.merge(other.baseline)
        self.baseline_logit.merge(other.baseline_logit)
        self._prob.merge(other._prob)
        self._delta.merge(other._delta)
        self._logit.merge(other._logit)
        self._quality.merge(other._quality)
        self._is_judged = self._is_judged or other._is_judged

    def impacts(self) -> tuple[Sequence[Summary], Sequence[Summary], Sequence[Summary | None]]:
        """Return the statistics of Δ, of the score and of the logit's Δ, one a gate."""
        probs = self._prob.summaries()
        logits: Sequence[Summary | None] = self._logit.summaries() if self._has_logit else (None,) * len(probs)
        return self._delta.summaries(), probs, logits

    def qualities(self) -> tuple[Quality, ...]:
        """Return the quality without gates, then with each; nothing where no label names a class."""
        return self._quality.results() if self._is_judged else ()


def _rows(paths: Sequence[Path], scores: Scores, labels: Sequence[str | None]) -> Iterator[ImageBaseline]:
    logits = [None] * len(paths) if scores.baseline_logit is None else scores.baseline_logit.tolist()
    columns = (paths, scores.baseline.tolist(), logits, scores.classes.tolist(), labels)
    return (ImageBaseline(*row) for row in zip(*columns, strict=True))


def _accuracy(qualities: Sequence[Quality], row: int) -> float | None:
    return qualities[row].accuracy if qualities else None


def _difference(baseline: NDArray[np.float64], ablated: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinity minus infinity; such values are counted apart
        difference: NDArray[np.float64] = baseline - ablated
    return difference
