"""Gradients of operators that rearrange or repeat elements (ONNX operators Reshape, Transpose, Expand, Tile, ...)."""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import reduce, reshape, reshape_like, sum_to, transpose

__all__ = ["depth_to_space", "expand", "reshaped", "space_to_depth", "tile", "transposed"]


def reshaped(context: Context) -> Gradients:
    """The same elements in another shape: Reshape, Flatten, Squeeze, Unsqueeze."""
    return [reshape_like(context, context.gradient, context.operand())]


def transposed(context: Context) -> Gradients:
    """Axes permuted; all reversed where `perm` is left out."""
    order = context.attribute("perm") or range(context.rank(context.operand()) - 1, -1, -1)
    back = [list(order).index(axis) for axis in range(len(order))]
    return [transpose(context, context.gradient, back)]


def expand(context: Context) -> Gradients:
    """Axes of size 1 repeated, and new ones in front."""
    return [sum_to(context, context.gradient, context.operand(), spread=context.y)]


def tile(context: Context) -> Gradients:
    """The whole tensor repeated along axes: the sum over its copies.

    Raises:
        UnsupportedError: The repeats, or more than one size beside them, only show at run time.
    """
    x = context.operand()
    repeats = context.known_input(1, "repeats")
    times = [int(count) for count in ([] if repeats is None else repeats)]
    repeated = [axis for axis, count in enumerate(times) if count != 1]
    sizes: list[int] = []
    copies: list[int] = []
    for axis, dim in enumerate(context.dims(x)):
        if axis in repeated:
            copies.append(len(sizes))
            sizes.append(times[axis])
        sizes.append(dim if isinstance(dim, int) else -1)
    if sizes.count(-1) > 1:
        context.refuse(f"more than one dimension of its input {x.name!r} {x.shape} is open; fix all but one")
    if not repeated:
        return [context.gradient]
    gx = reduce(context, "ReduceSum", reshape(context, context.gradient, sizes), copies, keepdims=False)
    return [reshape_like(context, gx, x)]


def depth_to_space(context: Context) -> Gradients:
    """Channels spread over blocks of pixels: the blocks gathered again."""
    block = int(context.attribute("blocksize"))
    if context.attribute("mode", "DCR") == "DCR":
        return [context.emit("SpaceToDepth", context.gradient, blocksize=block)]
    channels, height, width = context.static_dims(context.operand(), (1, 2, 3))
    split = reshape(context, context.gradient, [-1, channels // block**2, height, block, width, block])
    turned = transpose(context, split, [0, 1, 3, 5, 2, 4])
    return [_like(reshape(context, turned, [-1, channels, height, width]), context.operand())]


def space_to_depth(context: Context) -> Gradients:
    """Blocks of pixels gathered in channels, blocks first: spread again."""
    return [context.emit("DepthToSpace", context.gradient, blocksize=int(context.attribute("blocksize")))]


def _like(value: ir.Value, like: ir.Value) -> ir.Value:
    value.shape = like.shape if like.shape is not None else value.shape
    return value
