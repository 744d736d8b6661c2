"""Gather scores batch by batch and rank the gates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.targets import Target
from pgc_graph.studies.ablation.result import GateImpact, ImageBaseline, Summary
from pgc_graph.studies.ablation.scores import Scores
from pgc_graph.studies.ablation.stats import RunningStats

__all__ = ["Collector"]


class Collector:
    """Statistics over all batches so far."""

    def __init__(self, targets: Sequence[Target], *, has_logit: bool) -> None:
        self._targets = tuple(targets)
        self._has_logit = has_logit
        self._baseline, self._baseline_logit = RunningStats(1), RunningStats(1)
        gates = len(self._targets)
        self._delta, self._prob, self._logit = RunningStats(gates), RunningStats(gates), RunningStats(gates)
        self._non_finite = np.zeros(gates, np.int64)
        self.images: list[ImageBaseline] = []

    def add(self, paths: Sequence[Path], scores: Scores) -> None:
        """Take in a batch."""
        logits = [None] * len(paths) if scores.baseline_logit is None else scores.baseline_logit.tolist()
        rows = zip(paths, scores.baseline.tolist(), logits, scores.classes.tolist(), strict=True)
        self.images.extend(ImageBaseline(*row) for row in rows)
        self._baseline.update(scores.baseline[None])
        self._prob.update(scores.ablated)
        self._delta.update(_difference(scores.baseline, scores.ablated))
        self._non_finite += np.sum(~np.isfinite(scores.ablated), axis=1)
        if scores.baseline_logit is not None and scores.ablated_logit is not None:
            self._baseline_logit.update(scores.baseline_logit[None])
            self._logit.update(_difference(scores.baseline_logit, scores.ablated_logit))

    def baseline(self) -> Summary:
        """Return the statistics of the scores without gates."""
        return self._baseline.summaries()[0]

    def baseline_logit(self) -> Summary | None:
        """Return the statistics of the logits without gates."""
        return self._baseline_logit.summaries()[0] if self._has_logit else None

    def ranking(self) -> tuple[GateImpact, ...]:
        """Return the gates: mean Δ, then mean Δ of the logit, both descending, then graph order; NaN last."""
        deltas, probs, logits = self._delta.summaries(), self._prob.summaries(), self._logit.summaries()

        def key(gate: int) -> tuple[float, float, int]:
            return _descending(deltas[gate].mean), _descending(logits[gate].mean), gate

        order = sorted(range(len(self._targets)), key=key)
        return tuple(
            GateImpact(
                rank=rank,
                position=gate,
                target=self._targets[gate],
                delta=deltas[gate],
                prob=probs[gate],
                logit_delta=logits[gate] if self._has_logit else None,
                non_finite=int(self._non_finite[gate]),
            )
            for rank, gate in enumerate(order, start=1)
        )


def _difference(baseline: NDArray[np.float64], ablated: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinity minus infinity; such values are counted apart
        difference: NDArray[np.float64] = baseline - ablated
    return difference


def _descending(value: float) -> float:
    return float("inf") if np.isnan(value) else -value
