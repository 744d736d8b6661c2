"""Move a factor on a tensor forward, into the constants of everything that reads it: all readers or none.

The factor travels node by node, in graph order, until layers have taken it in:

1. a layer takes it into its weights (`layers.py`), and it ends there;
2. what is linear channel by channel passes it on: poolings by mean, Pad with zeros, Resize, Transpose, Reshape, ...; so do
   Relu, LeakyRelu, PRelu, Abs and poolings by maximum if no element is below 0;
3. Mul passes on the product of the factors of its operands, Div the numerator's;
4. Add, Sub, Sum, Max, Min and Concat pass on what all their operands agree on; in Concat an operand without factor has 1.

Everything else declines, and so do graph outputs and subgraphs that read the tensor.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.axes import axes_of
from pgc_graph.passes.scaling.axes import reshaped, squeezed, transposed, unsqueezed
from pgc_graph.passes.scaling.layers import LAYERS, scale_columns
from pgc_graph.passes.scaling.linear import LINEAR, POSITIVE, keeps_factor
from pgc_graph.passes.scaling.plan import Declined, Float64, ScalingPlan, constant_operand, is_positive, node_label

__all__ = ["push_forward"]

Factors: TypeAlias = "Mapping[ir.Value, Float64]"
Outcome: TypeAlias = "Float64 | Declined | None"


def push_forward(start: ir.Value, factor: Float64, plan: ScalingPlan, order: Mapping[ir.Node, int]) -> Declined | None:
    """Plan to multiply a tensor by a factor, in the constants of its readers.

    Args:
        start: The tensor.
        factor: What to multiply it by.
        plan: Takes the changes up; worthless if declined.
        order: The main graph's nodes by position.

    Returns:
        None, or why some reader cannot take the factor in.
    """
    factors = {start: factor}
    queue: list[tuple[int, ir.Node]] = []
    queued: set[ir.Node] = set()
    pending = [start]
    while True:
        for value in pending:
            if value.is_graph_output():
                return Declined(f"{value.name} is an output of the model")
            for node, _ in value.uses():
                if node not in order:
                    return Declined(f"a subgraph reads {value.name}")
                if node not in queued:
                    queued.add(node)
                    heapq.heappush(queue, (order[node], node))
        if not queue:
            return None
        _, node = heapq.heappop(queue)
        found = _through(node, factors, plan)
        if isinstance(found, Declined):
            return found
        pending = [] if found is None else [value for value in node.outputs if value.name]
        factors.update((value, found) for value in pending if found is not None)


def _through(node: ir.Node, factors: Factors, plan: ScalingPlan) -> Outcome:
    """Return the factor on a node's output, None if the node takes it in, or why it cannot."""
    if node.domain not in ("", "ai.onnx") or any(value.name and value.uses() for value in node.outputs[1:]):
        return Declined(f"{node_label(node)} reads it")
    if node.op_type in _COMBINING:
        return _COMBINING[node.op_type](node, factors, plan)
    data, *others = node.inputs
    if data is None or data not in factors or any(value in factors for value in others):
        return Declined(f"{node_label(node)} reads it as a parameter")
    factor = factors[data]
    if node.op_type in LAYERS and (node.op_type != "MatMul" or constant_operand(node, 1, plan)):
        return scale_columns(node, factor, plan)
    if node.op_type in LINEAR | {"Resize", "Pad"} or (node.op_type in POSITIVE and is_positive(factor)):
        return _reduced(node, factor, plan) if keeps_factor(node, factor, plan) else _stuck(node)
    if node.op_type in _MOVING:
        return _MOVING[node.op_type](node, factor, plan)
    return Declined(f"{node_label(node)} is not linear" if node.op_type in POSITIVE else f"{node_label(node)} reads it")


