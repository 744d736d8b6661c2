"""Cut, extend and pick along axes, in the forms that the model's opset has, and what undoes picking.

Where the forms differ (ONNX operator pages):

    Slice    10   starts, ends, axes: attributes -> inputs; steps
    Pad      11   pads, value: attributes -> inputs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from pgc_graph.autodiff.context import Writer
from pgc_graph.autodiff.forms import scalar, transpose

__all__ = ["cut", "cut_to", "flip", "pad", "pick", "spread_back", "weigh_back"]

_MOST_ROUNDS = 4


def cut(writer: Writer, x: ir.Value, ranges: Mapping[int, tuple[int, int]]) -> ir.Value:
    """Keep the elements from a start up to an end, by axis."""
    if not ranges:
        return x
    axes = sorted(ranges)
    starts, ends = [ranges[axis][0] for axis in axes], [ranges[axis][1] for axis in axes]
    if writer.opset < 10:
        return writer.emit("Slice", x, axes=axes, starts=starts, ends=ends)
    return writer.emit("Slice", x, writer.constant(starts), writer.constant(ends), writer.constant(axes))


def cut_to(writer: Writer, x: ir.Value, like: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Keep of each axis as much as another tensor has there, sizes that only show at run time included.

    Raises:
        UnsupportedError: A size only shows at run time, below opset 10.
    """
    dims = writer.dims(like)
    sizes = {axis: dim for axis in axes if isinstance(dim := dims[axis], int)}
    x = cut(writer, x, {axis: (0, size) for axis, size in sizes.items() if writer.dims(x)[axis] != size})
    late = [axis for axis in axes if axis not in sizes]
    if not late:
        return x
    if writer.opset < 10:
        writer.refuse(f"the shape {like.shape} of {like.name!r} only shows at run time, which takes opset 10; fix it")
    ends = writer.emit("Gather", writer.emit("Shape", like), writer.constant(late), axis=0)
    return writer.emit("Slice", x, writer.constant([0] * len(late)), ends, writer.constant(late))


def pad(writer: Writer, x: ir.Value, sides: Mapping[int, tuple[int, int]]) -> ir.Value:
    """Add zeros before and after an axis; a negative number takes away."""
    rank = writer.rank(x)
    begins = [sides.get(axis, (0, 0))[0] for axis in range(rank)]
    ends = [sides.get(axis, (0, 0))[1] for axis in range(rank)]
    if not any(begins) and not any(ends):
        return x
    if writer.opset < 11:
        return writer.emit("Pad", x, mode="constant", pads=begins + ends, value=0.0)
    return writer.emit("Pad", x, writer.constant(begins + ends), scalar(writer, 0.0, x), mode="constant")


def pick(writer: Writer, x: ir.Value, indices: Sequence[int], axis: int) -> ir.Value:
    """Take elements along an axis; nothing is emitted where they are all there is."""
    if list(indices) == list(range(len(indices))) and writer.dims(x)[axis] == len(indices):
        return x
    return writer.emit("Gather", x, writer.constant(list(indices)), axis=axis)


def flip(writer: Writer, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Reverse axes of known size."""
    for axis, size in zip(axes, writer.static_dims(x, axes), strict=True):
        x = pick(writer, x, range(size - 1, -1, -1), axis)
    return x


def spread_back(writer: Writer, g: ir.Value, indices: Sequence[int], axis: int, size: int) -> ir.Value:
    """Undo picking: element i of the result is the sum of what was picked from place i.

    Picking the transposed way serves where no element was picked often: one Gather for the first time that each was,
    one for the second, ... with a zero behind the end for those that were not. Else it is a product with a matrix.

    Args:
        writer: Writes nodes.
        g: The gradient of what was picked.
        indices: What was picked, from 0 to size - 1; -1 for a zero that was picked from nowhere.
        axis: Along which axis.
        size: Of that axis, in the result.
    """
    places: list[list[int]] = [[] for _ in range(size)]
    for place, index in enumerate(indices):
        if index >= 0:
            places[index].append(place)
    most = max((len(found) for found in places), default=0)
    if most > _MOST_ROUNDS:
        matrix = np.zeros((len(indices), size))
        chosen = [(place, index) for index, found in enumerate(places) for place in found]
        matrix[tuple(zip(*chosen, strict=True))] = 1.0
        return weigh_back(writer, g, matrix, axis)
    gaps = most == 0 or any(len(found) < most for found in places)
    extended = pad(writer, g, {axis: (0, 1)}) if gaps else g
    rounds = [[found[turn] if turn < len(found) else len(indices) for found in places] for turn in range(max(most, 1))]
    parts = [pick(writer, extended, wanted, axis) for wanted in rounds]
    return parts[0] if len(parts) == 1 else writer.emit("Sum", *parts)


def weigh_back(writer: Writer, g: ir.Value, matrix: np.ndarray, axis: int) -> ir.Value:
    """Multiply an axis by a matrix: result[..., i, ...] = sum over o of g[..., o, ...] matrix[o, i].

    Args:
        writer: Writes nodes.
        g: A tensor of rank 1 or more.
        matrix: (old size, new size).
        axis: Which axis.
    """
    rank = writer.rank(g)
    if axis == rank - 2:
        return writer.emit("MatMul", writer.constant(matrix.T, like=g), g)
    order = [other for other in range(rank) if other != axis] + [axis]
    back = [order.index(other) for other in range(rank)]
    product = writer.emit("MatMul", transpose(writer, g, order), writer.constant(matrix, like=g))
    return transpose(writer, product, back)
