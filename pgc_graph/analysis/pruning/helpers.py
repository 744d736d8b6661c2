"""What the rules share: how reasons call things, what a node reads, dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from pgc_graph.analysis.pruning.builder import Builder, Channels, Ids, KeepsZero

__all__ = ["called", "dimension", "first_input", "product", "unless_zero"]


def called(node: ir.Node) -> str:
    """Return what to call a node in a reason: its operator and its name."""
    return f"{node.op_type} {node.name or node.outputs[0].name}"


def first_input(node: ir.Node, builder: Builder) -> tuple[Channels | None, list[int | ir.SymbolicDim] | None]:
    """Return the channels and dimensions of a node's first input; of unknown rank, its channels are pinned."""
    data = node.inputs[0]
    found = None if data is None else builder.channels.get(data)
    if found is None or data is None:
        return None, None
    if data.shape is None:
        builder.pin_inputs(node, f"{called(node)} reads a tensor of unknown rank")
        return None, None
    return found, list(data.shape)


def dimension(value: ir.Value | None, axis: int) -> int | None:
    """Return the length of a tensor's axis, None where it is unknown."""
    dim = value.shape[axis] if value is not None and value.shape is not None and axis < len(value.shape) else None
    return dim if isinstance(dim, int) else None


def product(dims: Sequence[int | ir.SymbolicDim]) -> int | None:
    """Return the product of some dimensions, None if one is unknown."""
    known = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(known) if len(known) == len(dims) else None


def unless_zero(ids: Ids, builder: Builder) -> Ids:
    """Return new ids, coupled with the given ones, that are known to hold a number only where that is 0."""
    outputs = builder.fresh(len(ids))
    builder.couple(ids, outputs)
    builder.steps.append(KeepsZero(ids, outputs))
    return outputs
