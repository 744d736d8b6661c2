"""Gradients of activation functions in pieces (ONNX operators Sigmoid, Tanh, Relu, LeakyRelu, Elu, Clip, ...).

g is the gradient of the output y. Where a slope jumps, the side is chosen that torch chooses.

    Sigmoid          y (1 - y)                          Relu, ThresholdedRelu   1 where y > 0, else 0
    Tanh             1 - y²                             LeakyRelu, PRelu        1 where x > 0, else slope
    Elu              1 where x > 0, else y + alpha      HardSigmoid             alpha where 0 < y < 1, else 0
    Selu             gamma where x > 0, else y + gamma alpha
    Celu             1 where x > 0, else y / alpha + 1
    HardSwish        1 where x >= 3, 0 where x <= -3, between them x / 3 + 1/2
    Clip             1 where low <= x <= high, else 0; a bound gets the gradient of what lies beyond it
"""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import one_minus, positive_mask, scalar, sum_to

__all__ = [
    "celu",
    "clip",
    "elu",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "prelu",
    "relu",
    "selu",
    "sigmoid",
    "tanh",
]

# ONNX operator page of Selu; the numbers are given in float32.
_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


def sigmoid(context: Context) -> Gradients:
    """y = 1 / (1 + exp(-x))."""
    y = context.y
    return [context.emit("Mul", context.gradient, context.emit("Mul", y, one_minus(context, y)))]


def tanh(context: Context) -> Gradients:
    """y = tanh x."""
    y = context.y
    slope = context.emit("Sub", scalar(context, 1.0, y), context.emit("Mul", y, y))
    return [context.emit("Mul", context.gradient, slope)]


def relu(context: Context) -> Gradients:
    """y = max(x, 0), or x above a threshold and 0 elsewhere."""
    if context.node.op_type == "Relu":
        return [context.emit("Mul", context.gradient, positive_mask(context, context.y))]
    zero = scalar(context, 0.0, context.y)  # but the threshold may be negative
    passes = context.emit("Greater", context.operand(), scalar(context, context.attribute("alpha", 1.0), zero))
    return [context.emit("Where", passes, context.gradient, zero)]


def leaky_relu(context: Context) -> Gradients:
    """y = x where x > 0, else alpha x."""
    alpha = scalar(context, context.attribute("alpha", 0.01), context.y)
    return [_where_positive(context, context.gradient, context.emit("Mul", context.gradient, alpha))]


def prelu(context: Context) -> Gradients:
    """y = x where x > 0, else slope x, with a slope that is broadcast to x."""
    x, slope, g = context.operand(0), context.operand(1), context.gradient
    gx = _where_positive(context, g, context.emit("Mul", g, slope)) if context.wants(0) else None
    if not context.wants(1):
        return [gx]
    below = _where_positive(context, scalar(context, 0.0, x), context.emit("Mul", g, x))
    return [gx, sum_to(context, below, slope, spread=context.y)]


def elu(context: Context) -> Gradients:
    """y = x where x > 0, else alpha (exp x - 1)."""
    y = context.y
    below = context.emit("Add", y, scalar(context, context.attribute("alpha", 1.0), y))
    return [_by_slope(context, _where_positive(context, scalar(context, 1.0, y), below))]


def selu(context: Context) -> Gradients:
    """y = gamma x where x > 0, else gamma alpha (exp x - 1)."""
    alpha, gamma = context.attribute("alpha", _SELU_ALPHA), context.attribute("gamma", _SELU_GAMMA)
    below = context.emit("Add", context.y, scalar(context, alpha * gamma, context.y))
    return [_by_slope(context, _where_positive(context, scalar(context, gamma, context.y), below))]


def celu(context: Context) -> Gradients:
    """y = x where x > 0, else alpha (exp(x / alpha) - 1)."""
    y, one = context.y, scalar(context, 1.0, context.y)
    alpha = scalar(context, context.attribute("alpha", 1.0), y)
    below = context.emit("Add", context.emit("Div", y, alpha), one)
    return [_by_slope(context, _where_positive(context, one, below))]


def hard_sigmoid(context: Context) -> Gradients:
    """y = alpha x + beta, kept between 0 and 1."""
    y, zero = context.y, scalar(context, 0.0, context.y)
    inside = context.emit("And", context.emit("Greater", y, zero), context.emit("Less", y, scalar(context, 1.0, y)))
    slope = scalar(context, context.attribute("alpha", 0.2), y)
    return [context.emit("Where", inside, context.emit("Mul", context.gradient, slope), zero)]


def hard_swish(context: Context) -> Gradients:
    """y = x times x / 6 + 1/2 kept between 0 and 1."""
    x = context.operand()
    third, half, three = (scalar(context, number, x) for number in (1 / 3, 0.5, 3.0))
    between = context.emit("Add", context.emit("Mul", x, third), half)
    upper = context.emit("Where", context.emit("Less", x, three), between, scalar(context, 1.0, x))
    above = context.emit("Greater", x, scalar(context, -3.0, x))
    return [_by_slope(context, context.emit("Where", above, upper, scalar(context, 0.0, x)))]


def clip(context: Context) -> Gradients:
    """y = x kept between two bounds: attributes before opset 11, then inputs."""
    x, g, zero = context.operand(), context.gradient, scalar(context, 0.0, context.y)
    low, high = context.input(1), context.input(2)
    if context.opset < 11:
        given = [context.attribute(name) for name in ("min", "max")]
        low, high = (None if bound is None else scalar(context, bound, x) for bound in given)
    outside = [context.emit("Less", x, low)] if low is not None else []
    outside += [context.emit("Less", high, x)] if high is not None else []
    if not outside:
        return [g]
    beyond = outside[0] if len(outside) == 1 else context.emit("Or", *outside)
    gx = context.emit("Where", beyond, zero, g) if context.wants(0) else None
    return [gx, *_bound_gradients(context, x, low, high)]


def _bound_gradients(context: Context, x: ir.Value, low: ir.Value | None, high: ir.Value | None) -> Gradients:
    g, zero = context.gradient, scalar(context, 0.0, context.y)
    # Where the bounds have crossed, the result is the high one.
    crossed = None if low is None or high is None else context.emit("Less", high, low)
    found: list[ir.Value | None] = [None, None]
    if low is not None and context.wants(1):
        at_low = context.emit("Less", x, low)
        if crossed is not None:
            at_low = context.emit("And", at_low, context.emit("Not", crossed))
        found[0] = sum_to(context, context.emit("Where", at_low, g, zero), low, spread=context.y)
    if high is not None and context.wants(2):
        at_high = context.emit("Less", high, x)
        at_high = at_high if crossed is None else context.emit("Or", at_high, crossed)
        found[1] = sum_to(context, context.emit("Where", at_high, g, zero), high, spread=context.y)
    return found


def _where_positive(context: Context, above: ir.Value, below: ir.Value) -> ir.Value:
    x = context.operand()
    return context.emit("Where", context.emit("Greater", x, scalar(context, 0.0, x)), above, below)


def _by_slope(context: Context, slope: ir.Value) -> ir.Value:
    return context.emit("Mul", context.gradient, slope)
