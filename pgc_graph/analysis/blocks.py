"""A graph as people think of it: nodes with what they hold and feed, gathered into blocks by the prefix of their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import real_inputs
from pgc_graph.analysis.names import node_graphs

__all__ = ["MOST_NODES", "Block", "BlockNode", "GraphBlocks", "WeightSummary", "find_blocks"]

MOST_NODES = 24
"""A block with more nodes than that is divided, by a longer prefix or, where names say no more, by counting."""

_BINS = 24


@dataclass(frozen=True)
class WeightSummary:
    """The numbers of one initializer that a node reads.

    Attributes:
        name: The initializer's name.
        shape: Its dimensions.
        dtype: Its element type.
        mean: Of its finite numbers; NaN where there is none, or it holds no numbers.
        std: Their population standard deviation.
        min: The smallest.
        max: The largest.
        counts: How many lie in each of 24 equal steps from `min` to `max`; empty where there is none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    mean: float
    std: float
    min: float
    max: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class BlockNode:
    """A node of the main graph.

    Attributes:
        name: Its name, or that of its first output where it has none.
        op_type: Its operator.
        tensor: The name of its first output.
        shape: Of that output, `?` for what is unknown; None where even the rank is.
        dtype: Of that output, or an empty text.
        sources: The nodes whose outputs it or its bodies read, as positions in graph order.
        weights: The initializers that it reads.
    """

    name: str
    op_type: str
    tensor: str
    shape: tuple[str, ...] | None
    dtype: str
    sources: tuple[int, ...]
    weights: tuple[WeightSummary, ...]


@dataclass(frozen=True)
class Block:
    """Nodes that follow each other and share the beginning of their names.

    Attributes:
        name: What they share, without a slash at either end; empty where they share nothing.
        nodes: Their positions in graph order, consecutive.
    """

    name: str
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class GraphBlocks:
    """The nodes of a graph that depend on its inputs, in order, and the blocks that they form.

    Edges never run back to an earlier block.
    """

    nodes: tuple[BlockNode, ...]
    blocks: tuple[Block, ...]


def find_blocks(model: ir.Model) -> GraphBlocks:
    """Gather the nodes of the main graph into blocks of at most `MOST_NODES` nodes.

    A block is a stretch of consecutive nodes, so that blocks depend on each other in one direction whatever the names.
    Nodes that no input of the graph reaches (Constant, Identity of a weight) are left out, unless all are.

    Args:
        model: Stays untouched. Shapes are read as they are stated; infer them beforehand where they are not.
    """
    nodes = _live(model)
    owner = {id(value): index for index, node in enumerate(nodes) for value in node.outputs}
    described = tuple(_describe(node, owner) for node in nodes)
    parts = [node.name.strip("/").split("/")[:-1] for node in described]
    return GraphBlocks(described, tuple(_split(parts, range(len(nodes)), 0)))


def _live(model: ir.Model) -> list[ir.Node]:
    nodes = list(model.graph)
    reached = {id(value) for value in real_inputs(model)}
    live = []
    for node in nodes:
        if any(id(value) in reached for value in _read(node)):
            live.append(node)
            reached |= {id(value) for value in node.outputs}
    return live or nodes


def _read(node: ir.Node) -> list[ir.Value]:
    """Return what a node and its bodies read."""
    read = [value for value in node.inputs if value is not None]
    for body in node_graphs(node):
        read += [value for inner in body.all_nodes() for value in inner.inputs if value is not None]
        read += list(body.outputs)
    return read


def _split(parts: Sequence[Sequence[str]], stretch: Sequence[int], depth: int) -> list[Block]:
    found: list[Block] = []
    for _, run in groupby(stretch, key=lambda index: tuple(parts[index][:depth])):
        members = tuple(run)
        is_deeper = any(len(parts[index]) > depth for index in members)
        if len(members) > MOST_NODES and is_deeper:
            found += _split(parts, members, depth + 1)
        elif len(members) > MOST_NODES:
            chunks = [members[start : start + MOST_NODES] for start in range(0, len(members), MOST_NODES)]
            found += [Block(_shared(parts, chunk), chunk) for chunk in chunks]
        else:
            found.append(Block(_shared(parts, members), members))
    return found


def _shared(parts: Sequence[Sequence[str]], members: Sequence[int]) -> str:
    """Return the longest prefix that all members have in common."""
    shared: list[str] = []
    for column in zip(*(parts[index] for index in members), strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return "/".join(shared)


def _describe(node: ir.Node, owner: dict[int, int]) -> BlockNode:
    output = node.outputs[0] if node.outputs else None
    tensor = str(output.name) if output is not None else ""
    stored = [_behind_identity(value) for value in node.inputs if value is not None]
    weights = {str(value.name): value.const_value for value in stored if value.is_initializer()}
    return BlockNode(
        name=node.name or tensor,
        op_type=node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}",
        tensor=tensor,
        shape=None if output is None else _shape(output),
        dtype="" if output is None or output.dtype is None else _dtype(output.dtype),
        sources=tuple(sorted({owner[id(value)] for value in _read(node) if id(value) in owner})),
        weights=tuple(_weights(name, tensor) for name, tensor in weights.items() if tensor is not None),
    )


def _behind_identity(value: ir.Value) -> ir.Value:
    """Return the tensor that a chain of Identity nodes copies."""
    producer = value.producer()
    while producer is not None and producer.op_type == "Identity" and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value


def _shape(value: ir.Value) -> tuple[str, ...] | None:
    if value.shape is None:
        return None
    return tuple(str(dim) if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape)


def _dtype(dtype: ir.DataType) -> str:
    return {"float": "float32", "double": "float64"}.get(dtype.name.lower(), dtype.name.lower())


def _weights(name: str, tensor: ir.TensorProtocol) -> WeightSummary:
    shape, dtype = tuple(int(dim) for dim in tensor.shape.numpy()), _dtype(tensor.dtype)
    numbers: NDArray[np.float64] = np.zeros(0)
    if tensor.dtype != ir.DataType.STRING and not tensor.dtype.name.startswith("COMPLEX"):
        numbers = np.asarray(tensor.numpy()).astype(np.float64).ravel()
        numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        nothing = float("nan")
        return WeightSummary(name, shape, dtype, nothing, nothing, nothing, nothing, ())
    low, high = float(numbers.min()), float(numbers.max())
    # A range too narrow to be divided (all numbers equal) goes into one step.
    counts = np.histogram(numbers, _BINS, (low, high))[0] if high - low > 1e-12 * abs(high) else [numbers.size]
    summary = float(numbers.mean()), float(numbers.std()), low, high
    return WeightSummary(name, shape, dtype, *summary, tuple(int(count) for count in counts))
