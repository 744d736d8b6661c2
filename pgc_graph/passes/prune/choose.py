"""Choose which channel groups to remove so that a share of the MACs is left."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.channels import channel_axis
from pgc_graph.analysis.macs import count_node_macs
from pgc_graph.analysis.pruning.builder import Layer
from pgc_graph.analysis.pruning.groups import ChannelGroups, channel_groups
from pgc_graph.analysis.pruning.known import Float64
from pgc_graph.analysis.pruning.removal import find_removal, limit_removal
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.passes.prune.masks import zero_channels
from pgc_graph.passes.prune.prune import folded
from pgc_graph.passes.prune.scores import given_scores, weight_scores

__all__ = ["choose_channels"]


def choose_channels(
    model: ir.Model,
    keep_macs: float,
    scores: Mapping[str, Mapping[int, float]] | None = None,
    *,
    keep_channels: float = 0.0,
    multiple_of: int = 1,
) -> dict[str, list[int]]:
    """Choose the channels to remove for a share of the MACs: groups of coupled channels, the lowest scores first.

    As many groups go as are needed, and no more. Of every tensor the channel of the highest score stays.

    Args:
        model: Stays untouched.
        keep_macs: The share of MACs that may be left, above 0 and at most 1.
        scores: By tensor and channel; a group's is the sum of its members', a group without any stays. None scores by
            weights (`scores.py`).
        keep_channels: Of every tensor at least this share of channels stays, those of the highest scores.
        multiple_of: Every tensor that loses channels keeps a multiple of this number, where it had as many.

    Returns:
        For `prune_channels`: the channels of the chosen groups at every tensor that a layer reads.

    Raises:
        OptionError: A share is out of range, or a score names a channel that does not exist.
        SelectionError: A score names a tensor that does not exist.
        UnsupportedError: Not even all groups together are enough.
    """
    if not 0 < keep_macs <= 1:
        raise OptionError(f"{keep_macs} of the MACs cannot be kept; expected a share above 0, at most 1")
    if multiple_of < 1:
        raise OptionError(f"multiples of {multiple_of} cannot be kept; expected a number from 1")
    if not 0 <= keep_channels <= 1:
        raise OptionError(f"{keep_channels} of the channels cannot be kept; expected a share from 0 to 1")
    plain = folded(zero_channels(model, {}))
    found = channel_groups(plain)
    values = weight_scores(found) if scores is None else given_scores(found, scores)
    free = find_removal(found).groups
    order = _candidates(found, values, free, keep_channels)
    costs = count_node_macs(plain)
    allowed = keep_macs * sum(costs.values())

    def plan(count: int) -> NDArray[np.bool_]:
        gone = free.copy()
        gone[order[:count]] = True
        return _limited(found, gone, values, multiple_of)

    low, high = 0, len(order)
    if _macs(found, plan(high), costs) > allowed:
        least = _macs(found, plan(high), costs) / max(sum(costs.values()), 1)
        raise UnsupportedError(
            f"{keep_macs:g} of the MACs cannot be reached; the least that pruning leaves is {least:.3g}"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _macs(found, plan(middle), costs) <= allowed else (middle + 1, high)
    return _readings(found, plan(high) & ~free)


def _candidates(
    found: ChannelGroups, values: Float64, free: NDArray[np.bool_], keep_channels: float
) -> NDArray[np.int64]:
    """Return the groups that may go, the lowest score first."""
    barred = np.isnan(values) | free
    barred[list(found.pins)] = True
    for step in found.account.steps:
        data = step.node.inputs[0] if isinstance(step, Layer) and step.inputs is not None else None
        if data is not None and channel_axis(data) != found.account.channels[data].axis:
            barred[found.of(found.account.channels[data].ids)] = True  # a gate would lie along another axis
    ranked = np.nan_to_num(values, nan=np.inf)
    for channels in found.account.channels.values() if keep_channels else ():
        groups = np.unique(found.of(channels.ids))
        best = np.argsort(-ranked[groups], kind="stable")[: math.ceil(keep_channels * len(groups))]
        barred[groups[best]] = True
    groups = np.flatnonzero(~barred)
    return groups[np.argsort(values[groups], kind="stable")]


def _limited(found: ChannelGroups, gone: NDArray[np.bool_], values: Float64, multiple_of: int) -> NDArray[np.bool_]:
    gone, priority = gone.copy(), np.nan_to_num(values, nan=np.inf)
    tensors = [np.unique(found.of(channels.ids)) for channels in found.account.channels.values()]
    while True:
        kept = list(limit_removal(found, gone, priority))
        for groups in tensors if multiple_of > 1 else ():
            going = groups[gone[groups]]
            spare = (len(going) - len(groups)) % multiple_of  # so many more make a multiple of what stays
            kept += going[np.argsort(-priority[going], kind="stable")[:spare]].tolist()
        if not kept:
            return gone
        gone[kept] = False


def _macs(found: ChannelGroups, gone: NDArray[np.bool_], costs: Mapping[str, float]) -> float:
    """Return the MACs that are left when groups go: a layer's shrink with its inputs and its outputs."""
    total = dict(costs)
    for step in found.account.steps:
        if not isinstance(step, Layer):
            continue
        outputs = ~gone[found.of(step.outputs)]
        share = float(outputs.mean())
        if step.inputs is not None:
            by_group = (~gone[found.of(step.inputs)]).reshape(step.groups, -1)
            left = by_group[by_group.any(axis=1)]
            share *= float(left.mean()) if left.size else 0.0
        total[str(step.node.outputs[0].name)] *= share
    return sum(total.values())


def _readings(found: ChannelGroups, gone: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Return where layers read the groups that go: channels by tensor."""
    chosen: dict[str, list[int]] = {}
    for step in found.account.steps:
        if isinstance(step, Layer) and step.inputs is not None and step.node.inputs[0] is not None:
            places = np.flatnonzero(gone[found.of(step.inputs)])
            if places.size:
                chosen[str(step.node.inputs[0].name)] = [int(place) for place in places]
    return chosen
