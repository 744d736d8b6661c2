"""Gradients of poolings over sliding windows (ONNX operators AveragePool, MaxPool, LpPool).

With the windows of `windows.py`:

1. AveragePool. Each window spreads g / n over its positions. n is the kernel's size; where a window reaches into padding
   that does not count, or beyond the padded end (`ceil_mode`), it is what is left. Windows that lie side by side spread by
   repeating elements, others by a ConvTranspose of ones, each channel by itself.
2. LpPool. As in 1 for g y^(1-p), then times sign(x) |x|^(p-1).
3. MaxPool. The place of each window's first maximum is what MaxPool returns as `Indices`: g is scattered there. Places that
   overlapping windows share get the sum; below opset 16, which cannot sum, windows are taken in sets that do not overlap.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.cuts import pad, pick
from pgc_graph.autodiff.forms import reshape, reshape_like, scalar
from pgc_graph.autodiff.pool import lp_slope, scatter
from pgc_graph.autodiff.stretch import repeat_elements
from pgc_graph.autodiff.windows import Windows, window_positions, windows

__all__ = ["average_pool", "lp_pool", "max_pool"]

_ADDING_OPSET = 16


def average_pool(context: Context) -> Gradients:
    """y = mean of x over each window (case 1)."""
    x = context.operand()
    found = _windows(context)
    shares = context.emit("Div", context.gradient, _counts(context, found))
    return [_spread(context, shares, found, x)]


def lp_pool(context: Context) -> Gradients:
    """y = (sum of |x|^p over each window)^(1/p) (case 2)."""
    outer, inner = lp_slope(context, int(context.attribute("p", 2)))
    return [context.emit("Mul", inner, _spread(context, outer, _windows(context), context.operand()))]


def max_pool(context: Context) -> Gradients:
    """y = largest x of each window (case 3)."""
    x, g = context.operand(), context.gradient
    attributes = {name: item.value for name, item in context.node.attributes.items() if name != "storage_order"}
    _, places = context.emit_many("MaxPool", [x], 2, **attributes)
    found = _windows(context)
    steps = [span // stride + 1 for span, stride in zip(found.spans, found.strides, strict=True)]
    size = reshape(context, context.emit("Size", x), [1])
    empty = context.emit("Expand", scalar(context, 0.0, x), size)
    if context.opset >= _ADDING_OPSET or all(step == 1 for step in steps):
        add = any(step > 1 for step in steps)
        return [reshape_like(context, _scattered(context, empty, places, g, add=add), x)]
    parts = []
    for start in itertools.product(*map(range, steps)):
        chosen, there = g, places
        for axis, first, step in zip(found.axes, start, steps, strict=True):
            (count,) = context.static_dims(context.y, (axis,))
            chosen = pick(context, chosen, range(first, count, step), axis)
            there = pick(context, there, range(first, count, step), axis)
        parts.append(_scattered(context, empty, there, chosen, add=False))
    return [reshape_like(context, context.emit("Sum", *parts), x)]


def _scattered(context: Context, empty: ir.Value, places: ir.Value, g: ir.Value, *, add: bool) -> ir.Value:
    return scatter(context, empty, reshape(context, places, [-1]), reshape(context, g, [-1]), axis=0, add=add)


def _windows(context: Context) -> Windows:
    return windows(context, tuple(context.attribute("kernel_shape")), context.operand(), context.y)


def _counts(context: Context, found: Windows) -> ir.Value:
    """Return how many elements each window is the mean of: one number, or one a window."""
    padding_counts = bool(context.attribute("count_include_pad", 0))
    padded = any((*found.begins, *found.ends))
    if (padding_counts or not padded) and not context.attribute("ceil_mode", 0):
        return scalar(context, math.prod(found.kernel), context.gradient)
    context.static_dims(context.operand(), found.axes)
    counts: NDArray[np.int64] = np.ones((), np.int64)
    for axis, wide in enumerate(context.static_dims(context.operand(), found.axes)):
        places = window_positions(found, axis)
        low, high = (-found.begins[axis], wide + found.ends[axis]) if padding_counts else (0, wide)
        counts = counts[..., None] * ((places >= low) & (places < high)).sum(1)
    return context.constant(np.maximum(counts, 1), like=context.gradient)


def _spread(context: Context, shares: ir.Value, found: Windows, x: ir.Value) -> ir.Value:
    """Return for each position the sum of the shares of all windows that cover it."""
    if all(size == 1 for size in (*found.kernel, *found.strides)):
        return shares
    sizes = context.static_dims(x, found.axes)
    counts = context.static_dims(context.y, found.axes)
    facts = zip(found.kernel, found.strides, found.dilations, counts, strict=True)
    if all((k == s or count == 1) and d == 1 for k, s, d, count in facts):
        ends = [
            wide - count * k + p for wide, count, k, p in zip(sizes, counts, found.kernel, found.begins, strict=True)
        ]
        sides = {axis: (-p, end) for axis, p, end in zip(found.axes, found.begins, ends, strict=True)}
        return pad(context, repeat_elements(context, shares, found.kernel), sides)
    rest = [left or 0 for left in found.remainders]
    spread = context.emit(
        "ConvTranspose",
        reshape(context, shares, [-1, 1, *counts]),
        context.constant(np.ones((1, 1, *found.kernel)), like=shares),
        strides=list(found.strides),
        dilations=list(found.dilations),
        pads=[*found.begins, *(max(end - left, 0) for end, left in zip(found.ends, rest, strict=True))],
        output_padding=[max(left - end, 0) for end, left in zip(found.ends, rest, strict=True)],
    )
    return reshape_like(context, spread, x)
