"""What a tensor reaches: which nodes lie above and below it, and what becomes constant once it is.

Terms: a tensor is *independent* if no image can change it, whatever its batch size: it is made of initializers, Constant
nodes and the shapes of other tensors alone. A tensor is *frozen* by others if it is made of them and of independent tensors
alone. A tensor that freezes the model's output is a *cut*: every way from the input to that output leads through it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import onnx_ir as ir

from pgc_graph.analysis.names import node_graphs

__all__ = [
    "READS_SHAPE_ONLY",
    "Reads",
    "downstream_values",
    "frozen_values",
    "independent_values",
    "is_cut",
    "node_reads",
    "upstream_nodes",
]

READS_SHAPE_ONLY = frozenset({"Shape", "Size"})
"""Operators whose result depends on their operand's shape, not on its values."""

Reads = Callable[[ir.Node], tuple[ir.Value, ...]]
"""Returns the tensors that a node reads."""

_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def node_reads(node: ir.Node) -> tuple[ir.Value, ...]:
    """Return the tensors that a node reads: its inputs, then those that its subgraphs capture, each once."""
    reads = {value: None for value in node.inputs if value is not None}
    for graph in node_graphs(node):
        inside: set[ir.Value] = set()
        used: dict[ir.Value, None] = {}
        for scope in (graph, *graph.subgraphs()):
            inside.update(scope.inputs, scope.initializers.values())
            inside.update(value for inner in scope for value in inner.outputs)
            used.update((value, None) for inner in scope for value in inner.inputs if value is not None)
            used.update((value, None) for value in scope.outputs)
        reads.update((value, None) for value in used if value not in inside)
    return tuple(reads)


def upstream_nodes(graph: ir.Graph, values: Iterable[ir.Value]) -> tuple[ir.Node, ...]:
    """Return the nodes of a graph that some tensors are computed from, in graph order."""
    found: set[ir.Node] = set()
    stack = list(values)
    while stack:
        node = stack.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            stack.extend(node_reads(node))
    return tuple(node for node in graph if node in found)


def downstream_values(
    nodes: Sequence[ir.Node], start: Collection[ir.Value], *, reads: Reads = node_reads
) -> frozenset[ir.Value]:
    """Return the tensors whose values depend on those of `start`, which are included.

    Args:
        nodes: The nodes to look at, in topological order.
        start: Where to begin.
        reads: `node_reads`, or the same from memory.
    """
    reached = set(start)
    for node in nodes:
        if node.op_type not in READS_SHAPE_ONLY and not reached.isdisjoint(reads(node)):
            reached.update(node.outputs)
    return frozenset(reached)


def independent_values(graph: ir.Graph) -> frozenset[ir.Value]:
    """Return the tensors that no image can change; defaults of overridable initializers are taken as given."""
    found = set(graph.initializers.values())
    for node in graph:
        if node.op_type in READS_SHAPE_ONLY or (_is_deterministic(node) and found.issuperset(node_reads(node))):
            found.update(node.outputs)
    return frozenset(found)


def frozen_values(
    nodes: Sequence[ir.Node],
    start: Collection[ir.Value],
    independent: Collection[ir.Value],
    *,
    reads: Reads = node_reads,
) -> frozenset[ir.Value]:
    """Return the tensors that are constants once those of `start` are, which are included.

    Args:
        nodes: The nodes to look at, in topological order.
        start: The tensors that are held constant.
        independent: The tensors that no image can change, from `independent_values`.
        reads: `node_reads`, or the same from memory.
    """
    frozen = set(start)
    for node in nodes:
        values = reads(node)
        if node.op_type in READS_SHAPE_ONLY or frozen.isdisjoint(values) or not _is_deterministic(node):
            continue
        if all(value in frozen or value in independent for value in values):
            frozen.update(node.outputs)
    return frozenset(frozen)


def is_cut(graph: ir.Graph, value: ir.Value, output: ir.Value) -> bool:
    """Say whether every way from the inputs to an output leads through a tensor."""
    return output in frozen_values(upstream_nodes(graph, [output]), [value], independent_values(graph))


def _is_deterministic(node: ir.Node) -> bool:
    if node.op_type in _RANDOM:
        return False
    return not any(inner.op_type in _RANDOM for graph in node_graphs(node) for inner in graph.all_nodes())
