"""The layers that take a factor into their weights, on their way in (columns) or on their way out (rows).

| layer | factor on its input | factor on its output |
|---|---|---|
| Conv | W[m, k, ...] s[c], c = group(m) in/groups + k | W[m, ...] s[m], b[m] s[m] |
| ConvTranspose | W[c, ...] s[c] | W[i, o, ...] s[c], c = group(i) out/groups + o; b[c] s[c] |
| Gemm | B's K axis | B's N axis, C |
| MatMul by a constant | B's axis before the last | B's last axis |
| BatchNormalization | y = (γ s / σ) x + (β - γ m / σ): γ s, mean 0, β - γ m / σ | γ s, β s |

BatchNormalization is `y = γ (x - m) / σ + β` with σ = sqrt(variance + ε); versions 1 to 15.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.passes.batchnorm.affine import read_affine
from pgc_graph.passes.scaling.plan import Declined, Float64, ScalingPlan, along, node_label

__all__ = ["LAYERS", "scale_columns", "scale_rows"]

LAYERS = frozenset({"BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that `scale_columns` and `scale_rows` know."""


def scale_columns(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    """Take a factor on a layer's first input into its weights."""
    if node.op_type == "BatchNormalization":
        return _into_batchnorm(node, factor, plan)
    weight = plan.read(node, 1)
    if isinstance(weight, Declined):
        return weight
    if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0:
        return Declined(f"{node_label(node)} transposes its input")
    if node.op_type == "MatMul" and weight.ndim < 2:
        return Declined(f"{node_label(node)} multiplies by a vector")
    channels, axis = _input_channels(node, weight)
    vector = along(factor, axis, channels)
    if vector is None:
        return Declined(f"the gate does not lie along the channels of {node_label(node)}")
    plan.write(node, 1, weight * _column_factor(node, weight, vector))
    return None


def scale_rows(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    """Take a factor on a layer's output into its weights and bias."""
    if node.op_type == "BatchNormalization":
        return _scale_batchnorm(node, factor, plan)
    weight = plan.read(node, 1)
    if isinstance(weight, Declined):
        return weight
    if node.op_type == "MatMul" and weight.ndim < 2:
        return Declined(f"{node_label(node)} multiplies by a vector")
    channels, axis = _output_channels(node, weight)
    vector = along(factor, axis, channels)
    if vector is None:
        return Declined(f"the gate does not lie along the channels of {node_label(node)}")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        declined = plan.multiply(node, 2, vector if factor.ndim else factor)
        if declined is not None:
            return declined
    plan.write(node, 1, weight * _row_factor(node, weight, vector))
    return None


def _input_channels(node: ir.Node, weight: Float64) -> tuple[int, int]:
    """Return a layer's number of input channels and the axis of its input that holds them."""
    if node.op_type == "Conv":
        return weight.shape[1] * node.attributes.get_int("group", 1), 1
    if node.op_type == "ConvTranspose":
        return weight.shape[0], 1
    if node.op_type == "Gemm":
        return weight.shape[1 if node.attributes.get_int("transB", 0) else 0], 1
    return weight.shape[-2], -1


def _output_channels(node: ir.Node, weight: Float64) -> tuple[int, int]:
    if node.op_type == "Conv":
        return weight.shape[0], 1
    if node.op_type == "ConvTranspose":
        return weight.shape[1] * node.attributes.get_int("group", 1), 1
    if node.op_type == "Gemm":
        return weight.shape[0 if node.attributes.get_int("transB", 0) else 1], 1
    return weight.shape[-1], -1


def _column_factor(node: ir.Node, weight: Float64, vector: Float64) -> Float64:
    groups = node.attributes.get_int("group", 1)
    if node.op_type == "Conv":
        rows = np.repeat(vector.reshape(groups, -1), weight.shape[0] // groups, axis=0)  # (out, in/groups)
        return rows.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    if node.op_type == "ConvTranspose":
        return vector.reshape(-1, *[1] * (weight.ndim - 1))
    return vector[None, :] if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0 else vector[:, None]


def _row_factor(node: ir.Node, weight: Float64, vector: Float64) -> Float64:
    groups = node.attributes.get_int("group", 1)
    if node.op_type == "Conv":
        return vector.reshape(-1, *[1] * (weight.ndim - 1))
    if node.op_type == "ConvTranspose":
        rows = np.repeat(vector.reshape(groups, -1), weight.shape[0] // groups, axis=0)  # (in, out/groups)
        return rows.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    return vector[:, None] if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0 else vector


def _scale_batchnorm(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    affine = read_affine(node, plan.constants, plan.opset)
    if isinstance(affine, Declined):
        return Declined(f"{node_label(node)}: {affine.reason}")
    vector = along(factor, 1, len(affine.scale))
    if vector is None:
        return Declined(f"the gate does not lie along the channels of {node_label(node)}")
    return plan.multiply(node, 1, vector) or plan.multiply(node, 2, vector)


def _into_batchnorm(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    affine = read_affine(node, plan.constants, plan.opset)
    if isinstance(affine, Declined):
        return Declined(f"{node_label(node)}: {affine.reason}")
    vector = along(factor, 1, len(affine.scale))
    if vector is None:
        return Declined(f"the gate does not lie along the channels of {node_label(node)}")
    declined = plan.multiply(node, 1, vector)
    if declined is not None:
        return declined
    plan.write(node, 2, affine.shift)
    plan.write(node, 3, np.zeros(len(vector)))
    return None
