"""Fold an affine map into the node that consumes its output, where that is exact.

With u = scale * x + shift per input channel k, and no other user of u:

1. Gemm     α A B + β C, u = A     B' = scale over B's K axis (axis 1 if transB), C' = β C + α shift B, β' = 1
2. MatMul   u B, 2-D               B' = scale over B's first axis; only if shift B is 0 (else Mul and Add do as well)
3. Conv     W * u + b              W'[m, k, ...] = scale[c] W[m, k, ...], c = group(m) * in/groups + k,
                                   b'[m] = b[m] + sum over k and positions of W[m, k, ...] shift[c]

Padding inserts zeros after the affine map, not images of zeros under it: case 3 is exact only if there is no padding,
or if the shift is zero.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import Affine, Declined, Float64
from pgc_graph.passes.batchnorm.producer import constant_input, set_bias
from pgc_graph.passes.edit import GraphEditor, fits

__all__ = ["fold_into_consumer"]


def fold_into_consumer(node: ir.Node, affine: Affine, constants: Constants, editor: GraphEditor) -> str | Declined:
    """Fold a BatchNormalization into the one node after it.

    Args:
        node: The BatchNormalization node; removed when folded.
        affine: What it does.
        constants: Of the model.
        editor: Of the model.

    Returns:
        What was done, or why not.
    """
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return Declined("its output has several uses")
    ((consumer, index),) = uses
    if consumer.domain not in ("", "ai.onnx") or consumer.op_type not in _FOLDS or index != 0:
        return Declined(f"{consumer.op_type} follows")
    if consumer.graph is not node.graph:
        return Declined(f"{consumer.name} stands in another scope")
    weight = constant_input(consumer, 1, constants)
    bias = constant_input(consumer, 2, constants)
    if isinstance(weight, Declined):
        return weight
    if isinstance(bias, Declined):
        return bias
    dtype = constants.dtype(consumer.inputs[1])
    if weight is None or dtype is None:
        return Declined(f"the weight of {consumer.name} is unknown")
    folded = _FOLDS[consumer.op_type](consumer, weight, affine)
    if isinstance(folded, Declined):
        return folded
    return _apply(node, consumer, folded, bias, dtype, editor)


def _apply(
    node: ir.Node,
    consumer: ir.Node,
    folded: tuple[Float64, Float64],
    bias: Float64 | None,
    dtype: ir.DataType,
    editor: GraphEditor,
) -> str | Declined:
    weight, shift = folded
    factor = consumer.attributes.get_float("beta", 1.0) if consumer.op_type == "Gemm" else 1.0
    total = shift if bias is None else factor * bias + shift
    if not (fits(weight, dtype) and fits(total, dtype)):
        return Declined(f"the folded weight or bias overflows {dtype.name}")
    editor.replace_weight(consumer, 1, weight, dtype)
    if np.any(shift) or (bias is not None and factor != 1.0):
        set_bias(consumer, bias, total, dtype, editor)
    editor.bypass(node, node.inputs[0])  # type: ignore[arg-type]
    return f"folded into {consumer.op_type} {consumer.name} after it"


def _fold_gemm(consumer: ir.Node, weight: Float64, affine: Affine) -> tuple[Float64, Float64] | Declined:
    if consumer.attributes.get_int("transA", 0):
        return Declined(f"{consumer.name} transposes its input")
    transposed = consumer.attributes.get_int("transB", 0)
    matrix = weight.T if transposed else weight  # (K, N)
    if matrix.shape[0] != len(affine.scale):
        return Declined(f"{consumer.name} and the BatchNormalization differ in their number of channels")
    shift = consumer.attributes.get_float("alpha", 1.0) * (affine.shift @ matrix)
    scaled = matrix * affine.scale[:, None]
    return (scaled.T if transposed else scaled), shift


def _fold_matmul(consumer: ir.Node, weight: Float64, affine: Affine) -> tuple[Float64, Float64] | Declined:
    value = consumer.inputs[0]
    rank = None if value is None or value.shape is None else len(value.shape)
    if rank != 2 or weight.ndim != 2 or weight.shape[0] != len(affine.scale):
        return Declined(f"{consumer.name} is a MatMul whose last axis is not the channel axis")
    if np.any(affine.shift):
        return Declined(f"{consumer.name} has no bias to take the shift")
    return weight * affine.scale[:, None], np.zeros(weight.shape[1])


def _fold_conv(consumer: ir.Node, weight: Float64, affine: Affine) -> tuple[Float64, Float64] | Declined:
    if np.any(affine.shift) and not _unpadded(consumer):
        return Declined(f"{consumer.name} pads its input with zeros, which the shift would change")
    groups = consumer.attributes.get_int("group", 1)
    if groups * weight.shape[1] != len(affine.scale):
        return Declined(f"{consumer.name} and the BatchNormalization differ in their number of channels")
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])  # (g, out/g, in/g, k...)
    shape = (groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    scaled = (split * affine.scale.reshape(shape)).reshape(weight.shape)
    shift = (split * affine.shift.reshape(shape)).sum(axis=tuple(range(2, split.ndim))).reshape(-1)
    return scaled, shift


def _unpadded(consumer: ir.Node) -> bool:
    auto_pad = consumer.attributes.get_string("auto_pad", "NOTSET")
    pads = consumer.attributes.get_ints("pads", ())
    return auto_pad == "VALID" or (auto_pad == "NOTSET" and not any(pads or ()))


_FOLDS = {"Conv": _fold_conv, "Gemm": _fold_gemm, "MatMul": _fold_matmul}
