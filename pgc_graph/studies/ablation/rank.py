"""Rank gates by what is lost without their tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from pgc_graph.errors import OptionError
from pgc_graph.studies.ablation.result import GateImpact, Quality

__all__ = ["RANKINGS", "importance", "ranked"]

RANKINGS = ("delta", "logit", "loss", "accuracy", "f1")
"""What gates can be ranked by: mean Δ of the score or of the logit, the rise of the loss, the fall of accuracy or F1."""


def ranked(gates: Sequence[GateImpact], rank_by: str, baseline: Quality | None) -> tuple[GateImpact, ...]:
    """Return gates in descending order of importance, then of mean Δ, then of the logit's, then in their own; NaN last.

    Args:
        gates: In graph order.
        rank_by: One of `RANKINGS`.
        baseline: How good the classifier is without gates.

    Raises:
        OptionError: The figures that it takes are missing.
    """

    def key(gate: GateImpact) -> tuple[float, float, float, int]:
        logit = math.nan if gate.logit_delta is None else gate.logit_delta.mean
        figures = (importance(gate, rank_by, baseline), gate.delta.mean, logit)
        first, second, third = (math.inf if math.isnan(figure) else -figure for figure in figures)
        return first, second, third, gate.position

    return tuple(dataclasses.replace(gate, rank=rank) for rank, gate in enumerate(sorted(gates, key=key), start=1))


def importance(gate: GateImpact, rank_by: str, baseline: Quality | None) -> float:
    """Return the figure that a gate is ranked by: the more is lost without its tensor, the higher.

    Raises:
        OptionError: The figure is missing, or there is no such ranking.
    """
    if rank_by not in RANKINGS:
        raise OptionError(f"cannot rank by {rank_by!r}; expected {', '.join(RANKINGS)}")
    if rank_by == "delta":
        return gate.delta.mean
    if rank_by == "logit":
        if gate.logit_delta is None:
            raise OptionError("cannot rank by logit: no Sigmoid or Softmax makes the score; rank by delta")
        return gate.logit_delta.mean
    if gate.quality is None or baseline is None:
        raise OptionError(f"cannot rank by {rank_by}: no image has a label that is a class of the model; give labels")
    losses = {
        "loss": gate.quality.loss - baseline.loss,
        "accuracy": baseline.accuracy - gate.quality.accuracy,
        "f1": baseline.f1 - gate.quality.f1,
    }
    return losses[rank_by]
