"""Gradients of operators that join, cut, extend or pick elements (ONNX operators Concat, Split, Slice, Pad, Gather).

Each of them maps places to places, so the gradient goes back the same way: what was cut out is laid into zeros, what was
repeated is summed. Starts, ends, pads, indices must be constants.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.cuts import cut, pad, spread_back
from pgc_graph.autodiff.forms import reduce, reshape, zeros_like

__all__ = ["concat", "gather", "pad_rule", "slice_rule", "split"]

_NO_END = 2**31 - 1  # exporters write this, or more, for "up to the end"


def concat(context: Context) -> Gradients:
    """Tensors one behind the other: each gets its part.

    Raises:
        UnsupportedError: The size of a part before one that is asked for only shows at run time.
    """
    rank = context.rank(context.y)
    axis = int(context.attribute("axis")) % rank
    last = max(index for index, wanted in enumerate(context.wanted) if wanted)
    start, parts = 0, []
    for index, value in enumerate(context.node.inputs[: last + 1]):
        size = context.static_dims(value, (axis,))[0]  # type: ignore[arg-type]
        parts.append(cut(context, context.gradient, {axis: (start, start + size)}) if context.wants(index) else None)
        start += size
    return parts


def split(context: Context) -> Gradients:
    """Parts one behind the other: joined again, with zeros for those that nothing reads."""
    axis = int(context.attribute("axis", 0))
    pairs = zip(context.node.outputs, context.gradients, strict=True)
    parts = [zeros_like(context, value) if g is None else g for value, g in pairs]
    return [parts[0] if len(parts) == 1 else context.emit("Concat", *parts, axis=axis)]


def slice_rule(context: Context) -> Gradients:
    """A range along axes, with steps: laid into zeros.

    Raises:
        UnsupportedError: The range or the size of a sliced axis only shows at run time.
    """
    x, g = context.operand(), context.gradient
    sides: dict[int, tuple[int, int]] = {}
    for axis, (start, end, step) in _slices(context, context.rank(x)).items():
        if start == 0 and end >= _NO_END and step == 1:
            continue
        (size,) = context.static_dims(x, (axis,))
        # ONNX operator page: bounds below 0 count from the end; then both are clamped to what the step can reach.
        first, last = (start + size if start < 0 else start), (end + size if end < 0 else end)
        reach = (0, size, 0, size) if step > 0 else (0, size - 1, -1, size - 1)
        kept = range(min(max(first, reach[0]), reach[1]), min(max(last, reach[2]), reach[3]), step)
        if step == 1:
            sides[axis] = (kept.start, size - max(kept.stop, kept.start))
        else:
            g = spread_back(context, g, kept, axis, size)
    return [pad(context, g, sides)]


def _slices(context: Context, rank: int) -> dict[int, tuple[int, int, int]]:
    """Return start, end and step by axis."""
    if context.opset < 10:
        found = {name: context.attribute(name) for name in ("starts", "ends", "axes", "steps")}
    else:
        names = enumerate(("starts", "ends", "axes", "steps"), 1)
        found = {name: context.known_input(index, name) for index, name in names}
    starts, ends = found["starts"], found["ends"]
    axes = range(len(starts)) if found["axes"] is None else found["axes"]
    steps = [1] * len(starts) if found["steps"] is None else found["steps"]
    facts = zip(axes, starts, ends, steps, strict=True)
    return {int(axis) % rank: (int(start), int(end), int(step)) for axis, start, end, step in facts}


def pad_rule(context: Context) -> Gradients:
    """A border around the tensor: constant (its value gets the border's sum), or made of the tensor's own elements.

    Raises:
        UnsupportedError: The pads, or the size of an axis that a border is copied from, only show at run time.
    """
    x, g = context.operand(), context.gradient
    rank = context.rank(x)
    sides = _sides(context, rank)
    if str(context.attribute("mode", "constant")) == "constant":
        gx = pad(context, g, {axis: (-begin, -end) for axis, (begin, end) in sides.items()})
        gx.shape = gx.shape if gx is g or x.shape is None else x.shape
        return [gx, None, _border_sum(context, g, sides) if context.wants(2) else None]
    for axis, (begin, end) in sides.items():
        if begin or end:
            (size,) = context.static_dims(x, (axis,))
            sources = np.pad(np.arange(size), (max(begin, 0), max(end, 0)), mode=context.attribute("mode"))
            kept = sources[max(-begin, 0) : len(sources) - max(-end, 0)]
            g = spread_back(context, g, kept.tolist(), axis, size)
    return [g]


def _sides(context: Context, rank: int) -> dict[int, tuple[int, int]]:
    """Return how much is added before and after each axis."""
    pads = context.attribute("pads") if context.opset < 11 else context.known_input(1, "pads")
    listed = [] if pads is None else [int(count) for count in pads]
    axes = context.known_input(3, "axes") if context.opset >= 18 else None
    places = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    return {axis: (listed[place], listed[place + len(listed) // 2]) for place, axis in enumerate(places)}


def _border_sum(context: Context, g: ir.Value, sides: dict[int, tuple[int, int]]) -> ir.Value:
    """Return the sum over the border: over all, less what lies within."""
    inner = {axis: (-max(begin, 0), -max(end, 0)) for axis, (begin, end) in sides.items()}
    whole = reduce(context, "ReduceSum", g, None, keepdims=False)
    total = context.emit("Sub", whole, reduce(context, "ReduceSum", pad(context, g, inner), None, keepdims=False))
    value = context.operand(2)
    return total if context.rank(value) == 0 else reshape(context, total, [1] * context.rank(value))


def gather(context: Context) -> Gradients:
    """Elements picked along an axis by constant indices: each gets the sum of its copies.

    Raises:
        UnsupportedError: The indices or the size of the axis only show at run time.
    """
    x, g = context.operand(), context.gradient
    indices = context.known_input(1, "indices")
    if indices is None:
        context.refuse("its indices are missing")
    axis = int(context.attribute("axis", 0)) % context.rank(x)
    (size,) = context.static_dims(x, (axis,))
    if indices.ndim != 1:
        g = _one_axis(context, g, axis, indices.ndim, indices.size)
    return [spread_back(context, g, (indices.reshape(-1) % max(size, 1)).tolist(), axis, size)]


def _one_axis(context: Context, g: ir.Value, axis: int, rank: int, size: int) -> ir.Value:
    """Make the axes that the shape of the indices takes one axis."""
    dims = context.dims(g)
    rest = [*dims[:axis], size, *dims[axis + rank :]]
    numbers = [dim if isinstance(dim, int) else -1 for dim in rest]
    if numbers.count(-1) > 1:
        context.refuse(
            f"more than one dimension of its output {context.y.name!r} {context.y.shape} is open; fix all but one"
        )
    return reshape(context, g, numbers)
