"""Gradients of poolings over all positions (ONNX operators GlobalAveragePool, GlobalMaxPool, GlobalLpPool)."""

from __future__ import annotations

import math

import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.cuts import cut
from pgc_graph.autodiff.forms import cast, equal, expand_like, reduce, reshape, reshape_like, scalar, zeros_like

__all__ = ["global_average_pool", "global_lp_pool", "global_max_pool", "lp_slope", "scatter"]


def global_average_pool(context: Context) -> Gradients:
    """y = mean of x over all positions."""
    x = context.operand()
    return [expand_like(context, context.emit("Div", context.gradient, _positions(context, x)), x)]


def global_max_pool(context: Context) -> Gradients:
    """y = largest x of all positions: the first of equal ones gets the gradient, as in torch's adaptive_max_pool."""
    x = context.operand()
    flat = reshape(context, x, [0, 0, -1])  # (N, C, positions)
    places = context.emit("ArgMax", flat, axis=2, keepdims=1)  # (N, C, 1)
    hits = scatter(context, zeros_like(context, flat), places, reshape(context, context.gradient, [0, 0, 1]), axis=2)
    return [reshape_like(context, hits, x)]


def global_lp_pool(context: Context) -> Gradients:
    """y = (sum of |x|^p over all positions)^(1/p)."""
    norm = int(context.attribute("p", 2))
    outer, inner = lp_slope(context, norm)
    return [context.emit("Mul", inner, outer)]


def lp_slope(context: Context, norm: int) -> tuple[ir.Value, ir.Value]:
    """Return the two factors of the gradient of a p-norm: g y^(1-p), 0 where y = 0, and sign(x) |x|^(p-1)."""
    x, y, g = context.operand(), context.y, context.gradient
    if norm == 1:
        return g, context.emit("Sign", x)
    zero = scalar(context, 0.0, y)
    scale = y if norm == 2 else context.emit("Pow", y, scalar(context, norm - 1, y))
    outer = context.emit("Where", equal(context, y, zero), zero, context.emit("Div", g, scale))
    if norm == 2:
        return outer, x
    power = context.emit("Pow", context.emit("Abs", x), scalar(context, norm - 1, x))
    return outer, context.emit("Mul", context.emit("Sign", x), power)


def scatter(
    context: Context, data: ir.Value, indices: ir.Value, updates: ir.Value, *, axis: int, add: bool = False
) -> ir.Value:
    """Put elements into places along an axis; with `add` (opset 16) those that meet are summed."""
    operator = "ScatterElements" if context.opset >= 11 else "Scatter"
    return context.emit(operator, data, indices, updates, axis=axis, reduction="add" if add else None)


def _positions(context: Context, x: ir.Value) -> ir.Value:
    """Return how many positions there are, as a scalar of the type of x."""
    sizes = [dim for dim in context.dims(x)[2:] if isinstance(dim, int)]
    if len(sizes) == context.rank(x) - 2:
        return scalar(context, math.prod(sizes), x)
    spatial = cut(context, context.emit("Shape", x), {0: (2, context.rank(x))})
    return reduce(context, "ReduceProd", cast(context, spatial, context.dtype(x)), None, keepdims=False)
