"""Rules for operators that join and divide channels, or change what lies beside them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.pruning.builder import Builder, Channels, Count, SplitSizes
from pgc_graph.analysis.pruning.helpers import called, dimension, first_input, unless_zero

__all__ = ["concat", "pad", "resize", "split"]


def concat(node: ir.Node, builder: Builder) -> None:
    """Concat along the channels lines their ids up; along another axis it couples them."""
    operands = [value for value in node.inputs if value is not None]
    found = [builder.channels.get(value) for value in operands]
    known = [item for item in found if item is not None]
    shape = node.outputs[0].shape
    if not known:
        return
    places = {item.axis for item in known}
    lengths = [dimension(value, known[0].axis) for value in operands]
    if shape is None or len(places) > 1 or None in lengths:
        builder.pin_inputs(node, f"{called(node)} joins tensors whose channels do not lie along one axis")
        return
    if node.attributes.get_int("axis", 0) % len(shape) == known[0].axis:
        parts = [
            builder.fresh(length or 0) if item is None else item.ids
            for item, length in zip(found, lengths, strict=True)
        ]
        for item, ids, value in zip(found, parts, operands, strict=True):
            if item is None:
                builder.pin(ids, f"{called(node)} joins {value.name} in, whose channels cannot go")
        builder.channels[node.outputs[0]] = Channels(known[0].axis, np.concatenate(parts))
        return
    if len(known) < len(found) or len(set(lengths)) > 1:
        builder.pin_inputs(node, f"{called(node)} joins it with what cannot shrink")
        return
    for item in known[1:]:
        builder.couple(known[0].ids, item.ids)
    # Parts may hold different constants: new ids, so that nothing is known of what they hold together.
    outputs = builder.fresh(len(known[0].ids))
    builder.couple(known[0].ids, outputs)
    builder.channels[node.outputs[0]] = Channels(known[0].axis, outputs)


def split(node: ir.Node, builder: Builder) -> None:
    """Split along the channels deals their ids out; along another axis all parts have the same."""
    found, shape = first_input(node, builder)
    if found is None or shape is None:
        return
    if node.attributes.get_int("axis", 0) % len(shape) != found.axis:
        builder.channels.update((value, found) for value in node.outputs)
        return
    sizes = _split_sizes(node, len(found.ids), builder)
    if sizes is None or sum(sizes) != len(found.ids):
        builder.pin_inputs(node, f"the sizes of {called(node)} are unknown")
        return
    parts = np.split(found.ids, np.cumsum(sizes)[:-1])
    builder.splits.append(SplitSizes(node, tuple(parts)))
    builder.channels.update((value, Channels(found.axis, ids)) for value, ids in zip(node.outputs, parts, strict=True))


def _split_sizes(node: ir.Node, total: int, builder: Builder) -> list[int] | None:
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = builder.constants.value(node.inputs[1])
        return None if array is None else [int(size) for size in array]
    if "split" in node.attributes:
        return list(node.attributes.get_ints("split", ()) or ())
    length = -(-total // len(node.outputs))
    sizes = [length] * (len(node.outputs) - 1)
    return [*sizes, total - sum(sizes)]


def pad(node: ir.Node, builder: Builder) -> None:
    """Pad of other axes than the channels'."""
    found, shape = first_input(node, builder)
    if found is None or shape is None:
        return
    result = node.outputs[0]
    # Shapes tell less than amounts: (1, -1) keeps a length.
    amounts = builder.constants.value(node.inputs[1]) if len(node.inputs) > 1 else None
    given = list(node.attributes.get_ints("pads", ()) or ()) if amounts is None else amounts.tolist()
    axes = builder.constants.value(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    places = list(range(len(shape))) if axes is None else [int(axis) % len(shape) for axis in axes]
    touched = {place for place, amount in zip(places * 2, given, strict=False) if amount}
    if len(given) != 2 * len(places) or found.axis in touched:
        builder.pin_inputs(node, f"{called(node)} pads along them")
        return
    builder.channels[result] = Channels(found.axis, unless_zero(found.ids, builder))


def resize(node: ir.Node, builder: Builder) -> None:
    """Resize by scales that leave the channels alone, or to sizes that state their number."""
    found, shape = first_input(node, builder)
    if found is None or shape is None:
        return
    scales = builder.constants.value(node.inputs[2]) if len(node.inputs) > 2 else None
    sizes = builder.constants.value(node.inputs[3]) if len(node.inputs) > 3 else None
    by_scale = scales is not None and scales.size == len(shape) and scales[found.axis] == 1
    by_size = sizes is not None and sizes.size == len(shape) and sizes[found.axis] == len(found.ids)
    if not (by_scale or by_size) or "axes" in node.attributes:
        builder.pin_inputs(node, f"{called(node)} resizes in a way that may change them")
        return
    if by_size:
        builder.counts.append(Count(node, 3, found.axis, found.ids))
    builder.channels[node.outputs[0]] = Channels(found.axis, unless_zero(found.ids, builder))
