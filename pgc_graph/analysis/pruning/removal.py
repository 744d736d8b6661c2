"""Which groups can go without changing what the model computes.

A group can go if it is not pinned and nothing that stays reads what its channels hold. The largest set of such groups is
looked for: of any two that read only each other both go. Every layer that sums over one of their channels

1. has no weight on it in any output that stays,
2. or the channel holds 0,
3. or the channel holds another known number, which the layer's bias takes over: exact only where no zeros are padded in.

Of every tensor one channel stays. The groups of a grouped Conv lose equally many inputs and outputs each, or go as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.pruning.builder import Ids, Layer
from pgc_graph.analysis.pruning.groups import ChannelGroups
from pgc_graph.analysis.pruning.helpers import called
from pgc_graph.analysis.pruning.known import Float64, column_sums, is_padded, known_channels

__all__ = ["Removal", "find_removal", "limit_removal"]

_LAST = "some tensor would have no channel left"
_UNEVEN = "the groups of a Conv would differ in size"


@dataclass(frozen=True, eq=False)
class Removal:
    """What can go.

    Attributes:
        groups: Which groups go: one truth value a group number.
        known: The number that each channel id holds, NaN where it depends on the image.
        reasons: Why a group stays, by its number.
    """

    groups: NDArray[np.bool_]
    known: Float64
    reasons: Mapping[int, str]


def find_removal(found: ChannelGroups) -> Removal:
    """Find the largest set of groups that can go by the rules above."""
    account = found.account
    known = known_channels(account)
    layers = [step for step in account.steps if isinstance(step, Layer) and step.inputs is not None]
    columns = {layer: column_sums(layer, account)[1] for layer in layers}
    reasons: dict[int, str] = dict(found.pins)
    gone = np.ones(len(found.group), bool)
    gone[list(reasons)] = False
    while True:
        # From all that is not pinned, what is read goes back, until nothing that stays reads what goes. Going backward
        # settles most in one sweep.
        before = len(reasons)
        for layer in reversed(layers):
            _object(layer, columns[layer], found, known, gone, reasons)
        if len(reasons) == before:
            more = limit_removal(found, gone)
            if not more:
                return Removal(gone, known, reasons)
            reasons |= more
            gone[list(more)] = False


def limit_removal(found: ChannelGroups, gone: NDArray[np.bool_], priority: Float64 | None = None) -> dict[int, str]:
    """Name groups that have to stay so that no tensor and no group of a Conv ends up empty or uneven, with reasons.

    Args:
        found: The groups.
        gone: Which groups are to go.
        priority: One number a group; where there is a choice, groups with the highest stay.
    """
    kept: dict[int, str] = {}
    for channels in found.account.channels.values():
        groups = found.of(channels.ids)
        if gone[groups].all():
            kept.setdefault(_first(groups, priority), _LAST)
    for step in found.account.steps:
        if isinstance(step, Layer) and step.groups > 1 and step.inputs is not None:
            kept |= _uneven(step, found, gone, priority)
    return kept


def _object(
    layer: Layer,
    used: NDArray[np.bool_],
    found: ChannelGroups,
    known: Float64,
    gone: NDArray[np.bool_],
    reasons: dict[int, str],
) -> None:
    """Note the groups that a layer still reads: they stay."""
    assert layer.inputs is not None
    read = used[~gone[found.of(layer.outputs)]].any(axis=0)
    numbers = known[layer.inputs]
    unknown = read & np.isnan(numbers)
    unfolded = read & (np.nan_to_num(numbers) != 0) & _takes_no_bias(layer, found)
    data = layer.node.inputs[0]
    reading = f"{'' if data is None else data.name}, which {called(layer.node)} reads"
    for group in np.unique(found.of(layer.inputs[unknown])):
        gone[group] = False
        reasons.setdefault(int(group), f"goes only together with {reading} and which depends on the image")
    for group in np.unique(found.of(layer.inputs[unfolded])):
        gone[group] = False
        reasons.setdefault(
            int(group), f"goes only together with {reading}, a constant other than 0 beside padding zeros"
        )


def _takes_no_bias(layer: Layer, found: ChannelGroups) -> bool:
    node = layer.node
    shared_rows = node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None
    if not shared_rows:
        return is_padded(node)
    bias = found.account.constants.value(node.inputs[2])
    return bias is None or bias.size not in (1, len(layer.outputs))


def _first(groups: Ids, priority: Float64 | None) -> int:
    return int(groups[0] if priority is None else groups[np.argmax(priority[groups])])


def _uneven(layer: Layer, found: ChannelGroups, gone: NDArray[np.bool_], priority: Float64 | None) -> dict[int, str]:
    """Name the groups to keep so that the groups of a Conv stay equal in size."""
    assert layer.inputs is not None
    sides = [found.of(ids).reshape(layer.groups, -1) for ids in (layer.inputs, layer.outputs)]
    whole = [bool(gone[ins].all() and gone[outs].all()) for ins, outs in zip(*sides, strict=True)]
    kept: dict[int, str] = {}
    for side in sides:
        rows = [row for row, is_whole in zip(side, whole, strict=True) if not is_whole]
        counts = [int(gone[row].sum()) for row in rows]
        allowed = min((*counts, side.shape[1] - 1))
        for row, count in zip(rows, counts, strict=True):
            going = row[gone[row]]
            order = going if priority is None else going[np.argsort(-priority[going], kind="stable")]
            kept |= dict.fromkeys((int(group) for group in order[: count - allowed]), _UNEVEN)
    return kept
