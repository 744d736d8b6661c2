"""Rules for operators that move channels to other axes, or change the axes around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.axes import axes_of
from pgc_graph.analysis.pruning.builder import Builder, Channels, Count
from pgc_graph.analysis.pruning.helpers import called, dimension, first_input, product

__all__ = ["cast_like", "flatten", "read_shape", "reshape", "squeeze", "transpose", "unsqueeze"]


def transpose(node: ir.Node, builder: Builder) -> None:
    """Transpose moves the channel axis."""
    found, shape = first_input(node, builder)
    if found is not None and shape is not None:
        order = list(node.attributes.get_ints("perm", ()) or reversed(range(len(shape))))
        builder.channels[node.outputs[0]] = Channels(order.index(found.axis), found.ids)


def squeeze(node: ir.Node, builder: Builder) -> None:
    """Squeeze of other axes than the channels'."""
    found, shape = first_input(node, builder)
    if found is None or shape is None:
        return
    axes = axes_of(node, builder.constants)
    places = {axis % len(shape) for axis in axes or ()}
    if not axes or found.axis in places:
        builder.pin_inputs(node, f"{called(node)} removes their axis")
        return
    axis = found.axis - sum(place < found.axis for place in places)
    builder.channels[node.outputs[0]] = Channels(axis, found.ids)


def unsqueeze(node: ir.Node, builder: Builder) -> None:
    """Unsqueeze: new axes, counted in the result."""
    found, shape = first_input(node, builder)
    if found is None or shape is None:
        return
    axes = axes_of(node, builder.constants)
    if not axes:
        builder.pin_inputs(node, f"the axes of {called(node)} are unknown")
        return
    rank = len(shape) + len(axes)
    old = [place for place in range(rank) if place not in {axis % rank for axis in axes}]
    builder.channels[node.outputs[0]] = Channels(old[found.axis], found.ids)


def flatten(node: ir.Node, builder: Builder) -> None:
    """Flatten into (N, channels x places): each channel becomes as many neighbours as it has places."""
    found, shape = first_input(node, builder)
    if found is None or shape is None:
        return
    inner = product(shape[2:])
    if found.axis != 1 or node.attributes.get_int("axis", 1) % len(shape) != 1 or inner is None:
        builder.pin_inputs(node, f"{called(node)} mixes them with other axes")
        return
    builder.channels[node.outputs[0]] = Channels(1, np.repeat(found.ids, inner))


def reshape(node: ir.Node, builder: Builder) -> None:
    """Reshape to a constant target that keeps all axes before the channels, or all from the channels on."""
    found, shape = first_input(node, builder)
    if found is None or shape is None:
        return
    result = node.outputs[0].shape
    placed = None if result is None else _reshaped(found, shape, list(result))
    entry = None if placed is None else _target_entry(node, placed, builder)
    if placed is None or entry is None:
        builder.pin_inputs(node, f"{called(node)} mixes them with other axes")
        return
    if entry[0] > 0:
        builder.counts.append(entry[1])
    builder.channels[node.outputs[0]] = placed


def _target_entry(node: ir.Node, placed: Channels, builder: Builder) -> tuple[int, Count] | None:
    """Return the entry of a Reshape's target that states the channels, and where it is to be changed."""
    target = builder.constants.value(node.inputs[1])
    if target is not None:
        return int(target[placed.axis]), Count(node, 1, placed.axis, placed.ids)
    # Exporters join the target from single numbers, of which the batch size alone is no constant.
    concat = node.inputs[1].producer() if node.inputs[1] is not None else None
    if concat is None or concat.op_type != "Concat" or any(dimension(part, 0) != 1 for part in concat.inputs):
        return None
    part = builder.constants.value(concat.inputs[placed.axis])
    return None if part is None else (int(part[0]), Count(concat, placed.axis, 0, placed.ids))


def _reshaped(
    found: Channels, before: Sequence[int | ir.SymbolicDim], after: list[int | ir.SymbolicDim]
) -> Channels | None:
    axis, count = found.axis, len(found.ids)
    # Row-major order: equal axes before the channels leave what follows, in its order; likewise from behind.
    if len(after) > axis and list(before[:axis]) == after[:axis]:
        inner = product(before[axis + 1 :])
        if after[axis] == count:
            return Channels(axis, found.ids)
        if inner is not None and len(after) == axis + 1 and after[axis] == count * inner:
            return Channels(axis, np.repeat(found.ids, inner))
    behind = len(before) - axis
    if len(after) >= behind and list(before[axis:]) == after[len(after) - behind :]:
        return Channels(len(after) - behind, found.ids)
    return None


def read_shape(node: ir.Node, builder: Builder) -> None:
    """Shape: harmless as long as nobody reads the number of channels."""
    found, shape = first_input(node, builder)
    if found is None or shape is None:
        return
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
    if found.axis not in range(len(shape))[start:end]:
        return
    for user, _ in node.outputs[0].uses():
        places = builder.constants.value(user.inputs[1]) if user.op_type == "Gather" else None
        if places is None or found.axis in {
            (int(place) % len(range(start, end))) + start for place in places.reshape(-1)
        }:
            builder.pin_inputs(node, f"{called(user)} may read their number")
            return


def cast_like(node: ir.Node, builder: Builder) -> None:
    """CastLike: of its second input the type alone matters."""
    builder.pin_values([value for value in node.inputs[:1] if value is not None], f"{called(node)} reads them")
