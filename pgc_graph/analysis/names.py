"""Fresh names: the one place that invents names for nodes and tensors, unique over every scope of a model."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import onnx_ir as ir

__all__ = ["FreshNames", "all_graphs", "all_nodes", "graph_nodes", "node_graphs", "node_names", "tensor_names"]

_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Yield every node: the main graph's, those of nested subgraphs, and those of model-local functions."""
    yield from graph_nodes(model.graph)
    for function in model.functions.values():
        yield from graph_nodes(function.graph)


def graph_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes of a graph, each followed by those of its subgraphs, as onnx-ir's slower traversal does."""
    for node in graph:
        yield node
        for body in node_graphs(node):
            yield from graph_nodes(body)


def node_graphs(node: ir.Node) -> list[ir.Graph]:
    """Return the subgraphs that a node holds itself (If, Loop, Scan), not those nested in them."""
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.data.values():  # the view of the dictionary around it takes five times as long
        kind = attribute.type
        if (kind is not _GRAPH and kind is not _GRAPHS) or attribute.is_ref():
            continue  # inside a function, an attribute can stand for one of the function's own
        graphs.extend((attribute.as_graph(),) if kind is _GRAPH else attribute.as_graphs())
    return graphs


def all_graphs(model: ir.Model) -> list[ir.Graph]:
    """Return every scope: the main graph, the bodies of functions, and the subgraphs nested in both."""
    roots = [model.graph, *(function.graph for function in model.functions.values())]
    nested = [body for root in roots for node in graph_nodes(root) for body in node_graphs(node)]
    return [*roots, *nested]


def tensor_names(model: ir.Model) -> set[str]:
    """Return the names of all tensors in every scope: inputs, initializers and node outputs."""
    names = {str(value.name) for node in all_nodes(model) for value in node.outputs if value.name}
    for graph in model.graphs():
        names.update(str(value.name) for value in graph.inputs)
        names.update(graph.initializers)
    for function in model.functions.values():
        names.update(str(value.name) for value in function.inputs)
    return names


def node_names(model: ir.Model) -> set[str]:
    """Return the names of all named nodes in every scope."""
    return {node.name for node in all_nodes(model) if node.name}


class FreshNames:
    """Hands out names that no tensor and no node of a model bears yet, in any scope."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._counts: dict[str, int] = {}

    @functools.cached_property
    def _taken(self) -> set[str]:
        # Collected when the first name is asked for: most passes on most models ask for none.
        return tensor_names(self._model) | node_names(self._model)

    def claim(self, wanted: str) -> str:
        """Return `wanted` if it is free, else `wanted_1`, `wanted_2`, ...; the name is taken from then on."""
        # Counting goes on where it stopped: a name wanted by every node would cost the square of their number.
        name, count = wanted, self._counts.get(wanted, 0)
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        self._counts[wanted] = count
        return name
