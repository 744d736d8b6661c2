"""Gradients of elementwise arithmetic with broadcasting (ONNX operators Add, Sub, Mul, Div, Pow, Max, Where, ...).

g is the gradient of the output y. What broadcasting repeats is summed by `sum_to`.

    a + b           g, g                        exp a           g y
    a - b           g, -g                       log a           g / a
    a b             g b, g a                    sqrt a          g / 2y
    a / b           g / b, -(g / b) y           1 / a           -g y²
    mean            g / n each                  |a|             g sign(a)
    max, min        g / k for the k operands that are equal to y: ties share
    a ^ b           g b a^(b-1), 0 where b = 0; g y log a, 0 where a = 0 and b >= 0
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import cast, equal, mask, scalar, sum_to

__all__ = [
    "absolute",
    "add",
    "convert",
    "div",
    "dropout",
    "exp",
    "extremum",
    "identity",
    "log",
    "mean",
    "mul",
    "neg",
    "power",
    "reciprocal",
    "sqrt",
    "sub",
    "where",
]


def identity(context: Context) -> Gradients:
    """y = x."""
    return [context.gradient]


def dropout(context: Context) -> Gradients:
    """y = x, in inference."""
    if context.input(2) is not None:
        training = context.known_input(2, "training_mode")
        if training is not None and training.any():
            context.refuse("it is in training mode, expected inference; export the model in inference mode")
    return [context.gradient]


def convert(context: Context) -> Gradients:
    """y = x in another type (Cast, CastLike); from or to integers there is no gradient."""
    return [cast(context, context.gradient, context.dtype(context.operand()))]


def neg(context: Context) -> Gradients:
    """y = -x."""
    return [context.emit("Neg", context.gradient)]


def absolute(context: Context) -> Gradients:
    """y = |x|; at 0 the slope is 0."""
    return [context.emit("Mul", context.gradient, context.emit("Sign", context.operand()))]


def exp(context: Context) -> Gradients:
    """y = exp x."""
    return [context.emit("Mul", context.gradient, context.y)]


def log(context: Context) -> Gradients:
    """y = log x."""
    return [context.emit("Div", context.gradient, context.operand())]


def sqrt(context: Context) -> Gradients:
    """y = sqrt x."""
    half = context.emit("Mul", context.gradient, scalar(context, 0.5, context.y))
    return [context.emit("Div", half, context.y)]


def reciprocal(context: Context) -> Gradients:
    """y = 1 / x."""
    square = context.emit("Mul", context.y, context.y)
    return [context.emit("Neg", context.emit("Mul", context.gradient, square))]


def add(context: Context) -> Gradients:
    """y = a + b, or the sum of any number of tensors."""
    return _for_each(context, [context.gradient for _ in context.node.inputs])


def mean(context: Context) -> Gradients:
    """y = the mean of any number of tensors."""
    share = context.emit("Mul", context.gradient, scalar(context, 1 / len(context.node.inputs), context.y))
    return _for_each(context, [share for _ in context.node.inputs])


def sub(context: Context) -> Gradients:
    """y = a - b."""
    ga, gb = _for_each(context, [context.gradient, context.gradient])
    return [ga, None if gb is None else context.emit("Neg", gb)]


def mul(context: Context) -> Gradients:
    """y = a b."""
    factors = (context.operand(1), context.operand(0))
    return _for_each(
        context,
        [
            context.emit("Mul", context.gradient, factor) if context.wants(index) else None
            for index, factor in enumerate(factors)
        ],
    )


def div(context: Context) -> Gradients:
    """y = a / b."""
    over = context.emit("Div", context.gradient, context.operand(1))
    ga, gb = _for_each(context, [over, context.emit("Mul", over, context.y) if context.wants(1) else None])
    return [ga, None if gb is None else context.emit("Neg", gb)]


def power(context: Context) -> Gradients:
    """y = a ^ b, where b may be of another type."""
    a, g = context.operand(0), context.gradient
    b = cast(context, context.operand(1), context.dtype(a))
    zero = scalar(context, 0.0, a)
    ga = _base_gradient(context, a, b, g) if context.wants(0) else None
    gb = None
    if context.wants(1):
        at_zero = context.emit("And", equal(context, a, zero), context.emit("Not", context.emit("Less", b, zero)))
        slope = context.emit("Where", at_zero, zero, context.emit("Mul", context.y, context.emit("Log", a)))
        gb = cast(context, context.emit("Mul", g, slope), context.dtype(context.operand(1)))
    return _for_each(context, [ga, gb])


def _base_gradient(context: Context, a: ir.Value, b: ir.Value, g: ir.Value) -> ir.Value:
    one = scalar(context, 1.0, a)
    known = context.known(b)
    if known is not None and np.all(known == 2):
        return context.emit("Mul", g, context.emit("Mul", b, a))
    slope = context.emit("Mul", b, context.emit("Pow", a, context.emit("Sub", b, one)))
    if known is None or np.any(known == 0):
        zero = scalar(context, 0.0, a)
        slope = context.emit("Where", equal(context, b, zero), zero, slope)  # 0 ^ -1 is infinite
    return context.emit("Mul", g, slope)


def extremum(context: Context) -> Gradients:
    """y = the largest, or the smallest, of any number of tensors."""
    operands = [context.operand(index) for index in range(len(context.node.inputs))]
    if len(operands) == 1:
        return [context.gradient]
    hits = [mask(context, equal(context, value, context.y), value) for value in operands]
    count = context.emit("Add", hits[0], hits[1]) if len(hits) == 2 else context.emit("Sum", *hits)
    share = context.emit("Div", context.gradient, count)
    return _for_each(context, [context.emit("Mul", share, hit) for hit in hits])


def where(context: Context) -> Gradients:
    """y = a where a condition holds, else b; the condition has no gradient."""
    condition, zero = context.operand(0), scalar(context, 0.0, context.y)
    ga = context.emit("Where", condition, context.gradient, zero) if context.wants(1) else None
    gb = context.emit("Where", condition, zero, context.gradient) if context.wants(2) else None
    return _for_each(context, [None, ga, gb])


def _for_each(context: Context, spread: Gradients) -> Gradients:
    """Give every operand whose gradient is wanted its share, which has the output's shape, in the operand's shape."""
    return [
        sum_to(context, value, context.operand(index), spread=context.y)
        if value is not None and context.wants(index)
        else None
        for index, value in enumerate(spread)
    ]
