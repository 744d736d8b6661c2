"""Rules for operators that work channel by channel: elementwise arithmetic, activations, poolings, reductions of space."""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.analysis.axes import axes_of
from pgc_graph.analysis.pruning.builder import Builder, Channels, Elementwise, Ids, Slice
from pgc_graph.analysis.pruning.helpers import called, unless_zero

__all__ = ["ELEMENTWISE", "elementwise", "pool", "reduce"]

ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "Celu",
        "Clip",
        "Div",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
    }
    | {"LeakyRelu", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Selu"}
    | {"Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Floor", "Ceil"}
)
"""Operators whose output at a place depends on their operands at that place alone."""

_BROADCASTING_OPSET = 7
_CONSTANT_KEEPING = frozenset({"GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean", "ReduceMin"})


def elementwise(node: ir.Node, builder: Builder) -> None:
    """Couple the channels of all operands with the output's; constants along the channel axis shrink with them."""
    result, known = node.outputs[0], [builder.channels.get(value) for value in node.inputs if value is not None]
    if not any(known):
        return
    if builder.opset < _BROADCASTING_OPSET and len(node.inputs) > 1:
        builder.pin_inputs(node, f"{called(node)} broadcasts by an attribute, as before opset {_BROADCASTING_OPSET}")
        return
    axis = _channel_axis(node, builder)
    if axis is None or result.shape is None or any(value.uses() for value in node.outputs[1:]):
        builder.pin_inputs(node, f"{called(node)} joins tensors whose channels do not lie along one axis")
        return
    rank = len(result.shape)
    count = max(len(found.ids) for found in known if found is not None)
    operands: list[Ids | None] = []
    slices: list[tuple[int, int]] = []
    for index, value in enumerate(node.inputs):
        found = None if value is None else builder.channels.get(value)
        operands.append(None if found is None else found.ids)
        if value is None or found is not None:
            continue
        length, place = _length(value, axis, rank, builder)
        if length not in (1, count) or (length > 1 and builder.constants.value(value) is None):
            builder.pin_inputs(node, f"{called(node)} joins it with {value.name}, whose channels cannot go")
            return
        if length > 1:
            slices.append((index, place))
    _enter(node, builder, operands, slices, axis, count)


def _enter(
    node: ir.Node, builder: Builder, operands: list[Ids | None], slices: list[tuple[int, int]], axis: int, count: int
) -> None:
    """Enter a node; `slices` are the inputs that are constants along the channels, with the axis where they lie."""
    outputs = builder.fresh(count)
    for ids in operands:
        if ids is not None and len(ids) == count:
            builder.couple(ids, outputs)
    builder.slices += [Slice(node, index, place, outputs) for index, place in slices]
    builder.steps.append(Elementwise(node, tuple(operands), axis, outputs))
    builder.channels[node.outputs[0]] = Channels(axis, outputs)


def _channel_axis(node: ir.Node, builder: Builder) -> int | None:
    """Return the axis of the output along which the channels of all operands lie, None if they differ."""
    shape = node.outputs[0].shape
    if shape is None:
        return None
    axes, lengths = set(), set()
    for value in node.inputs:
        found = None if value is None else builder.channels.get(value)
        if value is None or found is None:
            continue
        if value.shape is None:
            return None
        if len(found.ids) > 1:
            axes.add(found.axis + len(shape) - len(value.shape))
            lengths.add(len(found.ids))
        elif len(node.inputs) == 1 or shape[found.axis + len(shape) - len(value.shape)] == 1:
            axes.add(found.axis + len(shape) - len(value.shape))
            lengths.add(1)
    (axis, *others) = sorted(axes) if axes else (None,)
    return axis if not others and len(lengths) <= 1 else None


def _length(value: ir.Value, axis: int, rank: int, builder: Builder) -> tuple[int, int]:
    """Return how long an operand is along an axis of the result, 1 where it broadcasts, and which of its axes that is."""
    array = builder.constants.value(value)
    dims = list(array.shape) if array is not None else None if value.shape is None else list(value.shape)
    if dims is None:
        return -1, 0
    place = axis - (rank - len(dims))
    if place < 0:
        return 1, 0
    dim = dims[place]
    return (dim if isinstance(dim, int) else -1), place


def pool(node: ir.Node, builder: Builder) -> None:
    """Poolings over space: the channels are those of the input."""
    data = node.inputs[0]
    found = None if data is None else builder.channels.get(data)
    if found is None:
        return
    if found.axis != 1 or any(value.uses() for value in node.outputs[1:]):
        builder.pin_inputs(node, f"{called(node)} pools over them")
        return
    builder.channels[node.outputs[0]] = Channels(1, _kept(node, found.ids, builder))


def reduce(node: ir.Node, builder: Builder) -> None:
    """Reductions over axes other than the channels'."""
    data = node.inputs[0]
    found = None if data is None else builder.channels.get(data)
    if found is None or data is None or data.shape is None:
        builder.pin_inputs(node, f"{called(node)} reads a tensor of unknown rank")
        return
    axes = axes_of(node, builder.constants)
    places = {axis % len(data.shape) for axis in axes or ()}
    if not axes or found.axis in places:
        builder.pin_inputs(node, f"{called(node)} reduces over them")
        return
    gone = 0 if node.attributes.get_int("keepdims", 1) else sum(place < found.axis for place in places)
    builder.channels[node.outputs[0]] = Channels(found.axis - gone, _kept(node, found.ids, builder))


def _kept(node: ir.Node, ids: Ids, builder: Builder) -> Ids:
    """Return the ids of an operator's output: the input's own if a constant channel keeps its value."""
    average = node.op_type == "AveragePool" and not (
        node.attributes.get_int("count_include_pad", 0) or node.attributes.get_int("ceil_mode", 0)
    )
    if average or node.op_type in _CONSTANT_KEEPING:
        return ids
    return unless_zero(ids, builder)
