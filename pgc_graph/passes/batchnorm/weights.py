"""Constant weight and bias of the nodes that take an affine map in: read them, judge new ones, give a node a new bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import Declined, Float64
from pgc_graph.passes.edit import GraphEditor, misfit
from pgc_graph.passes.idle import is_onnx

__all__ = ["Parameters", "constant_input", "product_misfit", "read_parameters", "set_bias"]


@dataclass(frozen=True, eq=False)
class Parameters:
    """The constants of a Conv, ConvTranspose, Gemm or MatMul.

    Attributes:
        weight: Its second input.
        bias: Its third input, None if it has none.
        beta: What the bias is multiplied by (Gemm), else 1.
        dtype: The weight's element type.
    """

    weight: Float64
    bias: Float64 | None
    beta: float
    dtype: ir.DataType


def read_parameters(node: ir.Node, constants: Constants) -> Parameters | Declined:
    """Read a node's weight and bias, or say why they are no constants that may change."""
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return Declined(f"an attribute of {node.name} is a parameter of the function that it stands in")
    weight, bias = constant_input(node, 1, constants), constant_input(node, 2, constants)
    for found in (weight, bias):
        if isinstance(found, Declined):
            return found
    dtype = constants.dtype(node.inputs[1])
    if not isinstance(weight, np.ndarray) or dtype is None:
        return Declined(f"the weight of {node.name} is unknown")
    beta = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
    return Parameters(weight, bias if isinstance(bias, np.ndarray) else None, beta, dtype)


def constant_input(node: ir.Node, index: int, constants: Constants) -> Float64 | Declined | None:
    """Return a node's constant input as float64, None if it is absent, or why it is no constant."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    array = constants.value(value)
    if array is None:
        what = "can be overridden" if constants.overridable(value) else "is not a constant"
        return Declined(f"{value.name} of {node.name} {what}")
    if _quantized(value):
        return Declined(f"{value.name} of {node.name} is quantized")
    return array.astype(np.float64)


def product_misfit(weight: Float64, factor: Float64, dtype: ir.DataType) -> str:
    """Say why a weight times a factor cannot be stored in a type; an empty string if it can.

    Args:
        weight: Any shape.
        factor: Broadcasts to it, with length 1 along the axes that one channel spans.
        dtype: The type to store the product in.
    """
    axes = tuple(axis for axis, length in enumerate(factor.shape) if length == 1)
    return misfit(weight * factor, dtype, axes=axes)


def set_bias(node: ir.Node, old: Float64 | None, new: Float64, dtype: ir.DataType, editor: GraphEditor) -> None:
    """Give a Conv, ConvTranspose or Gemm a new bias, in place of `old` or of none."""
    if node.op_type == "Gemm":
        node.attributes.pop("beta", None)
    if old is not None:
        editor.replace_weight(node, 2, new, dtype)
        return
    weight_name = str(node.inputs[1].name) if node.inputs[1] is not None else str(node.name)
    stem = weight_name.removesuffix("weight")
    name = f"{stem}bias" if stem != weight_name else f"{weight_name}_bias"
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, editor.constant(name, new, dtype, node))


def _quantized(value: ir.Value) -> bool:
    """Say whether a constant comes out of a DequantizeLinear: folding would undo its quantization."""
    node = value.producer()
    while node is not None and node.inputs:
        if is_onnx(node, "DequantizeLinear"):
            return True
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    return False
