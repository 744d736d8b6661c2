"""What an ablation of channels finds."""

from __future__ import annotations

from dataclasses import dataclass

from pgc_graph.analysis.targets import Target
from pgc_graph.images import SkippedImage
from pgc_graph.passes.rewrite import Skip
from pgc_graph.studies.ablation.channels.engine import Way
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.result import ImageBaseline, LabelBaseline, LabelImpact, Quality, Summary

__all__ = ["ChannelImpact", "ChannelResult", "TensorChannels"]


@dataclass(frozen=True)
class ChannelImpact:
    """What changing one channel of a tensor does to the score.

    Attributes:
        rank: From 1, by what the ablation ranks by.
        tensor: The tensor's name.
        channel: Which of its channels, from 0.
        delta: Of the baseline minus the score with the channel changed: positive where it speaks for the class.
        prob: Of the score with the channel changed.
        logit_delta: As `delta`, of the logit; None where the model has none.
        non_finite: For how many images that score is NaN or infinite; these are left out.
        quality: How good the classifier is without the channel; None unless labels name classes of the model.
        labels: The same figures for the images with each label, in the order of `ChannelResult.labels`.
    """

    rank: int
    tensor: str
    channel: int
    delta: Summary
    prob: Summary
    logit_delta: Summary | None
    non_finite: int
    quality: Quality | None
    labels: tuple[LabelImpact, ...]


@dataclass(frozen=True)
class TensorChannels:
    """The channels of one tensor together.

    Attributes:
        target: The tensor.
        axis: Which axis holds the channels.
        channels: How many there are.
        matter: How many of them change the score by the threshold or more in the mean (|mean Δ|).
        idle: How many leave every score as it is.
        mean_delta: The mean of their mean Δ.
        largest: The largest mean Δ.
        way: How they were run.
    """

    target: Target
    axis: int
    channels: int
    matter: int
    idle: int
    mean_delta: float
    largest: float
    way: Way


@dataclass(frozen=True)
class ChannelResult:
    """The outcome of an ablation of channels.

    Attributes:
        score_output: The model's output that is scored.
        baseline: Statistics of the scores without any change.
        baseline_logit: The same of the logits, or None.
        channels: All channels of all tensors, ranked.
        tensors: The tensors, in graph order.
        threshold: The |mean Δ| from which on a channel matters.
        images: The first images that were scored, in order.
        image_count: How many were scored.
        skipped_images: The first images that could not be read.
        skipped_count: How many could not be read.
        skipped_tensors: Tensors that could not be changed, or have no channels.
        interrupted: Whether it was stopped before all images were scored.
        provider: Where the models ran.
        target: Which class is scored: `argmax` (the one found without any change) or the column.
        rank_by: What channels are ranked by.
        quality: How good the classifier is without any change; None unless labels name classes of the model.
        labels: The images with each label.
        intervention: What was done to the channels.
    """

    score_output: str
    baseline: Summary
    baseline_logit: Summary | None
    channels: tuple[ChannelImpact, ...]
    tensors: tuple[TensorChannels, ...]
    threshold: float
    images: tuple[ImageBaseline, ...]
    image_count: int
    skipped_images: tuple[SkippedImage, ...]
    skipped_count: int
    skipped_tensors: tuple[Skip, ...]
    interrupted: bool
    provider: str
    target: str
    rank_by: str
    quality: Quality | None
    labels: tuple[LabelBaseline, ...]
    intervention: Intervention
