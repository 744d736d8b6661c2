"""What removing one thing after another finds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from pgc_graph.images import SkippedImage
from pgc_graph.passes.rewrite import Skip
from pgc_graph.studies.ablation.channels.engine import Way
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.result import Quality, Summary

__all__ = ["CumulativePoint", "CumulativeResult", "Removal", "area_under"]


@dataclass(frozen=True)
class Removal:
    """What is removed in one step: a tensor, or one of its channels."""

    tensor: str
    channel: int | None = None


@dataclass(frozen=True)
class CumulativePoint:
    """The classifier with the first so many removals.

    Attributes:
        removed: How many.
        last: The last of them; None where nothing is removed yet.
        prob: Of the score.
        delta: Of the baseline minus the score.
        logit_delta: As `delta`, of the logit; None where the model has none.
        non_finite: For how many images the score is NaN or infinite; these are left out.
        quality: How good the classifier is; None unless labels name classes of the model.
    """

    removed: int
    last: Removal | None
    prob: Summary
    delta: Summary
    logit_delta: Summary | None
    non_finite: int
    quality: Quality | None


@dataclass(frozen=True)
class CumulativeResult:
    """The outcome of removing one thing after another.

    Attributes:
        points: From nothing removed to everything; with fewer steps than removals, evenly spread.
        order: All removals, the least important first.
        area: Under the mean score against the share removed, between 0 and 1: high where little is lost for long.
        accuracy_area: The same of accuracy; None unless labels name classes of the model.
        images: How many images were scored.
        skipped_images: The first images that could not be read.
        skipped_count: How many could not be read.
        skipped_tensors: Tensors that could not be changed.
        interrupted: Whether it was stopped before all images were scored.
        way: How the numbers were computed: `planned` (one graph for all steps), `batched` or `plain`.
        intervention: What was done to what is removed.
    """

    points: tuple[CumulativePoint, ...]
    order: tuple[Removal, ...]
    area: float
    accuracy_area: float | None
    images: int
    skipped_images: tuple[SkippedImage, ...]
    skipped_count: int
    skipped_tensors: tuple[Skip, ...]
    interrupted: bool
    way: Way
    intervention: Intervention


def area_under(removed: Sequence[int], values: Sequence[float]) -> float:
    """Return the area under a curve by the trapezoidal rule, the removals scaled to [0, 1]; of one point, its value.

    Args:
        removed: How many are removed at each point, ascending from 0.
        values: The curve.
    """
    if len(values) == 1:
        return values[0]
    points = list(zip(removed, values, strict=True))
    steps = itertools.pairwise(points)
    return sum((after - before) * (low + high) / 2 for (before, low), (after, high) in steps) / removed[-1]
