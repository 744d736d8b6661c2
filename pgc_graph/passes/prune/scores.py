"""What a channel group is worth, where nothing else is known: the size of the weights that compute it.

1. A layer's output channel: the L2 norm of its filter (Li et al. 2017, "Pruning Filters for Efficient ConvNets", take L1).
2. A channel of a BatchNormalization: |γ| (Liu et al. 2017, "Network Slimming").

Both are divided by their mean over the node, so that layers compare. A group's score is the mean over its members: norms
are relative, not shares of an effect, and their sum would say first of all how many members a group has. Given scores,
which estimate an effect, add up.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pgc_graph.analysis.pruning.builder import Builder, Elementwise, Ids, Layer
from pgc_graph.analysis.pruning.groups import ChannelGroups
from pgc_graph.analysis.pruning.known import Float64
from pgc_graph.errors import OptionError, SelectionError

__all__ = ["given_scores", "weight_scores"]


def weight_scores(found: ChannelGroups) -> Float64:
    """Score every group by its weights, by the rules above; NaN for a group that no weight computes."""
    scores, members = np.full(len(found.group), np.nan), np.zeros(len(found.group))
    for step in found.account.steps:
        if isinstance(step, Layer) or (isinstance(step, Elementwise) and step.node.op_type == "BatchNormalization"):
            norms = _norms(step, found.account)
            mean = float(norms.mean())
            _add(scores, found.of(step.outputs), norms / mean if mean > 0 else norms)
            np.add.at(members, found.of(step.outputs), 1)
    return scores / np.maximum(members, 1)


def given_scores(found: ChannelGroups, scores: Mapping[str, Mapping[int, float]]) -> Float64:
    """Score every group by the sum of given scores of its members; NaN for a group with none.

    Args:
        found: The groups.
        scores: By tensor and channel.

    Raises:
        SelectionError: A tensor does not exist, or its channels cannot be followed.
        OptionError: A tensor has no such channel.
    """
    tracked = {str(value.name): channels.ids for value, channels in found.account.channels.items()}
    result = np.full(len(found.group), np.nan)
    for name, by_channel in scores.items():
        if name not in tracked:
            raise SelectionError(
                f"scores are given for {name!r}, which is no tensor with channels that can be followed"
            )
        ids, places = tracked[name], np.fromiter(by_channel, np.int64, len(by_channel))
        if places.size and not 0 <= places.min() <= places.max() < len(ids):
            raise OptionError(f"a score is given for a channel that {name!r} lacks; it has 0 to {len(ids) - 1}")
        _add(result, found.of(ids[places]), np.fromiter(by_channel.values(), np.float64, len(by_channel)))
    return result


def _add(scores: Float64, groups: Ids, values: Float64) -> None:
    fresh = np.unique(groups[np.isnan(scores[groups])])
    scores[fresh] = 0
    np.add.at(scores, groups, values)


def _norms(step: Layer | Elementwise, account: Builder) -> Float64:
    weight = account.constants.value(step.node.inputs[1])
    assert weight is not None
    rows = weight.astype(np.float64)
    if isinstance(step, Layer):
        rows = np.moveaxis(rows, step.output_axis, 0)
    norms: Float64 = np.sqrt((rows.reshape(rows.shape[0], -1) ** 2).sum(axis=1))
    return norms
