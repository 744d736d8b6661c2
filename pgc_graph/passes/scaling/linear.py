"""Which operators pass a factor on, channel by channel: f(s x) = s f(x)."""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.passes.scaling.plan import Float64, ScalingPlan

__all__ = ["LINEAR", "POSITIVE", "keeps_factor"]

LINEAR = frozenset({"Identity", "Dropout", "Neg", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"})
"""Operators for which f(s x) = s f(x), channel by channel."""

POSITIVE = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Abs",
        "MaxPool",
        "GlobalMaxPool",
        "ReduceMax",
        "ReduceMin",
        "LpPool",
        "GlobalLpPool",
    }
    | {"ReduceL1", "ReduceL2"}
)
"""Operators for which that holds where s is not below 0."""

_POOLS = frozenset({"AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})


def keeps_factor(node: ir.Node, factor: Float64, plan: ScalingPlan) -> bool:
    """Say whether a node of LINEAR, POSITIVE, Resize or Pad passes a factor on its first input on as it is."""
    if node.op_type in _POOLS:
        return factor.ndim == 0 or factor.size == factor.shape[1]
    if node.op_type == "Resize":
        cropped = node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize"
        return not cropped and _keeps_lengths(node, factor)
    if node.op_type == "Pad":
        return _pads_zeros(node, plan) and _keeps_lengths(node, factor)
    return True


def _keeps_lengths(node: ir.Node, factor: Float64) -> bool:
    """Say whether a node keeps the lengths of the axes along which a factor varies."""
    source, result = node.inputs[0], node.outputs[0]
    if factor.size == 1:
        return True
    if source is None or source.shape is None or result.shape is None:
        return False
    axes = [axis for axis, length in enumerate(factor.shape) if length > 1]
    return all(source.shape[axis] == result.shape[axis] == factor.shape[axis] for axis in axes)


def _pads_zeros(node: ir.Node, plan: ScalingPlan) -> bool:
    if node.attributes.get_string("mode", "constant") != "constant":
        return True
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return node.attributes.get_float("value", 0.0) == 0
    fill = plan.constants.value(node.inputs[2])
    return fill is not None and not fill.any()
