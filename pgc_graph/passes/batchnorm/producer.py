"""Fold an affine map into the node that produces its input.

With y = scale * x + shift per output channel c:

1. Conv             x = W * u + b            W'[c, ...] = scale[c] W[c, ...]           W is [out, in/groups, k...]
2. ConvTranspose    x = W *ᵀ u + b           W'[i, o, ...] = scale[c] W[i, o, ...]     W is [in, out/groups, k...],
                                             c = group(i) * out/groups + o
3. Gemm             x = α A B + β C          B' = B scale over its N axis (axis 0 if transB), α stays,
                                             C' = β C scale + shift, β' = 1
4. MatMul (2-D)     x = A B                  B' = B scale over its last axis, + shift as an Add

b' = scale b + shift in 1 and 2. Strides, dilations, pads, output_padding and auto_pad act on positions, not channels,
and play no part.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import Affine, Declined, Float64
from pgc_graph.passes.edit import GraphEditor, fits

__all__ = ["constant_input", "fold_into_producer", "set_bias"]


def fold_into_producer(node: ir.Node, affine: Affine, constants: Constants, editor: GraphEditor) -> str | Declined:
    """Fold a BatchNormalization into the node before it.

    Args:
        node: The BatchNormalization node; removed when folded.
        affine: What it does.
        constants: Of the model.
        editor: Of the model.

    Returns:
        What was done, or why not.
    """
    value = node.inputs[0]
    producer = None if value is None else value.producer()
    if value is None or producer is None:
        return Declined("its input is computed by no node")
    if producer.domain not in ("", "ai.onnx") or producer.op_type not in _SCALED:
        return Declined(f"it follows {producer.op_type}")
    if producer.graph is not node.graph:
        return Declined(f"{producer.name} stands in another scope")
    if len(value.uses()) != 1 or value.is_graph_output():
        return Declined(f"{value.name} is used elsewhere too")
    weight = constant_input(producer, 1, constants)
    bias = constant_input(producer, 2, constants)
    if isinstance(weight, Declined):
        return weight
    if isinstance(bias, Declined):
        return bias
    if weight is None:
        return Declined(f"{producer.name} has no weight")
    dtype = constants.dtype(producer.inputs[1])
    if dtype is None:
        return Declined(f"the type of {producer.name}'s weight is unknown")
    return _fold(node, producer, affine, (weight, bias, dtype), editor)


def _fold(
    node: ir.Node,
    producer: ir.Node,
    affine: Affine,
    parameters: tuple[Float64, Float64 | None, ir.DataType],
    editor: GraphEditor,
) -> str | Declined:
    weight, bias, dtype = parameters
    new_weight = _SCALED[producer.op_type](producer, weight, affine.scale)
    if isinstance(new_weight, Declined):
        return new_weight
    factor = producer.attributes.get_float("beta", 1.0) if producer.op_type == "Gemm" else 1.0
    new_bias = affine.shift if bias is None else factor * bias * affine.scale + affine.shift
    if not (fits(new_weight, dtype) and fits(new_bias, dtype)):
        return Declined(f"the folded weight or bias overflows {dtype.name}")
    editor.replace_weight(producer, 1, new_weight, dtype)
    if producer.op_type == "MatMul":
        if np.any(new_bias):
            _add_after(node, producer, new_bias, dtype, editor)
    else:
        set_bias(producer, bias, new_bias, dtype, editor)
    editor.bypass(node, node.inputs[0])  # type: ignore[arg-type]
    return f"folded into {producer.op_type} {producer.name}"


def set_bias(producer: ir.Node, old: Float64 | None, new: Float64, dtype: ir.DataType, editor: GraphEditor) -> None:
    """Give a Conv, ConvTranspose or Gemm a new bias, in place of `old` or of none."""
    if producer.op_type == "Gemm":
        producer.attributes.pop("beta", None)
    if old is not None:
        editor.replace_weight(producer, 2, new, dtype)
        return
    weight_name = str(producer.inputs[1].name) if producer.inputs[1] is not None else str(producer.name)
    stem = weight_name.removesuffix("weight")
    name = f"{stem}bias" if stem != weight_name else f"{weight_name}_bias"
    if len(producer.inputs) < 3:
        producer.resize_inputs(3)
    producer.replace_input_with(2, editor.constant(name, new, dtype, producer))


def _add_after(node: ir.Node, producer: ir.Node, shift: Float64, dtype: ir.DataType, editor: GraphEditor) -> None:
    operand = editor.constant(f"{node.name or producer.name}/shift", shift, dtype, node)
    total = editor.insert_before(node, "Add", [producer.outputs[0], operand], f"{producer.name}/Add")
    node.replace_input_with(0, total)


def constant_input(producer: ir.Node, index: int, constants: Constants) -> Float64 | Declined | None:
    """Return a node's constant input as float64, None if it is absent, or why it is no constant."""
    value = producer.inputs[index] if index < len(producer.inputs) else None
    if value is None:
        return None
    array = constants.value(value)
    if array is None:
        what = "can be overridden" if constants.overridable(value) else "is not a constant"
        return Declined(f"{value.name} of {producer.name} {what}")
    return array.astype(np.float64)


def _scale_conv(producer: ir.Node, weight: Float64, scale: Float64) -> Float64 | Declined:
    if weight.shape[0] != len(scale):
        return Declined(f"{producer.name} has {weight.shape[0]} channels, the BatchNormalization {len(scale)}")
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))


def _scale_conv_transpose(producer: ir.Node, weight: Float64, scale: Float64) -> Float64 | Declined:
    groups = producer.attributes.get_int("group", 1)
    per_group = weight.shape[1]
    if groups * per_group != len(scale):
        return Declined(f"{producer.name} has {groups * per_group} channels, the BatchNormalization {len(scale)}")
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])  # (g, in/g, out/g, k...)
    factors = scale.reshape(groups, 1, per_group, *[1] * (weight.ndim - 2))
    return (split * factors).reshape(weight.shape)


def _scale_gemm(producer: ir.Node, weight: Float64, scale: Float64) -> Float64 | Declined:
    transposed = producer.attributes.get_int("transB", 0)
    if weight.shape[0 if transposed else 1] != len(scale):
        return Declined(f"{producer.name} and the BatchNormalization differ in their number of channels")
    return weight * (scale[:, None] if transposed else scale[None, :])


def _scale_matmul(producer: ir.Node, weight: Float64, scale: Float64) -> Float64 | Declined:
    rank = None if producer.outputs[0].shape is None else len(producer.outputs[0].shape)
    if rank != 2 or weight.ndim != 2 or weight.shape[1] != len(scale):
        return Declined(f"{producer.name} is a MatMul whose last axis is not the channel axis")
    return weight * scale[None, :]


_SCALED = {
    "Conv": _scale_conv,
    "ConvTranspose": _scale_conv_transpose,
    "Gemm": _scale_gemm,
    "MatMul": _scale_matmul,
}
