"""Gradients of smooth activation functions (ONNX operators Softplus, Softsign, Mish, Swish, Erf, Gelu) by x.

Softplus    sigmoid x                        Erf     2 / sqrt(pi) exp(-x²)
Softsign    1 / (1 + |x|)²                   Swish   s + alpha y (1 - s)        with s = sigmoid(alpha x)
Mish        t + x s (1 - t²)                 with t = tanh(softplus x), s = sigmoid x
Gelu        Phi(x) + x phi(x)                with the normal distribution Phi and its density phi
Gelu, tanh  (1 + t) / 2 + x (1 - t²) u' / 2  with u = sqrt(2 / pi) (x + 0.044715 x³), t = tanh u
"""

from __future__ import annotations

import math

import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import scalar

__all__ = ["erf", "gelu", "mish", "softplus", "softsign", "swish"]

_CUBIC = 0.044715  # ONNX operator page of Gelu


def softplus(context: Context) -> Gradients:
    """y = log(1 + exp x)."""
    return [_by_slope(context, context.emit("Sigmoid", context.operand()))]


def softsign(context: Context) -> Gradients:
    """y = x / (1 + |x|)."""
    below = context.emit("Add", context.emit("Abs", context.operand()), scalar(context, 1.0, context.y))
    return [context.emit("Div", context.gradient, context.emit("Mul", below, below))]


def mish(context: Context) -> Gradients:
    """y = x tanh(softplus x)."""
    x = context.operand()
    t = context.emit("Tanh", context.emit("Softplus", x))
    bend = context.emit("Mul", context.emit("Mul", x, context.emit("Sigmoid", x)), _one_minus_square(context, t))
    return [_by_slope(context, context.emit("Add", t, bend))]


def swish(context: Context) -> Gradients:
    """y = x sigmoid(alpha x)."""
    x, y, alpha = context.operand(), context.y, float(context.attribute("alpha", 1.0))
    s = context.emit("Sigmoid", _scaled(context, x, alpha))
    bend = context.emit("Mul", _scaled(context, y, alpha), context.emit("Sub", scalar(context, 1.0, x), s))
    return [_by_slope(context, context.emit("Add", s, bend))]


def erf(context: Context) -> Gradients:
    """y = the error function of x."""
    x = context.operand()
    density = context.emit("Exp", context.emit("Neg", context.emit("Mul", x, x)))
    return [_by_slope(context, _scaled(context, density, 2 / math.sqrt(math.pi)))]


def gelu(context: Context) -> Gradients:
    """y = x Phi(x), exactly or by the approximation with tanh."""
    approximate = context.attribute("approximate", "none")
    if approximate not in ("none", "tanh"):
        context.refuse(f"its approximation is {approximate!r}, expected none or tanh")
    slope = _gelu_slope(context) if approximate == "none" else _tanh_gelu_slope(context)
    return [_by_slope(context, slope)]


def _gelu_slope(context: Context) -> ir.Value:
    x = context.operand()
    half = scalar(context, 0.5, x)
    tail = context.emit("Mul", context.emit("Erf", _scaled(context, x, math.sqrt(0.5))), half)
    square = context.emit("Mul", context.emit("Mul", x, x), scalar(context, -0.5, x))
    density = _scaled(context, context.emit("Exp", square), 1 / math.sqrt(2 * math.pi))
    return context.emit("Add", context.emit("Add", tail, half), context.emit("Mul", x, density))


def _tanh_gelu_slope(context: Context) -> ir.Value:
    x, factor = context.operand(), math.sqrt(2 / math.pi)
    one, half = scalar(context, 1.0, x), scalar(context, 0.5, x)
    square = context.emit("Mul", x, x)
    inner = context.emit("Mul", x, context.emit("Add", _scaled(context, square, _CUBIC), one))
    t = context.emit("Tanh", _scaled(context, inner, factor))
    steepness = _scaled(context, context.emit("Add", _scaled(context, square, 3 * _CUBIC), one), factor)
    bend = context.emit("Mul", context.emit("Mul", x, steepness), _one_minus_square(context, t))
    return context.emit("Mul", context.emit("Add", context.emit("Add", t, one), bend), half)


def _one_minus_square(context: Context, t: ir.Value) -> ir.Value:
    return context.emit("Sub", scalar(context, 1.0, t), context.emit("Mul", t, t))


def _scaled(context: Context, x: ir.Value, factor: float) -> ir.Value:
    return x if factor == 1 else context.emit("Mul", x, scalar(context, factor, x))


def _by_slope(context: Context, slope: ir.Value) -> ir.Value:
    return context.emit("Mul", context.gradient, slope)
