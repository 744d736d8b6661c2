"""Sum channels up: one impact a channel, and what the channels of a tensor come to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from pgc_graph.analysis.targets import Target
from pgc_graph.studies.ablation.channels.engine import Way
from pgc_graph.studies.ablation.channels.masked import ChannelAxis
from pgc_graph.studies.ablation.channels.result import ChannelImpact, TensorChannels
from pgc_graph.studies.ablation.result import GateImpact

__all__ = ["THRESHOLD", "each_channel", "impacts", "sum_up"]

THRESHOLD = 1e-3
"""The |mean Δ| of the score from which on a channel matters, unless someone says otherwise."""


def each_channel(targets: Sequence[Target], axes: Sequence[ChannelAxis]) -> tuple[Target, ...]:
    """Return the tensors, each as often as it has channels."""
    pairs = zip(targets, axes, strict=True)
    return tuple(itertools.chain.from_iterable(itertools.repeat(target, axis.count) for target, axis in pairs))


def impacts(gates: Sequence[GateImpact], axes: Sequence[ChannelAxis]) -> tuple[ChannelImpact, ...]:
    """Say of which channel each impact is.

    Args:
        gates: Ranked; their positions count through the channels of all tensors.
        axes: Where the channels of the tensors are.
    """
    channels = np.concatenate([np.arange(axis.count) for axis in axes]).tolist()
    return tuple(
        ChannelImpact(
            rank=gate.rank,
            tensor=gate.target.tensor,
            channel=channels[gate.position],
            delta=gate.delta,
            prob=gate.prob,
            logit_delta=gate.logit_delta,
            non_finite=gate.non_finite,
            quality=gate.quality,
            labels=gate.labels,
        )
        for gate in gates
    )


def sum_up(
    targets: Sequence[Target],
    axes: Sequence[ChannelAxis],
    ways: Sequence[Way],
    channels: Sequence[ChannelImpact],
    threshold: float,
) -> tuple[TensorChannels, ...]:
    """Return what the channels of each tensor come to, in graph order."""
    groups: dict[str, list[ChannelImpact]] = {}
    for channel in channels:
        groups.setdefault(channel.tensor, []).append(channel)
    return tuple(
        _tensor(target, axis, way, groups[target.tensor], threshold)
        for target, axis, way in zip(targets, axes, ways, strict=True)
    )


def _tensor(
    target: Target, axis: ChannelAxis, way: Way, channels: Sequence[ChannelImpact], threshold: float
) -> TensorChannels:
    means = [channel.delta.mean for channel in channels if math.isfinite(channel.delta.mean)]
    return TensorChannels(
        target=target,
        axis=axis.axis,
        channels=axis.count,
        matter=sum(abs(mean) >= threshold for mean in means),
        idle=sum(channel.delta.min == channel.delta.max == 0 and not channel.non_finite for channel in channels),
        mean_delta=float(np.mean(means)) if means else math.nan,
        largest=max(means, default=math.nan),
        way=way,
    )
