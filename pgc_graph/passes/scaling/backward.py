"""Move a factor on a tensor backward, into the constants of what computes it.

Every tensor on the way has one reader alone and is no graph output. The factor ends in

1. a layer, which takes it into its rows and its bias (`layers.py`);
2. a constant operand of Add, Sub, Sum, Mul or Div.

It passes through what is linear channel by channel (with Relu and the like, if no element is below 0), to both operands of
an addition, to one operand of a multiplication, to the numerator of a division, and in slices to the parts of a Concat.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.axes import axes_of
from pgc_graph.passes.batchnorm.chain import is_private
from pgc_graph.passes.scaling.axes import squeezed, transposed, unsqueezed
from pgc_graph.passes.scaling.layers import LAYERS, scale_rows
from pgc_graph.passes.scaling.linear import LINEAR, POSITIVE, keeps_factor
from pgc_graph.passes.scaling.plan import Declined, Float64, ScalingPlan, constant_operand, is_positive, node_label

__all__ = ["pull_back"]


def pull_back(value: ir.Value, factor: Float64, plan: ScalingPlan) -> Declined | None:
    """Plan to multiply a tensor by a factor, in the constants that it is computed from.

    Args:
        value: The tensor.
        factor: What to multiply it by.
        plan: Takes the changes up; worthless if declined.

    Returns:
        None, or why the factor cannot be moved.
    """
    node = value.producer()
    if node is None:
        return Declined(f"no node computes {value.name}")
    if not is_private(value):
        return Declined(f"{value.name} is read elsewhere too")
    if node.domain not in ("", "ai.onnx") or value is not node.outputs[0]:
        return Declined(f"{node_label(node)} computes it")
    if node.op_type in LAYERS and (node.op_type != "MatMul" or constant_operand(node, 1, plan)):
        return scale_rows(node, factor, plan)
    if node.op_type in _RULES:
        return _RULES[node.op_type](node, factor, plan)
    if node.op_type in LINEAR | {"Resize", "Pad"} or (node.op_type in POSITIVE and is_positive(factor)):
        return _through(node, factor, plan)
    return Declined(
        f"{node_label(node)} is not linear" if node.op_type in POSITIVE else f"{node_label(node)} computes it"
    )


def _through(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    if node.op_type.startswith("Reduce") and factor.ndim and not node.attributes.get_int("keepdims", 1):
        axes = axes_of(node, plan.constants)
        if not axes or min(axes) < 0:
            return Declined(f"the axes of {node_label(node)} are unknown")
        factor = unsqueezed(factor, axes)
    if not keeps_factor(node, factor, plan):
        return Declined(f"the gate varies along an axis that {node_label(node)} changes")
    return _operand(node, 0, factor, plan)


def _operand(node: ir.Node, index: int, factor: Float64, plan: ScalingPlan) -> Declined | None:
    """Multiply one operand by a factor of the result: in place if it is a constant, else further back."""
    value = node.inputs[index]
    if value is None:
        return Declined(f"{node_label(node)} has no input {index}")
    if constant_operand(node, index, plan):
        return plan.multiply(node, index, factor)
    if factor.size == 1:
        return pull_back(value, factor.reshape(()), plan)
    shape = value.shape
    if shape is None or len(shape) != factor.ndim:
        return Declined(f"the shape of {value.name} is unknown or broadcasts")
    if any(length > 1 and shape[axis] != length for axis, length in enumerate(factor.shape)):
        return Declined(f"{value.name} broadcasts along an axis of the gate")
    return pull_back(value, factor, plan)


def _all_operands(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    for index in range(len(node.inputs)):
        declined = _operand(node, index, factor, plan)
        if declined is not None:
            return declined
    return None


def _one_operand(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    """Give the factor to the first operand that takes it; of a division, that can be the numerator alone."""
    reasons: list[str] = []
    for index in range(1 if node.op_type == "Div" else len(node.inputs)):
        trial = plan.fork()
        declined = _operand(node, index, factor, trial)
        if declined is None:
            plan.pending.update(trial.pending)
            return None
        reasons.append(declined.reason)
    return Declined("; ".join(dict.fromkeys(reasons)))


def _parts(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    axis, start = node.attributes.get_int("axis", 1), 0
    for index, value in enumerate(node.inputs):
        part = factor
        if factor.ndim and factor.shape[axis] > 1:
            shape = None if value is None else value.shape
            length = None if shape is None else shape[axis]
            if not isinstance(length, int):
                return Declined(f"the shapes that {node_label(node)} joins are unknown")
            part = factor.take(range(start, start + length), axis)
            start += length
        declined = _operand(node, index, part, plan)
        if declined is not None:
            return declined
    return None


def _moved(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    axes = axes_of(node, plan.constants)
    before: Float64 | None = None
    if node.op_type == "Transpose":
        before = transposed(node, factor, back=True)
    elif factor.ndim == 0:
        before = factor
    elif axes and min(axes) >= 0:
        before = unsqueezed(factor, axes) if node.op_type == "Squeeze" else squeezed(factor, axes)
    if before is None:
        return Declined(f"the axes of {node_label(node)} are unknown")
    return _operand(node, 0, before, plan)


def _regrouped(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Declined | None:
    if factor.size > 1:
        return Declined(f"the gate varies along an axis that {node_label(node)} changes")
    return _operand(node, 0, np.asarray(factor).reshape(()), plan)


_RULES: dict[str, Callable[[ir.Node, Float64, ScalingPlan], Declined | None]] = {
    "Add": _all_operands,
    "Concat": _parts,
    "Div": _one_operand,
    "Flatten": _regrouped,
    "Mul": _one_operand,
    "Reshape": _regrouped,
    "Squeeze": _moved,
    "Sub": _all_operands,
    "Sum": _all_operands,
    "Transpose": _moved,
    "Unsqueeze": _moved,
}
