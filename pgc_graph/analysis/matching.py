"""Which node of one model is which node of another.

Nodes are paired within the same kind of scope (main graph, body of a paired node, function), by

1. name, where it is unique in both scopes, and operator;
2. name of the first output and operator;
3. structure, in graph order: the operator, its attributes and, recursively, what its operands are made of, down to the
   place of graph inputs and to type and shape of weights; names do not count;
4. name, then name of the first output, whatever the operator.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.node_facts import attribute_bytes

__all__ = ["NodePair", "Scope", "match_nodes", "model_scopes"]


@dataclass(frozen=True, eq=False)
class Scope:
    """A graph in a model, and how to speak of it: empty for the main graph."""

    label: str
    graph: ir.Graph
    structure: dict[ir.Node, str]


@dataclass(frozen=True, eq=False)
class NodePair:
    """A node of each model, or of one alone.

    Attributes:
        scope: Label of the scope.
        before: The first model's node.
        after: The second model's.
        before_place: Scope and place in it, -1 for a missing node.
        after_place: The same in the second model.
        same_structure: Whether both compute the same from the same, names and values of weights aside.
    """

    scope: str
    before: ir.Node | None
    after: ir.Node | None
    before_place: tuple[int, int]
    after_place: tuple[int, int]
    same_structure: bool


def model_scopes(model: ir.Model) -> list[Scope]:
    """List the graphs of a model: the main graph, the bodies in it, then functions and the bodies in them."""
    structure = _Structure()
    structure.graph(model.graph)
    scopes = _with_bodies("", model.graph, structure.nodes)
    for (domain, name, overload), function in model.functions.items():
        structure.graph(function.graph)
        label = ".".join(part for part in (domain, name, overload) if part)
        scopes += _with_bodies(f"function {label}", function.graph, structure.nodes)
    return scopes


def match_nodes(before: list[Scope], after: list[Scope]) -> list[NodePair]:
    """Pair the nodes of two models, scope by scope; those that one has alone are paired with None.

    Args:
        before: The scopes of the first model.
        after: Those of the second.
    """
    second = {scope.label: (place, scope) for place, scope in enumerate(after)}
    pairs: list[NodePair] = []
    empty = ir.Graph([], [], nodes=[])
    for place, scope in enumerate(before):
        other_place, other = second.pop(scope.label, (-1, Scope(scope.label, empty, {})))
        pairs += _match_scope(scope, place, other, other_place)
    for other_place, other in second.values():
        pairs += _match_scope(Scope(other.label, empty, {}), -1, other, other_place)
    return pairs


def _with_bodies(label: str, graph: ir.Graph, structure: dict[ir.Node, str]) -> list[Scope]:
    scopes = [Scope(label, graph, structure)]
    for node in graph:
        for name, body in _bodies(node):
            owner = node.name or next((str(value.name) for value in node.outputs if value.name), node.op_type)
            scopes += _with_bodies(f"{label}{' > ' if label else ''}{owner}.{name}", body, structure)
    return scopes


def _bodies(node: ir.Node) -> list[tuple[str, ir.Graph]]:
    found: list[tuple[str, ir.Graph]] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            found.append((attribute.name, attribute.as_graph()))
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            found += [(f"{attribute.name}[{place}]", body) for place, body in enumerate(attribute.as_graphs())]
    return found


def _match_scope(first: Scope, first_place: int, second: Scope, second_place: int) -> list[NodePair]:
    nodes, others = list(first.graph), list(second.graph)
    unique = [{name for name, count in Counter(n.name for n in side).items() if count == 1} for side in (nodes, others)]

    def operator(node: ir.Node) -> tuple[str, str]:
        return node.domain, node.op_type

    def by_name(node: ir.Node) -> Hashable:
        return (node.name, operator(node)) if node.name and all(node.name in names for names in unique) else None

    def by_output(node: ir.Node) -> Hashable:
        return next(((str(value.name), operator(node)) for value in node.outputs if value.name), None)

    def by_structure(node: ir.Node) -> Hashable:
        return (first.structure if node in first.structure else second.structure)[node]

    def by_output_alone(node: ir.Node) -> Hashable:
        return next((str(value.name) for value in node.outputs if value.name), None)

    found: dict[ir.Node, ir.Node] = {}
    for key in (by_name, by_output, by_structure, lambda node: node.name or None, by_output_alone):
        left = [node for node in nodes if node not in found]
        taken = set(found.values())
        found |= _pair_up(left, [node for node in others if node not in taken], key)
    places = {node: place for place, node in enumerate(others)}
    pairs = [
        NodePair(
            first.label,
            node,
            found.get(node),
            (first_place, place),
            (second_place, places[found[node]]) if node in found else (-1, -1),
            node in found and first.structure[node] == second.structure[found[node]],
        )
        for place, node in enumerate(nodes)
    ]
    matched = set(found.values())
    alone = [node for node in others if node not in matched]
    return pairs + [NodePair(second.label, None, n, (-1, -1), (second_place, places[n]), False) for n in alone]


def _pair_up(
    nodes: Iterable[ir.Node], others: Iterable[ir.Node], key: Callable[[ir.Node], Hashable]
) -> dict[ir.Node, ir.Node]:
    waiting: dict[Hashable, list[ir.Node]] = defaultdict(list)
    for node in others:
        waiting[key(node)].append(node)
    for queue in waiting.values():
        queue.reverse()
    pairs = {}
    for node in nodes:
        wanted = key(node)
        if wanted is not None and waiting.get(wanted):
            pairs[node] = waiting[wanted].pop()
    return pairs


class _Structure:
    """Digests of what nodes compute, from the operands up (a Merkle tree)."""

    def __init__(self) -> None:
        self.nodes: dict[ir.Node, str] = {}
        self._values: dict[ir.Value | None, str] = {None: "none"}

    def graph(self, graph: ir.Graph) -> str:
        for place, value in enumerate(graph.inputs):
            self._values[value] = f"input {place}"
        for value in graph.initializers.values():
            if not value.is_graph_input():
                tensor = value.const_value
                self._values[value] = "weight" if tensor is None else f"weight {tensor.dtype} {tensor.shape}"
        for node in graph:
            self._node(node)
        return _digest([self._values.get(value, "unknown").encode() for value in graph.outputs])

    def _node(self, node: ir.Node) -> None:
        parts = [f"{node.domain}|{node.op_type}|{node.overload}|{len(node.outputs)}".encode()]
        parts += [self._values.get(value, "unknown").encode() for value in node.inputs]
        bodies = dict(_bodies(node))
        parts += [name.encode() + self.graph(body).encode() for name, body in sorted(bodies.items())]
        for name, attribute in sorted(node.attributes.items()):
            parts += [name.encode(), attribute_bytes(attribute)]
        self.nodes[node] = _digest(parts)
        for place, value in enumerate(node.outputs):
            self._values[value] = f"{self.nodes[node]} {place}"


def _digest(parts: list[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()
