"""What an ablation finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pgc_graph.analysis.targets import Target
from pgc_graph.images import SkippedImage
from pgc_graph.passes.rewrite import Skip

__all__ = ["AblationResult", "EngineReport", "GateImpact", "ImageBaseline", "Summary"]


@dataclass(frozen=True)
class Summary:
    """Statistics of some finite numbers; NaN (null in JSON) where there is none.

    Attributes:
        count: How many.
        mean: Their mean.
        std: Their population standard deviation.
        min: The smallest.
        max: The largest.
    """

    count: int
    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class ImageBaseline:
    """An image's score without gates.

    Attributes:
        path: The file.
        prob: The score.
        logit: The tensor before the last Sigmoid or Softmax, or None where there is none.
        scored_class: Which column of the output is scored: the largest of this image's.
    """

    path: Path
    prob: float
    logit: float | None
    scored_class: int


@dataclass(frozen=True)
class GateImpact:
    """What scaling one tensor does to the score.

    Attributes:
        rank: From 1, by the mean Δ, then the mean Δ of the logit, both descending, then graph order.
        position: Where the tensor stands among the targets, from 0.
        target: The tensor.
        delta: Of the baseline minus the score with the gate: positive where the tensor speaks for the class.
        prob: Of the score with the gate.
        logit_delta: As `delta`, of the logit; None where the model has none.
        non_finite: For how many images the score with the gate is NaN or infinite; these are left out.
    """

    rank: int
    position: int
    target: Target
    delta: Summary
    prob: Summary
    logit_delta: Summary | None
    non_finite: int


@dataclass(frozen=True)
class EngineReport:
    """How the numbers were computed.

    Attributes:
        provider: Where the model ran.
        method: `planned` (what depends on the gates, a batch at a time) or `plain` (each gate and image by itself).
        note: Why the plain way was taken (`few images`, or what is wrong with the plan), or empty.
        suffix_runs: Different results that depend on the image, for all gates together.
        constant_gates: Gates that cut the graph: with them, the score is the same number for all images.
        self_check: The largest |Δ| between the planned and the plain way on two images; None if not planned.
    """

    provider: str
    method: str
    note: str
    suffix_runs: int
    constant_gates: int
    self_check: float | None


@dataclass(frozen=True)
class AblationResult:
    """The outcome of an ablation.

    Attributes:
        score_output: The model's output that is scored.
        value: What the tensors were scaled by.
        baseline: Statistics of the scores without gates.
        baseline_logit: The same of the logits, or None.
        gates: One a tensor, ranked.
        images: The images that were scored, in order.
        skipped_images: Images that could not be read.
        skipped_tensors: Tensors that could not be gated.
        interrupted: Whether it was stopped before all images were scored.
        engine: How the numbers were computed.
    """

    score_output: str
    value: float
    baseline: Summary
    baseline_logit: Summary | None
    gates: tuple[GateImpact, ...]
    images: tuple[ImageBaseline, ...]
    skipped_images: tuple[SkippedImage, ...]
    skipped_tensors: tuple[Skip, ...]
    interrupted: bool
    engine: EngineReport
