"""Gather scores batch by batch, for all images and for those with each label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.targets import Target
from pgc_graph.studies.ablation.classes import class_index
from pgc_graph.studies.ablation.quality import QualityCounter
from pgc_graph.studies.ablation.rank import ranked
from pgc_graph.studies.ablation.result import GateImpact, ImageBaseline, LabelBaseline, LabelImpact, Quality, Summary
from pgc_graph.studies.ablation.scores import Scores
from pgc_graph.studies.ablation.stats import RunningStats

__all__ = ["Collector"]


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
        self.images: list[ImageBaseline] = []

    def add(
        self,
        paths: Sequence[Path],
        scores: Scores,
        labels: Sequence[str] | None = None,
        truth: NDArray[np.int64] | None = None,
    ) -> None:
        """Take in a batch of N images.

        Args:
            paths: The files.
            scores: Their scores.
            labels: What they are labelled as, an empty text for nothing.
            truth: `(N,)`, the class that each label names, -1 for none; None where no label does.
        """
        logits = [None] * len(paths) if scores.baseline_logit is None else scores.baseline_logit.tolist()
        shown = [label or None for label in labels or [""] * len(paths)]
        rows = zip(paths, scores.baseline.tolist(), logits, scores.classes.tolist(), shown, strict=True)
        self.images.extend(ImageBaseline(*row) for row in rows)
        self._non_finite += np.sum(~np.isfinite(scores.ablated), axis=1)
        self._all.add(scores, truth)
        for label in dict.fromkeys(filter(None, shown)):
            index = [row for row, other in enumerate(shown) if other == label]
            group = self._labels.setdefault(label, _Group(len(self._targets), has_logit=self._has_logit))
            group.add(scores.rows(index), None if truth is None else truth[index])

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

    def __init__(self, gates: int, *, has_logit: bool) -> None:
        self._has_logit = has_logit
        self.images = 0
        self.baseline, self.baseline_logit = RunningStats(1), RunningStats(1)
        self._delta, self._prob, self._logit = RunningStats(gates), RunningStats(gates), RunningStats(gates)
        self._quality = QualityCounter(gates)
        self._is_judged = False

    def add(self, scores: Scores, truth: NDArray[np.int64] | None) -> None:
        self.images += len(scores.baseline)
        self.baseline.update(scores.baseline[None])
        self._prob.update(scores.ablated)
        self._delta.update(_difference(scores.baseline, scores.ablated))
        if scores.baseline_logit is not None and scores.ablated_logit is not None:
            self.baseline_logit.update(scores.baseline_logit[None])
            self._logit.update(_difference(scores.baseline_logit, scores.ablated_logit))
        if truth is not None:
            self._quality.add(scores, truth)
            self._is_judged = self._is_judged or bool((truth >= 0).any())

    def impacts(self) -> tuple[Sequence[Summary], Sequence[Summary], Sequence[Summary | None]]:
        """Return the statistics of Δ, of the score and of the logit's Δ, one a gate."""
        probs = self._prob.summaries()
        logits: Sequence[Summary | None] = self._logit.summaries() if self._has_logit else (None,) * len(probs)
        return self._delta.summaries(), probs, logits

    def qualities(self) -> tuple[Quality, ...]:
        """Return the quality without gates, then with each; nothing where no label names a class."""
        return self._quality.results() if self._is_judged else ()


def _accuracy(qualities: Sequence[Quality], row: int) -> float | None:
    return qualities[row].accuracy if qualities else None


def _difference(baseline: NDArray[np.float64], ablated: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinity minus infinity; such values are counted apart
        difference: NDArray[np.float64] = baseline - ablated
    return difference
