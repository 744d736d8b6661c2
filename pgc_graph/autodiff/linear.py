"""Gradients of matrix products (ONNX operators Gemm, MatMul).

    Gemm    y = alpha A' B' + beta C, where A' and B' may be transposed: alpha g B'^T, alpha A'^T g, beta g
    MatMul  y = A B over the last two axes, others broadcast: g B^T, A^T g. A vector on the left counts as one row, on the
            right as one column.

Gemm transposes while it multiplies; where a matrix is constant its transpose is stored instead.
"""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import reshape, scalar, squeeze, sum_to, transpose, unsqueeze

__all__ = ["gemm", "matmul"]


def gemm(context: Context) -> Gradients:
    """y = alpha A' B' + beta C."""
    a, b, c, g = context.operand(0), context.operand(1), context.input(2), context.gradient
    turned_a, turned_b = bool(context.attribute("transA", 0)), bool(context.attribute("transB", 0))
    alpha, beta = float(context.attribute("alpha", 1.0)), float(context.attribute("beta", 1.0))
    found: list[ir.Value | None] = [None, None, None]
    if context.wants(0):
        sides = (b, turned_b, g, True) if turned_a else (g, False, b, not turned_b)
        found[0] = _product(context, *sides, alpha=alpha)
    if context.wants(1):
        sides = (g, True, a, turned_a) if turned_b else (a, not turned_a, g, False)
        found[1] = _product(context, *sides, alpha=alpha)
    if c is not None and context.wants(2):
        share = sum_to(context, g, c, spread=context.y)
        found[2] = share if beta == 1 else context.emit("Mul", share, scalar(context, beta, share))
    return found


def matmul(context: Context) -> Gradients:
    """y = A B, of any ranks."""
    a, b, g = context.operand(0), context.operand(1), context.gradient
    rank_a, rank_b = context.rank(a), context.rank(b)
    if rank_a == rank_b == 1:
        return [context.emit("Mul", g, b), context.emit("Mul", g, a)]
    rows = unsqueeze(context, a, [0]) if rank_a == 1 else a
    columns = unsqueeze(context, b, [1]) if rank_b == 1 else b
    if rank_a == 1:
        g = unsqueeze(context, g, [context.rank(g) - 1])
    if rank_b == 1:
        g = unsqueeze(context, g, [context.rank(g)])
    ga = _left_gradient(context, g, rows, columns) if context.wants(0) else None
    gb = _right_gradient(context, g, rows, columns) if context.wants(1) else None
    if ga is not None and rank_a == 1:
        ga = squeeze(context, ga, [0])
    if gb is not None and rank_b == 1:
        gb = squeeze(context, gb, [1])
    return [ga, gb]


def _left_gradient(context: Context, g: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    if context.rank(g) == context.rank(b) == 2:
        return _product(context, g, False, b, True)
    spread = (*context.dims(g)[:-1], context.dims(a)[-1])
    return sum_to(context, context.emit("MatMul", g, _turned(context, b)), a, spread=spread)


def _right_gradient(context: Context, g: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    if context.rank(b) == 2:
        # The sum over all other axes is part of one product: (rows, K)^T (rows, N).
        (size, width) = context.dims(b)
        flat_a = a if context.rank(a) == 2 else _rows(context, a, size)
        flat_g = g if context.rank(g) == 2 else _rows(context, g, width)
        if flat_a is not None and flat_g is not None:
            return _product(context, flat_a, True, flat_g, False)
    spread = (*context.dims(g)[:-2], *context.dims(b)[-2:])
    return sum_to(context, context.emit("MatMul", _turned(context, a), g), b, spread=spread)


def _rows(context: Context, x: ir.Value, width: int | str | None) -> ir.Value | None:
    return reshape(context, x, [-1, width]) if isinstance(width, int) and width else None


def _turned(context: Context, x: ir.Value) -> ir.Value:
    rank = context.rank(x)
    return transpose(context, x, [*range(rank - 2), rank - 1, rank - 2])


def _product(
    context: Context, a: ir.Value, turned_a: bool, b: ir.Value, turned_b: bool, *, alpha: float = 1.0
) -> ir.Value:
    """Return alpha A' B' of matrices."""
    bias = [context.constant([0.0], like=a)] if context.opset < 11 else []  # from where on it may be left out
    attributes = {"alpha": None if alpha == 1 else alpha}
    flags = {"transA": int(turned_a) or None, "transB": int(turned_b) or None}
    return context.emit("Gemm", a, b, *bias, **attributes, **flags)
