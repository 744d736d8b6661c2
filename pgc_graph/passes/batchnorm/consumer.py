"""Fold an affine map into the node that consumes its output, where that is exact.

With u = scale * x + shift per input channel k, and no other user of u:

1. Gemm            α A B + β C, u = A     B' = scale over B's K axis (axis 1 if transB), C' = β C + α shift B, β' = 1
2. MatMul (2-D)    u B                    B' = scale over B's first axis, + shift B as an Add (or in the Add that follows)
3. Conv            W * u + b              W'[m, k, ...] = scale[c] W[m, k, ...], c = group(m) * in/groups + k,
                                          b'[m] = b[m] + sum over k and positions of W[m, k, ...] shift[c]
4. ConvTranspose   W *ᵀ u + b             W'[k, ...] = scale[k] W[k, ...], only without a shift

Padding inserts zeros after the affine map, not images of zeros under it: case 3 is exact only if there is no padding,
or if the shift is zero. In case 4 the borders and the gaps of a stride do the same.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import Affine, Declined, Float64, read_elementwise
from pgc_graph.passes.batchnorm.chain import Span, is_private
from pgc_graph.passes.batchnorm.elementwise import remove_core
from pgc_graph.passes.batchnorm.tensors import rank_of
from pgc_graph.passes.batchnorm.weights import Parameters, product_misfit, read_parameters, set_bias
from pgc_graph.passes.edit import GraphEditor, misfit
from pgc_graph.passes.idle import is_onnx

__all__ = ["fold_into_consumer", "shift_product"]


def fold_into_consumer(span: Span, constants: Constants, editor: GraphEditor) -> str | Declined:
    """Fold a run of affine nodes into the one node after it.

    Args:
        span: The run; its affine nodes are removed when folded.
        constants: Of the model.
        editor: Of the model.

    Returns:
        What was done, or why not.
    """
    if not is_private(span.result):
        return Declined("its output has several uses" if span.result.uses() else "its output is the graph's")
    ((consumer, index),) = span.result.uses()
    if not is_onnx(consumer, *_FACTORS) or index != 0:
        return Declined(f"{consumer.op_type} follows")
    if consumer.graph is not span.core[0].node.graph:
        return Declined(f"{consumer.name} stands in another scope")
    parameters = read_parameters(consumer, constants)
    if isinstance(parameters, Declined):
        return parameters
    if consumer.op_type == "MatMul" and (span.opset < 7 or rank_of(span.result, constants) != 2):
        return Declined(f"{consumer.name} is a MatMul whose last axis is not the channel axis")
    folded = _FACTORS[consumer.op_type](consumer, parameters.weight, span.affine)
    if isinstance(folded, Declined):
        return folded
    return _apply(span, consumer, parameters, folded, constants, editor)


def _apply(
    span: Span,
    consumer: ir.Node,
    parameters: Parameters,
    folded: tuple[Float64, Float64],
    constants: Constants,
    editor: GraphEditor,
) -> str | Declined:
    (factor, shift), dtype, bias = folded, parameters.dtype, parameters.bias
    total = shift if bias is None else parameters.beta * bias + shift
    problem = product_misfit(parameters.weight, factor, dtype) or misfit(total, dtype)
    if problem:
        return Declined(f"the folded weight or bias {problem}")
    if np.any(factor != 1):
        editor.replace_weight(consumer, 1, parameters.weight * factor, dtype)
    if consumer.op_type == "MatMul":
        shift_product(consumer, shift, dtype, constants, editor)
    elif np.any(shift):
        set_bias(consumer, bias, total, dtype, editor)
    remove_core(span, editor)
    return f"folded into {consumer.op_type} {consumer.name} after it"


def shift_product(
    consumer: ir.Node, shift: Float64, dtype: ir.DataType, constants: Constants, editor: GraphEditor
) -> None:
    """Add a shift to what a MatMul puts out: in the Add of a constant that follows, or in a new Add."""
    if not np.any(shift):
        return
    output = consumer.outputs[0]
    if is_private(output):
        ((user, index),) = output.uses()
        found = read_elementwise(user, constants, rank=2, channels=len(shift)) if is_onnx(user, "Add") else None
        if found is not None and user.graph is consumer.graph and not misfit(found[1].shift + shift, dtype):
            editor.replace_weight(user, 1 - index, found[1].shift + shift, dtype)
            return
    stem = consumer.name or str(output.name)
    operand = editor.constant(f"{stem}/shift", shift, dtype, consumer)
    editor.insert_after(consumer, "Add", operand, f"{stem}/Add")


def _gemm(consumer: ir.Node, weight: Float64, affine: Affine) -> tuple[Float64, Float64] | Declined:
    if consumer.attributes.get_int("transA", 0):
        return Declined(f"{consumer.name} transposes its input")
    transposed = consumer.attributes.get_int("transB", 0)
    matrix = weight.T if transposed else weight  # (K, N)
    if matrix.shape[0] != len(affine.scale):
        return Declined(f"{consumer.name} and the BatchNormalization differ in their number of channels")
    shift = consumer.attributes.get_float("alpha", 1.0) * (affine.shift @ matrix)
    return (affine.scale[None, :] if transposed else affine.scale[:, None]), shift


def _matmul(consumer: ir.Node, weight: Float64, affine: Affine) -> tuple[Float64, Float64] | Declined:
    if weight.ndim != 2 or weight.shape[0] != len(affine.scale):
        return Declined(f"{consumer.name} is a MatMul whose last axis is not the channel axis")
    return affine.scale[:, None], affine.shift @ weight


def _conv(consumer: ir.Node, weight: Float64, affine: Affine) -> tuple[Float64, Float64] | Declined:
    if np.any(affine.shift) and not _unpadded(consumer):
        return Declined(f"{consumer.name} pads its input with zeros, which the shift would change")
    groups, (outputs, per_group) = consumer.attributes.get_int("group", 1), weight.shape[:2]
    if groups * per_group != len(affine.scale):
        return Declined(f"{consumer.name} and the BatchNormalization differ in their number of channels")

    def by_output(vector: Float64) -> Float64:
        rows = np.repeat(vector.reshape(groups, per_group), outputs // groups, axis=0)
        return rows.reshape(outputs, per_group, *[1] * (weight.ndim - 2))

    shift = (weight * by_output(affine.shift)).sum(axis=tuple(range(1, weight.ndim)))
    return by_output(affine.scale), shift


def _conv_transpose(consumer: ir.Node, weight: Float64, affine: Affine) -> tuple[Float64, Float64] | Declined:
    if np.any(affine.shift):
        return Declined(f"{consumer.name} is a ConvTranspose, whose borders the shift would change")
    if weight.shape[0] != len(affine.scale):
        return Declined(f"{consumer.name} and the BatchNormalization differ in their number of channels")
    return affine.scale.reshape(-1, *[1] * (weight.ndim - 1)), np.zeros(1)


def _unpadded(consumer: ir.Node) -> bool:
    auto_pad = consumer.attributes.get_string("auto_pad", "NOTSET")
    pads = consumer.attributes.get_ints("pads", ())
    return auto_pad == "VALID" or (auto_pad == "NOTSET" and not any(pads or ()))


_FACTORS = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}
