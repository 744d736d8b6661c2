"""Gradients of reductions (ONNX operators ReduceSum, ReduceMean, ReduceMax, ReduceProd, ...).

g and y are the output's gradient and the output, with the reduced axes kept as axes of size 1.

    Sum         g                      LogSum      g exp(-y)
    Mean        g / n                  LogSumExp   g exp(x - y)
    Max, Min    g / k for the k elements that are equal to y: ties share, as in torch's amax
    L1          g sign(x)              L2          g x / y, 0 where y = 0
    SumSquare   2 g x                  Prod        g times the product of the others, zeros or not
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import (
    cast,
    equal,
    expand_like,
    mask,
    positive_axes,
    reduce,
    scalar,
    unsqueeze,
)

__all__ = [
    "reduce_extremum",
    "reduce_l1",
    "reduce_l2",
    "reduce_log_sum",
    "reduce_log_sum_exp",
    "reduce_mean",
    "reduce_prod",
    "reduce_sum",
    "reduce_sum_square",
]


@dataclass(frozen=True, eq=False)
class _Reduction:
    """A reduction: what it reduces, over which axes (None for all), and g and y with these axes kept."""

    x: ir.Value
    axes: tuple[int, ...] | None
    g: ir.Value
    y: ir.Value


def reduce_sum(context: Context) -> Gradients:
    """y = the sum over axes."""
    found = _reduction(context)
    return [expand_like(context, found.g, found.x)]


def reduce_mean(context: Context) -> Gradients:
    """y = the mean over axes."""
    found = _reduction(context)
    return [expand_like(context, context.emit("Div", found.g, _count(context, found)), found.x)]


def reduce_extremum(context: Context) -> Gradients:
    """y = the largest, or smallest, element along axes."""
    found = _reduction(context)
    hits = mask(context, equal(context, found.x, found.y), found.x)
    share = context.emit("Div", found.g, reduce(context, "ReduceSum", hits, found.axes))
    return [context.emit("Mul", hits, share)]


def reduce_l1(context: Context) -> Gradients:
    """y = the sum of absolute values along axes."""
    found = _reduction(context, needs_axes=True)
    return [context.emit("Mul", context.emit("Sign", found.x), found.g)]


def reduce_l2(context: Context) -> Gradients:
    """y = the root of the sum of squares along axes."""
    found = _reduction(context, needs_axes=True)
    zero = scalar(context, 0.0, found.y)
    share = context.emit("Where", equal(context, found.y, zero), zero, context.emit("Div", found.g, found.y))
    return [context.emit("Mul", found.x, share)]


def reduce_sum_square(context: Context) -> Gradients:
    """y = the sum of squares along axes."""
    found = _reduction(context, needs_axes=True)
    return [context.emit("Mul", found.x, context.emit("Mul", found.g, scalar(context, 2.0, found.g)))]


def reduce_log_sum(context: Context) -> Gradients:
    """y = the logarithm of the sum along axes."""
    found = _reduction(context, needs_axes=True)
    share = context.emit("Mul", found.g, context.emit("Exp", context.emit("Neg", found.y)))
    return [expand_like(context, share, found.x)]


def reduce_log_sum_exp(context: Context) -> Gradients:
    """y = the logarithm of the sum of exponentials along axes."""
    found = _reduction(context, needs_axes=True)
    return [context.emit("Mul", found.g, context.emit("Exp", context.emit("Sub", found.x, found.y)))]


def reduce_prod(context: Context) -> Gradients:
    """y = the product along axes; the product of all but one element where that one, and no other, is 0."""
    found = _reduction(context)
    x, zero, one = found.x, scalar(context, 0.0, found.x), scalar(context, 1.0, found.x)
    is_zero = equal(context, x, zero)
    filled = context.emit("Where", is_zero, one, x)
    product = reduce(context, "ReduceProd", filled, found.axes)
    zeros = reduce(context, "ReduceSum", mask(context, is_zero, x), found.axes)
    no_zero = context.emit("Where", equal(context, zeros, zero), product, zero)
    one_zero = context.emit("Where", equal(context, zeros, one), product, zero)
    others = context.emit("Where", is_zero, one_zero, context.emit("Div", no_zero, filled))
    return [context.emit("Mul", found.g, others)]


def _reduction(context: Context, *, needs_axes: bool = False) -> _Reduction:
    x, g, y = context.operand(), context.gradient, context.y
    axes = context.attribute("axes")
    if axes is None and context.input(1) is not None:
        known = context.known_input(1, "axes")
        axes = None if known is None else [int(axis) for axis in known.reshape(-1)]
    if not axes:
        reduces_nothing = bool(context.attribute("noop_with_empty_axes", 0))
        if reduces_nothing and needs_axes:
            context.refuse("it reduces over no axes, which runtimes read in two ways; remove it, or name the axes")
        return _Reduction(x, () if reduces_nothing else None, g, y)  # a result of rank 0 broadcasts as it is
    listed = positive_axes(axes, context.rank(x))
    if not context.attribute("keepdims", 1):
        g, y = unsqueeze(context, g, listed), unsqueeze(context, y, listed)
    return _Reduction(x, listed, g, y)


def _count(context: Context, found: _Reduction) -> ir.Value:
    """Return how many elements each result was made of."""
    if found.axes is not None or found.x.shape is not None:
        dims = context.dims(found.x)
        sizes = dims if found.axes is None else [dims[axis] for axis in found.axes]
        numbers = [size for size in sizes if isinstance(size, int)]
        if len(numbers) == len(sizes):
            return scalar(context, math.prod(numbers), found.g)
    sizes_of = [cast(context, context.emit("Size", value), context.dtype(found.g)) for value in (found.x, found.y)]
    return context.emit("Div", *sizes_of)