def _reduced(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Outcome:
    """Return a factor behind an operator that keeps it, or that reduces axes on which it does not vary."""
    if not node.op_type.startswith("Reduce") or factor.ndim == 0:
        return factor
    axes = axes_of(node, plan.constants)
    if not axes or any(factor.shape[axis] != 1 for axis in axes):
        return _stuck(node)
    return factor if node.attributes.get_int("keepdims", 1) else squeezed(factor, axes)


def _product(node: ir.Node, factors: Factors, plan: ScalingPlan) -> Outcome:
    total = np.ones(())
    for value in node.inputs:
        if value is not None and value in factors:
            total = total * factors[value]
    return _at_rank(node, total)


def _quotient(node: ir.Node, factors: Factors, plan: ScalingPlan) -> Outcome:
    numerator, denominator = node.inputs
    if numerator is None or denominator in factors:
        return Declined(f"{node_label(node)} divides by it")
    return _at_rank(node, factors[numerator])


def _agreed(node: ir.Node, factors: Factors, plan: ScalingPlan) -> Outcome:
    """Return the factor that all operands share."""
    if any(value not in factors for value in node.inputs):
        return Declined(f"{node_label(node)} joins it with what the gate does not act on")
    found = [factors[value] for value in node.inputs if value is not None]
    if any(other.shape != found[0].shape or not np.array_equal(other, found[0]) for other in found[1:]):
        return Declined(f"{node_label(node)} joins tensors with different gates")
    if node.op_type in ("Max", "Min") and not is_positive(found[0]):
        return Declined(f"{node_label(node)} is not linear")
    return _at_rank(node, found[0])


def _joined(node: ir.Node, factors: Factors, plan: ScalingPlan) -> Outcome:
    axis, parts = node.attributes.get_int("axis", 1), []
    for value in node.inputs:
        shape = None if value is None else value.shape
        length = None if shape is None else shape[axis]
        if value is None or shape is None or not isinstance(length, int):
            return Declined(f"the shapes that {node_label(node)} joins are unknown")
        factor = factors.get(value, np.ones(()))
        factor = factor.reshape(factor.shape or (1,) * len(shape))
        wanted = tuple(length if place == axis % len(shape) else dim for place, dim in enumerate(factor.shape))
        parts.append(np.broadcast_to(factor, wanted))
    across = [part.take([0], axis) for part in parts]
    if any(part.shape != across[0].shape for part in across[1:]):
        return _stuck(node)
    return np.concatenate(parts, axis)


def _multiplied(node: ir.Node, factors: Factors, plan: ScalingPlan) -> Outcome:
    """MatMul of two tensors: a factor that does not vary along the axis that is summed over passes."""
    if constant_operand(node, 1, plan):
        data = node.inputs[0]
        return scale_columns(node, factors[data], plan) if data is not None and data in factors else _stuck(node)
    total = np.ones(())
    for value in node.inputs:
        factor = np.ones(()) if value is None else factors.get(value, np.ones(()))
        if factor.size > 1:
            return _stuck(node)
        total = total * float(factor.reshape(-1)[0])
    return total


def _moved(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Outcome:
    if node.op_type == "Transpose":
        return transposed(node, factor)
    axes = axes_of(node, plan.constants)
    if axes is None:
        return _stuck(node)
    if node.op_type == "Unsqueeze":
        return unsqueezed(factor, axes)
    found = squeezed(factor, axes)
    return _stuck(node) if found is None else found


def _regrouped(node: ir.Node, factor: Float64, plan: ScalingPlan) -> Outcome:
    source = node.inputs[0]
    known = node.outputs[0].shape is not None or (node.op_type == "Flatten" and node.attributes.get_int("axis", 1) == 1)
    found = reshaped(factor, source, node.outputs[0]) if source is not None and known else None
    return Declined(f"the shapes around {node_label(node)} are unknown, or it mixes rows") if found is None else found


def _at_rank(node: ir.Node, factor: Float64) -> Outcome:
    """Return a factor with one dimension an axis of a node's output: operands may have fewer."""
    shape = node.outputs[0].shape
    if factor.ndim == 0:
        return factor
    if shape is None:
        return Declined(f"the rank of what {node_label(node)} computes is unknown")
    return factor.reshape((1,) * (len(shape) - factor.ndim) + factor.shape)


def _stuck(node: ir.Node) -> Declined:
    return Declined(f"the gate varies along an axis that {node_label(node)} changes")


_COMBINING: dict[str, Callable[[ir.Node, Factors, ScalingPlan], Outcome]] = {
    "Add": _agreed,
    "Concat": _joined,
    "Div": _quotient,
    "MatMul": _multiplied,
    "Max": _agreed,
    "Min": _agreed,
    "Mul": _product,
    "Sub": _agreed,
    "Sum": _agreed,
}
_MOVING: dict[str, Callable[[ir.Node, Float64, ScalingPlan], Outcome]] = {
    "Flatten": _regrouped,
    "Reshape": _regrouped,
    "Squeeze": _moved,
    "Transpose": _moved,
    "Unsqueeze": _moved,
}
