"""What an ablation finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pgc_graph.analysis.targets import Target
from pgc_graph.images import SkippedImage
from pgc_graph.passes.rewrite import Skip
from pgc_graph.studies.ablation.intervention import Intervention

__all__ = [
    "AblationResult",
    "EngineReport",
    "GateImpact",
    "ImageBaseline",
    "LabelBaseline",
    "LabelImpact",
    "Quality",
    "Quantiles",
    "Summary",
]


@dataclass(frozen=True)
class Quantiles:
    """Numbers below which 5, 25, 50, 75 and 95 percent of some numbers lie, with linear interpolation between them."""

    q05: float
    q25: float
    q50: float
    q75: float
    q95: float


@dataclass(frozen=True)
class Summary:
    """Statistics of some finite numbers; NaN (null in JSON) where there is none.

    Attributes:
        count: How many.
        mean: Their mean.
        std: Their population standard deviation.
        min: The smallest.
        max: The largest.
        interval: Where their expectation lies with 95 % confidence, by the normal approximation: mean ± 1.96 · s / √count
            with s the sample's standard deviation (count - 1 degrees of freedom); NaN for fewer than two.
        quantiles: Of them; above 8,192 numbers (2,048 of the images with one label), of a sample.
    """

    count: int
    mean: float
    std: float
    min: float
    max: float
    interval: tuple[float, float]
    quantiles: Quantiles


@dataclass(frozen=True)
class Quality:
    """How good a classifier is on labelled images.

    Attributes:
        count: Images whose class is known.
        accuracy: The share of them that are classified right; a score that is no number is wrong.
        f1: Of class 1 or, with more than two classes, the mean over classes; NaN where no image shows it.
        loss: The mean of minus the natural logarithm of the true class's probability; NaN where scores are none.
    """

    count: int
    accuracy: float
    f1: float
    loss: float


@dataclass(frozen=True)
class LabelBaseline:
    """The images with one label, without gates.

    Attributes:
        label: The label.
        images: How many images bear it.
        prob: Of their scores.
        accuracy: The share that is classified right; None where the label is no class of the model.
    """

    label: str
    images: int
    prob: Summary
    accuracy: float | None


@dataclass(frozen=True)
class LabelImpact:
    """What scaling one tensor does to the images with one label.

    Attributes:
        label: The label.
        delta: Of the baseline minus the score with the gate.
        prob: Of the score with the gate.
        logit_delta: As `delta`, of the logit; None where the model has none.
        accuracy: With the gate; None where the label is no class of the model.
    """

    label: str
    delta: Summary
    prob: Summary
    logit_delta: Summary | None
    accuracy: float | None


@dataclass(frozen=True)
class ImageBaseline:
    """An image's score without gates.

    Attributes:
        path: The file.
        prob: The score.
        logit: The tensor before the last Sigmoid or Softmax, or None where there is none.
        scored_class: Which column of the output is scored: the largest of this image's, or the target class.
        label: What the image is labelled as, or None.
    """

    path: Path
    prob: float
    logit: float | None
    scored_class: int
    label: str | None = None


@dataclass(frozen=True)
class GateImpact:
    """What scaling one tensor does to the score.

    Attributes:
        rank: From 1, by what the ablation ranks by, then by mean Δ, mean Δ of the logit, graph order.
        position: Where the tensor stands among the targets, from 0.
        target: The tensor.
        delta: Of the baseline minus the score with the gate: positive where the tensor speaks for the class.
        prob: Of the score with the gate.
        logit_delta: As `delta`, of the logit; None where the model has none.
        non_finite: For how many images the score with the gate is NaN or infinite; these are left out.
        quality: How good the classifier is with the gate; None unless labels name classes of the model.
        labels: The same figures for the images with each label, in the order of `AblationResult.labels`.
    """

    rank: int
    position: int
    target: Target
    delta: Summary
    prob: Summary
    logit_delta: Summary | None
    non_finite: int
    quality: Quality | None = None
    labels: tuple[LabelImpact, ...] = ()


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
        value: What the tensors were scaled by, 0 if they were not.
        baseline: Statistics of the scores without gates.
        baseline_logit: The same of the logits, or None.
        gates: One a tensor, ranked.
        images: The first 1,000 of the images that were scored, in order.
        skipped_images: The first 1,000 of the images that could not be read.
        skipped_tensors: Tensors that could not be gated.
        interrupted: Whether it was stopped before all images were scored.
        engine: How the numbers were computed.
        target: Which class is scored: `argmax` (the one found without gates) or the column.
        rank_by: What the gates are ranked by.
        quality: How good the classifier is without gates; None unless labels name classes of the model.
        labels: The images with each label, in the order of the classes, then of the alphabet.
        intervention: What was done to the tensors.
        image_count: How many images were scored.
        skipped_count: How many images could not be read.
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
    target: str = "argmax"
    rank_by: str = "delta"
    quality: Quality | None = None
    labels: tuple[LabelBaseline, ...] = ()
    intervention: Intervention = field(default_factory=Intervention)
    image_count: int = 0
    skipped_count: int = 0
