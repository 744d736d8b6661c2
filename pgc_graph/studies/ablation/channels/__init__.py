"""Ablation of channels: every channel of a tensor is changed on its own."""

from __future__ import annotations

from pgc_graph.studies.ablation.channels.result import ChannelImpact, ChannelResult, TensorChannels
from pgc_graph.studies.ablation.channels.study import ablate_channel_batches, ablate_channels

__all__ = ["ChannelImpact", "ChannelResult", "TensorChannels", "ablate_channel_batches", "ablate_channels"]
