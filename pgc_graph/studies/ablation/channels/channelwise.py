"""Operators that keep channels apart: channel c of the result depends on channel c of the operand alone.

Channels are on axis 1, as in `(N, C, H, W)` and `(N, C)`.

| operator                                                         | keeps channels apart                              |
|------------------------------------------------------------------|---------------------------------------------------|
| elementwise with one operand                                     | always                                            |
| Add, Mul and the like                                            | where no operand is spread along the channels     |
| Conv                                                             | depthwise: as many groups as channels in and out  |
| pooling, global pooling                                          | always                                            |
| ReduceMean, ReduceMax and the like                               | over axes from 2 on                               |
| BatchNormalization (inference), InstanceNormalization            | always                                            |
| Flatten, Reshape, Squeeze, Unsqueeze                             | where all axes from 2 on are of length 1          |
"""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.interface import dimensions

__all__ = ["BROADCASTING", "is_depthwise", "is_standard", "keeps_channels", "needs_all_channels"]

_ELEMENTWISE = frozenset(
    {
        "Abs",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    }
)
_POOLS = frozenset(
    {"AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"}
)  # of MaxPool the values alone, not the indices
_REDUCTIONS = frozenset({"ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
BROADCASTING = frozenset({"Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum"})
"""Operators whose operands are all spread to one shape."""

_BINARY = BROADCASTING | {"PRelu"}
_NORMALISATIONS = frozenset({"BatchNormalization", "InstanceNormalization"})
_RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def is_standard(node: ir.Node) -> bool:
    """Say whether a node is an ONNX operator with one result in use."""
    used = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    return node.domain in ("", "ai.onnx") and all(value is node.outputs[0] for value in used)


def needs_all_channels(node: ir.Node) -> bool:
    """Say whether a node treats each channel in a way of its own, so that it has to see all of them in their places."""
    return node.op_type in _BINARY or node.op_type in _NORMALISATIONS or node.op_type in ("Conv", *_RESHAPES)


def keeps_channels(node: ir.Node, changed: frozenset[ir.Value], constants: Constants) -> bool:
    """Say whether a node keeps channels apart.

    Args:
        node: The node.
        changed: Those of its operands whose channels are to be kept apart.
        constants: Evaluates axes.
    """
    if not is_standard(node):
        return False
    data = node.inputs[0] if node.inputs else None
    if node.op_type in _BINARY:
        return _is_aligned(node, changed)
    if changed != {data} or data is None:
        return False
    if node.op_type in _ELEMENTWISE or node.op_type in _POOLS:
        return True
    if node.op_type in _NORMALISATIONS:
        return not node.attributes.get_int("training_mode", 0)
    if node.op_type == "Conv":
        return is_depthwise(node)
    if node.op_type in _REDUCTIONS:
        return _reduces_places(node, constants)
    return node.op_type in _RESHAPES and _has_one_place(data) and _has_one_place(node.outputs[0], like=data)


def is_depthwise(node: ir.Node) -> bool:
    """Say whether a convolution has one filter a channel."""
    shapes = dimensions(node.outputs[0]), None if node.inputs[0] is None else dimensions(node.inputs[0])
    counts = {shape[1] if shape is not None and len(shape) > 1 else None for shape in shapes}
    return counts == {node.attributes.get_int("group", 1)}


def _is_aligned(node: ir.Node, changed: frozenset[ir.Value]) -> bool:
    """Say whether all changed operands have the rank and the channels of the result."""
    result = dimensions(node.outputs[0])
    if result is None or len(result) < 2 or result[1] is None:
        return False
    shapes = [dimensions(value) for value in changed]
    return all(shape is not None and len(shape) == len(result) and shape[1] == result[1] for shape in shapes)


def _reduces_places(node: ir.Node, constants: Constants) -> bool:
    data = node.inputs[0]
    shape = None if data is None else dimensions(data)
    attribute = node.attributes.get("axes")
    axes = None if attribute is None else list(attribute.as_ints())
    if axes is None and len(node.inputs) > 1:
        array = constants.value(node.inputs[1])
        axes = None if array is None else [int(axis) for axis in array.ravel()]
    return shape is not None and bool(axes) and all(axis % len(shape) >= 2 for axis in axes or ())


def _has_one_place(value: ir.Value, like: ir.Value | None = None) -> bool:
    """Say whether a tensor is one number a channel, and has as many channels as another."""
    shape, other = dimensions(value), dimensions(like or value)
    if shape is None or other is None or len(shape) < 2 or len(other) < 2:
        return False
    return shape[1] is not None and shape[1] == other[1] and all(dim == 1 for dim in shape[2:])
