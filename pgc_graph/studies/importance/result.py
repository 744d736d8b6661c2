"""What an importance study finds."""

from __future__ import annotations

from dataclasses import dataclass

from pgc_graph.analysis.targets import Target
from pgc_graph.passes.rewrite import Skip
from pgc_graph.studies.ablation.result import Summary

__all__ = ["ChannelImportance", "Comparison", "ImportanceResult", "TensorImportance"]


@dataclass(frozen=True)
class TensorImportance:
    """What the score would lose without a tensor.

    Attributes:
        rank: From 1, the largest first.
        position: Where the tensor stands among the targets, from 0.
        target: The tensor.
        estimate: Of the estimated Δ of each image: positive where the tensor speaks for the class.
        absolute: Of its absolute value.
        channels: How many channels it has, None where nothing tells.
    """

    rank: int
    position: int
    target: Target
    estimate: Summary
    absolute: Summary
    channels: int | None


@dataclass(frozen=True)
class ChannelImportance:
    """What the score would lose without one channel of a tensor.

    Attributes:
        rank: From 1, the largest first.
        tensor: The tensor.
        channel: The channel, from 0.
        estimate: The mean of the estimated Δ.
        absolute: The mean of its absolute value.
    """

    rank: int
    tensor: str
    channel: int
    estimate: float
    absolute: float


@dataclass(frozen=True)
class Comparison:
    """Estimates beside what switching off really does.

    Attributes:
        tensors: Spearman's rank correlation of the estimates with the ablation's mean Δ, over the tensors.
        channels: The same over channels that were switched off one by one; None where none was.
        channel_count: How many these were, drawn at random.
        channel_images: On how many images.
        deltas: The ablation's mean Δ of each tensor, in the order of `ImportanceResult.tensors`.
        estimate_seconds: What the estimate took, opening sessions included.
        ablation_seconds: What the ablation took, likewise.
    """

    tensors: float
    channels: float | None
    channel_count: int
    channel_images: int
    deltas: tuple[float, ...]
    estimate_seconds: float
    ablation_seconds: float

    @property
    def speed_ratio(self) -> float:
        """How many times longer the ablation took."""
        return self.ablation_seconds / self.estimate_seconds


@dataclass(frozen=True)
class ImportanceResult:
    """The outcome of an importance study.

    Attributes:
        score: What is differentiated: `logit` or `prob`.
        steps: Points along each gate; 0 for the first-order estimate.
        rank_by: `delta` or `absolute`.
        tensors: Ranked.
        channels: Those of all tensors, ranked.
        image_count: How many images were looked at.
        skipped_count: How many could not be read.
        skipped_tensors: Tensors that could not be gated, and why.
        interrupted: Whether it was stopped before all images were looked at.
        rows: How many rows went through the gradient graph, for all images together.
        seconds: How long that took, opening the session included.
        comparison: Beside the exhaustive ablation, if it was asked for.
    """

    score: str
    steps: int
    rank_by: str
    tensors: tuple[TensorImportance, ...]
    channels: tuple[ChannelImportance, ...]
    image_count: int
    skipped_count: int
    skipped_tensors: tuple[Skip, ...]
    interrupted: bool
    rows: int
    seconds: float
    comparison: Comparison | None = None
