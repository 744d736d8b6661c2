"""Channel groups: a union-find over the channels of all tensors, by one rule an operator.

A channel group is a set of channels, of one or more tensors, that can only be removed together: what elementwise operators,
residual additions, depthwise convolutions and poolings tie to each other. Groups meet at layers, which sum over the
channels of one and put out those of another. The way of thinking is that of DepGraph (Fang et al. 2023, "DepGraph: Towards
Any Structural Pruning"), brought down to one channel axis a tensor.

Channels that an operator without a rule reads, that a subgraph reads, or that the model puts out, are pinned: their whole
group stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.pruning import rules_elementwise, rules_layers, rules_parts, rules_shapes
from pgc_graph.analysis.pruning.builder import Builder, Ids
from pgc_graph.analysis.pruning.helpers import called

__all__ = ["RULES", "ChannelGroups", "channel_groups"]

RULES: Mapping[str, Callable[[ir.Node, Builder], None]] = {
    **dict.fromkeys(rules_elementwise.ELEMENTWISE, rules_elementwise.elementwise),
    **dict.fromkeys(
        ("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"),
        rules_elementwise.pool,
    ),
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare"),
        rules_elementwise.reduce,
    ),
    "BatchNormalization": rules_layers.batch_normalization,
    "CastLike": rules_shapes.cast_like,
    "Concat": rules_parts.concat,
    "Conv": rules_layers.conv,
    "ConvTranspose": rules_layers.conv_transpose,
    "Flatten": rules_shapes.flatten,
    "Gemm": rules_layers.gemm,
    "MatMul": rules_layers.matmul,
    "Pad": rules_parts.pad,
    "Reshape": rules_shapes.reshape,
    "Resize": rules_parts.resize,
    "Shape": rules_shapes.read_shape,
    "Split": rules_parts.split,
    "Squeeze": rules_shapes.squeeze,
    "Transpose": rules_shapes.transpose,
    "Unsqueeze": rules_shapes.unsqueeze,
}
"""One rule an operator; what has none pins the channels that it reads."""


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """The channels of a model.

    Attributes:
        account: What the operators' rules wrote down.
        group: The number of its group for every channel id.
        pins: Why a group cannot go, by its number.
    """

    account: Builder
    group: Ids
    pins: Mapping[int, str]

    def of(self, ids: Ids) -> Ids:
        """Return the group of each channel."""
        return self.group[ids]


def channel_groups(model: ir.Model) -> ChannelGroups:
    """Find which channels of a model's tensors can only be removed together.

    Args:
        model: Stays untouched; its shapes should be known (where one is not, channels are pinned), and computed Reshape
            targets constant.
    """
    builder = Builder(Constants(model), model.opset_imports.get("", 1))
    main = set(model.graph)
    for node in model.graph:
        if node.domain in ("", "ai.onnx") and node.op_type in RULES:
            RULES[node.op_type](node, builder)
        else:
            builder.pin_inputs(node, f"{called(node)} reads them, an operator that pruning has no rule for")
        for value in node.outputs:
            if value in builder.channels:
                _pin_interface(value, main, builder)
    group = np.array([builder.root(item) for item in range(len(builder.parents))], np.int64)
    pins: dict[int, str] = {}
    for item, reason in builder.pins.items():
        pins.setdefault(int(group[item]), reason)
    return ChannelGroups(builder, group, pins)


def _pin_interface(value: ir.Value, main: set[ir.Node], builder: Builder) -> None:
    ids = builder.channels[value].ids
    if value.is_graph_output():
        builder.pin(ids, f"{value.name} is an output of the model")
    if any(node not in main for node, _ in value.uses()):
        builder.pin(ids, f"a subgraph reads {value.name}")
