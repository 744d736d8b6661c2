"""The gradient of a product, and of products that are an operator of their own in all but name.

1. SiLU as exporters write it, y = x s with s = Sigmoid(x): g (s + y (1 - s)) in one; Mul and Sigmoid by themselves would
   take two products more and a sum.
2. Squeeze and excitation, y = x gate with a gate (N, C, 1, ...): the gate's gradient is a sum over positions, written as
   GlobalAveragePool, which onnxruntime runs in the blocked layout of convolutions.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from pgc_graph.autodiff import activations, elementwise
from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import one_minus, scalar, sum_to

__all__ = ["multiply"]


def multiply(context: Context) -> Gradients:
    """y = a b."""
    a, b = context.operand(0), context.operand(1)
    if _is_sigmoid_of(context, b, a):
        return [_silu(context, b), None]
    if _is_sigmoid_of(context, a, b):
        return [None, _silu(context, a)]
    if _is_gate_of(context, b, a) or _is_gate_of(context, a, b):
        return [
            _factor(context, a, b) if context.wants(0) else None,
            _factor(context, b, a) if context.wants(1) else None,
        ]
    return elementwise.mul(context)


def _is_sigmoid_of(context: Context, s: ir.Value, x: ir.Value) -> bool:
    node = s.producer()
    return context.rule_behind(s) is activations.sigmoid and node is not None and node.inputs[0] is x


def _silu(context: Context, s: ir.Value) -> ir.Value:
    """Case 1."""
    slope = context.emit("Add", context.emit("Mul", context.y, one_minus(context, s)), s)
    return context.emit("Mul", context.gradient, slope)


def _is_gate_of(context: Context, gate: ir.Value, x: ir.Value) -> bool:
    if gate.shape is None or x.shape is None or gate.dtype != ir.DataType.FLOAT:
        return False
    narrow, wide = context.dims(gate), context.dims(x)
    positions = wide[2:]
    return (
        len(narrow) == len(wide) >= 3
        and narrow[:2] == wide[:2]
        and None not in narrow[:2]
        and all(dim == 1 for dim in narrow[2:])
        and all(isinstance(dim, int) for dim in positions)
        and any(dim != 1 for dim in positions)
    )


def _factor(context: Context, own: ir.Value, other: ir.Value) -> ir.Value:
    product = context.emit("Mul", context.gradient, other)
    if not _is_gate_of(context, own, other):
        return sum_to(context, product, own, spread=context.y)
    mean = context.emit("GlobalAveragePool", product)
    value = context.emit(
        "Mul", mean, scalar(context, math.prod(context.static_dims(other, range(2, context.rank(other)))), mean)
    )
    value.shape = own.shape
    return value
