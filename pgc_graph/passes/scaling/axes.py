"""How operators that move, drop or add axes change a factor on their input."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.passes.scaling.plan import Float64

__all__ = ["reshaped", "squeezed", "transposed", "unsqueezed"]


def transposed(node: ir.Node, factor: Float64, *, back: bool = False) -> Float64:
    """Return a factor behind a Transpose, or before it."""
    if factor.ndim == 0:
        return factor
    order = list(node.attributes.get_ints("perm", ()) or reversed(range(factor.ndim)))
    return factor.transpose(np.argsort(order) if back else order)


def squeezed(factor: Float64, axes: tuple[int, ...]) -> Float64 | None:
    """Return a factor without some axes; None if it varies along one of them, or no axes are named."""
    if factor.ndim == 0:
        return factor
    if not axes or any(factor.shape[axis] != 1 for axis in axes):
        return None
    return factor.squeeze(axis=tuple(axis % factor.ndim for axis in axes))


def unsqueezed(factor: Float64, axes: tuple[int, ...]) -> Float64:
    """Return a factor with new axes, counted in the result."""
    return factor if factor.ndim == 0 else np.expand_dims(factor, axes)


def reshaped(factor: Float64, source: ir.Value, result: ir.Value) -> Float64 | None:
    """Return a factor behind a Reshape or Flatten that keeps the first axis; None if it does not, or shapes are unknown."""
    if factor.ndim == 0:
        return factor
    before, after = source.shape, result.shape
    if before is None or factor.shape[0] != 1:
        return None
    inner = [dim for dim in list(before)[1:] if isinstance(dim, int)]
    if len(inner) != len(before) - 1:
        return None
    outer = [int(np.prod(inner))] if after is None else [dim for dim in list(after)[1:] if isinstance(dim, int)]
    if (after is not None and len(outer) != len(after) - 1) or np.prod(outer) != np.prod(inner):
        return None
    return np.broadcast_to(factor[0], inner).reshape(1, *outer)
