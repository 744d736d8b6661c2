"""Rules for layers: operators that sum over channels with constant weights, and normalisations channel by channel."""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.analysis.pruning.builder import Builder, Channels, Elementwise, Ids, Layer, Slice
from pgc_graph.analysis.pruning.helpers import called

__all__ = ["batch_normalization", "conv", "conv_transpose", "gemm", "matmul"]


def conv(node: ir.Node, builder: Builder) -> None:
    """Conv: weight (outputs, inputs of a group, ...); with one input a group, its outputs go with it."""
    weight = _constants(node, builder)
    if weight is None:
        return
    groups = node.attributes.get_int("group", 1)
    inputs = _inputs(node, builder, axis=1)
    if groups > 1 and inputs is None:
        builder.pin_inputs(node, f"{called(node)} has groups whose inputs are not known")
        return
    outputs = _layer(node, builder, inputs, weight[0], axes=(1, 0), groups=groups)
    if inputs is not None and weight[1] == 1 and groups > 1:
        for place in range(weight[0] // groups):
            builder.couple(inputs, outputs[place :: weight[0] // groups])
    builder.channels[node.outputs[0]] = Channels(1, outputs)


def conv_transpose(node: ir.Node, builder: Builder) -> None:
    """ConvTranspose of one group: weight (inputs, outputs, ...)."""
    weight = _constants(node, builder)
    if weight is None:
        return
    if node.attributes.get_int("group", 1) != 1:
        builder.pin_inputs(node, f"{called(node)} has groups")
        return
    outputs = _layer(node, builder, _inputs(node, builder, axis=1), weight[1], axes=(0, 1))
    builder.channels[node.outputs[0]] = Channels(1, outputs)


def gemm(node: ir.Node, builder: Builder) -> None:
    """Gemm by a constant B, transposed or not."""
    weight = _constants(node, builder)
    if weight is None:
        return
    if node.attributes.get_int("transA", 0):
        builder.pin_inputs(node, f"{called(node)} transposes its input")
        return
    axes = (1, 0) if node.attributes.get_int("transB", 0) else (0, 1)
    outputs = _layer(node, builder, _inputs(node, builder, axis=1), weight[axes[1]], axes=axes)
    builder.channels[node.outputs[0]] = Channels(1, outputs)


def matmul(node: ir.Node, builder: Builder) -> None:
    """MatMul by a constant matrix on the right; what else the left operand has for axes stays as it is."""
    left, right = node.inputs
    weight = builder.constants.value(right)
    result = node.outputs[0]
    if left is None or weight is None or weight.ndim != 2 or result.shape is None or len(result.shape) < 2:
        builder.pin_inputs(node, f"{called(node)} multiplies it by what is no constant matrix")
        return
    last = len(result.shape) - 1
    outputs = _layer(node, builder, _inputs(node, builder, axis=last), weight.shape[1], axes=(0, 1))
    builder.channels[result] = Channels(last, outputs)


def batch_normalization(node: ir.Node, builder: Builder) -> None:
    """BatchNormalization in inference: its four parameters shrink with its input."""
    data = node.inputs[0]
    found = None if data is None else builder.channels.get(data)
    if found is None:
        return
    parameters = [builder.constants.value(value) for value in node.inputs[1:5]]
    training = node.attributes.get_int("training_mode", 0) or (
        builder.opset < 7 and not node.attributes.get_int("is_test", 0)
    )
    if training or found.axis != 1 or any(value is None or value.shape != found.ids.shape for value in parameters):
        builder.pin_inputs(node, f"{called(node)} has no constant parameters, one a channel")
        return
    outputs = builder.fresh(len(found.ids))
    builder.couple(found.ids, outputs)
    builder.slices += [Slice(node, index, 0, outputs) for index in range(1, 5)]
    builder.steps.append(Elementwise(node, (found.ids, *[outputs] * 4), 1, outputs))
    builder.channels[node.outputs[0]] = Channels(1, outputs)


def _constants(node: ir.Node, builder: Builder) -> tuple[int, ...] | None:
    """Return the shape of a layer's weight; None, and its inputs pinned, if weight or bias can change."""
    parameters = [value for value in node.inputs[1:3] if value is not None]
    arrays = [builder.constants.value(value) for value in parameters]
    if not arrays or any(array is None for array in arrays) or arrays[0] is None:
        builder.pin_inputs(node, f"the weight or bias of {called(node)} is no constant")
        return None
    return tuple(arrays[0].shape)


def _inputs(node: ir.Node, builder: Builder, *, axis: int) -> Ids | None:
    """Return the ids that a layer sums over; channels along another axis are pinned."""
    data = node.inputs[0]
    found = None if data is None else builder.channels.get(data)
    if found is None:
        return None
    if found.axis != axis:
        builder.pin(found.ids, f"{called(node)} does not sum over them, but works beside them")
        return None
    return found.ids


def _layer(
    node: ir.Node, builder: Builder, inputs: Ids | None, count: int, *, axes: tuple[int, int], groups: int = 1
) -> Ids:
    """Enter a layer and its bias; `axes` are those of the weight for inputs and outputs."""
    outputs = builder.fresh(count)
    builder.steps.append(Layer(node, inputs, outputs, *axes, groups))
    bias = builder.constants.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if bias is not None and bias.ndim and bias.shape[-1] == count:
        builder.slices.append(Slice(node, 2, bias.ndim - 1, outputs))
    return outputs
