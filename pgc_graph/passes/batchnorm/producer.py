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
from pgc_graph.passes.batchnorm.affine import Declined, Float64
from pgc_graph.passes.batchnorm.chain import Span, is_private
from pgc_graph.passes.batchnorm.elementwise import remove_core
from pgc_graph.passes.batchnorm.tensors import rank_of
from pgc_graph.passes.batchnorm.weights import Parameters, product_misfit, read_parameters, set_bias
from pgc_graph.passes.edit import GraphEditor, misfit
from pgc_graph.passes.idle import is_onnx

__all__ = ["fold_into_producer"]


def fold_into_producer(span: Span, constants: Constants, editor: GraphEditor) -> str | Declined:
    """Fold a run of affine nodes into the node before it.

    Args:
        span: The run; its affine nodes are removed when folded.
        constants: Of the model.
        editor: Of the model.

    Returns:
        What was done, or why not.
    """
    value = span.source
    producer = value.producer()
    if producer is None:
        return Declined("its input is computed by no node")
    if not is_onnx(producer, *_FACTORS):
        return Declined(f"it follows {producer.op_type}")
    if producer.graph is not span.core[0].node.graph:
        return Declined(f"{producer.name} stands in another scope")
    if not is_private(value):
        return Declined(f"{value.name} is used elsewhere too")
    parameters = read_parameters(producer, constants)
    if isinstance(parameters, Declined):
        return parameters
    if producer.op_type == "MatMul" and rank_of(value, constants) != 2:
        return Declined(f"{producer.name} is a MatMul whose last axis is not the channel axis")
    return _fold(span, producer, parameters, editor)


def _fold(span: Span, producer: ir.Node, parameters: Parameters, editor: GraphEditor) -> str | Declined:
    scale, shift, dtype = span.affine.scale, span.affine.shift, parameters.dtype
    factor = _FACTORS[producer.op_type](producer, parameters.weight, scale)
    if isinstance(factor, Declined):
        return factor
    bias = shift if parameters.bias is None else parameters.beta * parameters.bias * scale + shift
    problem = product_misfit(parameters.weight, factor, dtype) or misfit(bias, dtype)
    if problem:
        return Declined(f"the folded weight or bias {problem}")
    if np.any(scale != 1):
        editor.replace_weight(producer, 1, parameters.weight * factor, dtype)
    if producer.op_type == "MatMul":
        if np.any(bias):
            operand = editor.constant(f"{span.name}/shift", bias, dtype, producer)
            editor.insert_after(producer, "Add", operand, f"{producer.name or span.name}/Add")
    elif parameters.bias is not None or np.any(bias):
        set_bias(producer, parameters.bias, bias, dtype, editor)
    remove_core(span, editor)
    return f"folded into {producer.op_type} {producer.name}"


def _conv(producer: ir.Node, weight: Float64, scale: Float64) -> Float64 | Declined:
    if weight.shape[0] != len(scale):
        return Declined(f"{producer.name} has {weight.shape[0]} channels, the BatchNormalization {len(scale)}")
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def _conv_transpose(producer: ir.Node, weight: Float64, scale: Float64) -> Float64 | Declined:
    groups, (inputs, per_group) = producer.attributes.get_int("group", 1), weight.shape[:2]
    if groups * per_group != len(scale):
        return Declined(f"{producer.name} has {groups * per_group} channels, the BatchNormalization {len(scale)}")
    by_input = np.repeat(scale.reshape(groups, per_group), inputs // groups, axis=0)  # (in, out/groups)
    return by_input.reshape(inputs, per_group, *[1] * (weight.ndim - 2))


def _gemm(producer: ir.Node, weight: Float64, scale: Float64) -> Float64 | Declined:
    transposed = producer.attributes.get_int("transB", 0)
    if weight.shape[0 if transposed else 1] != len(scale):
        return Declined(f"{producer.name} and the BatchNormalization differ in their number of channels")
    return scale[:, None] if transposed else scale[None, :]


def _matmul(producer: ir.Node, weight: Float64, scale: Float64) -> Float64 | Declined:
    if weight.ndim != 2 or weight.shape[1] != len(scale):
        return Declined(f"{producer.name} is a MatMul whose last axis is not the channel axis")
    return scale[None, :]


_FACTORS = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}
