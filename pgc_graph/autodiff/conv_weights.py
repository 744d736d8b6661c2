"""The gradient of a convolution by its kernel: a convolution of what the windows slide over with what lies behind them."""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.autodiff.context import Context
from pgc_graph.autodiff.cuts import cut, pad
from pgc_graph.autodiff.forms import reduce, reshape, transpose
from pgc_graph.autodiff.windows import Windows

__all__ = ["kernel_gradient"]


def kernel_gradient(
    context: Context, wide: ir.Value, narrow: ir.Value, w: ir.Value, found: Windows, groups: int
) -> ir.Value:
    """Return gw[m, c, t] = sum over n, o of narrow[n, m, o] wide[n, c, o s - p + t d].

    Args:
        context: The node.
        wide: What the windows slide over, (N, G C, ...).
        narrow: One element a window, (N, G M, ...).
        w: The kernel, (G M, C, ...), whose shape the result has.
        found: The windows.
        groups: G.

    Raises:
        UnsupportedError: With groups, where spatial sizes only show at run time.
    """
    plain = all(size == 1 for size in (*found.kernel, *found.strides)) and not any((*found.begins, *found.ends))
    gw = (
        _product(context, wide, narrow, w)
        if plain and groups == 1
        else _convolution(context, wide, narrow, found, groups)
    )
    gw.shape = w.shape
    return gw


def _product(context: Context, wide: ir.Value, narrow: ir.Value, w: ir.Value) -> ir.Value:
    """Without windows: the sum over the batch of products (M, positions) (positions, C)."""
    rows, columns = context.static_dims(w)[:2]
    left = reshape(context, narrow, [0, rows, -1])
    right = transpose(context, reshape(context, wide, [0, columns, -1]), [0, 2, 1])
    total = reduce(context, "ReduceSum", context.emit("MatMul", left, right), [0], keepdims=False)
    return reshape(context, total, list(context.static_dims(w)))


def _convolution(context: Context, wide: ir.Value, narrow: ir.Value, found: Windows, groups: int) -> ir.Value:
    order = [1, 0, *found.axes]
    ends = [end - (left or 0) for end, left in zip(found.ends, found.remainders, strict=True)]
    cuts = {axis: (min(b, 0), min(e, 0)) for axis, b, e in zip(found.axes, found.begins, ends, strict=True)}
    result = context.emit(
        "Conv",
        pad(context, _groups_beside_batch(context, wide, groups), cuts),
        transpose(context, narrow, order),
        strides=list(found.dilations),
        dilations=list(found.strides),
        group=groups,
        pads=[max(side, 0) for side in (*found.begins, *ends)],
    )  # (C, G M, ...)
    late = {
        axis: (0, size)
        for axis, size, left in zip(found.axes, found.kernel, found.remainders, strict=True)
        if left is None
    }
    return transpose(context, cut(context, result, late), order)


def _groups_beside_batch(context: Context, x: ir.Value, groups: int) -> ir.Value:
    """Turn (N, G C, ...) into (C, G N, ...)."""
    rank = context.rank(x)
    if groups == 1:
        return transpose(context, x, [1, 0, *range(2, rank)])
    channels, *sizes = context.static_dims(x, range(1, rank))
    each = channels // groups
    split = reshape(context, x, [-1, groups, each, *sizes])
    turned = transpose(context, split, [2, 1, 0, *range(3, rank + 1)])
    return reshape(context, turned, [each, -1, *sizes])
