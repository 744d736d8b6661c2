"""Give every node a name that is unique in every scope.

The names are sng4onnx's (`sng_<operator>_<index>`). sng4onnx itself drops node domains, model-local functions and doc
strings, ignores subgraphs, removes dead nodes and can create duplicates, which onnxruntime refuses; so it is shown a
skeleton of the graph, and only the names are taken over:

1. an unnamed node of the main graph gets the name that sng4onnx gives to it; in a graph of more than
   `SNG_MAX_NODES` nodes, where asking it takes most of the time, its place among the unnamed is the number;
2. an unnamed node of a subgraph or of a function gets a name of the same form, with the numbers that follow;
3. a name that two nodes bear stays with the first; the others get a number at its end.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir
import sng4onnx

from pgc_graph.analysis.names import FreshNames, all_nodes
from pgc_graph.passes.rewrite import Change, Rewrite

__all__ = ["SNG_MAX_NODES", "fill_names", "name_nodes"]

SNG_MAX_NODES = 20_000
"""Larger graphs are numbered without sng4onnx: names of the same form, numbered in graph order."""


def fill_names(model: ir.Model) -> Rewrite:
    """Name every unnamed node and make duplicate node names unique; names that are unique already stay.

    Args:
        model: Stays untouched.

    Returns:
        The named model, and one change a node that was named or renamed.
    """
    named = model.clone()
    return Rewrite(named, name_nodes(named))


def name_nodes(model: ir.Model) -> tuple[Change, ...]:
    """Do what `fill_names` does to a model that is ours to edit."""
    return (*_separate_duplicates(model), *_name_unnamed(model))


def _separate_duplicates(model: ir.Model) -> Iterator[Change]:
    fresh = FreshNames(model)
    seen: set[str] = set()
    for node in all_nodes(model):
        if not node.name:
            continue
        if node.name in seen:
            old, node.name = node.name, fresh.claim(node.name)
            yield Change(old, f"duplicate name, renamed to {node.name}")
        seen.add(node.name)


def _name_unnamed(model: ir.Model) -> Iterator[Change]:
    unnamed = [node for node in all_nodes(model) if not node.name]
    if not unnamed:
        return
    fresh = FreshNames(model)
    small = model.graph.num_nodes() <= SNG_MAX_NODES
    suggested = _sng_names(model.graph) if small else _own_names(model.graph)
    main = set(model.graph)
    count = len(suggested)
    for node in unnamed:
        if node in main and _key(node):
            wanted = suggested[_key(node)]
        else:
            wanted = f"sng_{node.op_type}_{count}"
            count += 1
        node.name = fresh.claim(wanted)
        yield Change(node.name, "named")


def _sng_names(graph: ir.Graph) -> dict[str, str]:
    """Ask sng4onnx for the names of a graph's unnamed nodes; keys as by `_key`."""
    renamed = sng4onnx.generate(onnx_graph=_skeleton(graph), has_external_data=True, non_verbose=True)
    names = {next(name for name in node.output if name): node.name for node in renamed.graph.node}
    return {_key(node): names[_key(node)] for node in graph if not node.name and _key(node)}


def _own_names(graph: ir.Graph) -> dict[str, str]:
    """Name a graph's unnamed nodes like sng4onnx, numbered in graph order; keys as by `_key`."""
    unnamed = [node for node in graph if not node.name and _key(node)]
    return {_key(node): f"sng_{node.op_type}_{index}" for index, node in enumerate(unnamed)}


def _skeleton(graph: ir.Graph) -> onnx.ModelProto:
    # Without attributes, weights and domains there is nothing that sng4onnx could lose or stumble over; with every
    # tensor an output no node counts as dead. has_external_data=True spares a shape inference that nobody reads.
    def typed(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

    nodes = [
        onnx.helper.make_node(node.op_type, [*map(_name, node.inputs)], [*map(_name, node.outputs)], node.name)
        for node in graph
        if _key(node)
    ]
    produced = {name for node in nodes for name in node.output if name}
    free = dict.fromkeys(name for node in nodes for name in node.input if name and name not in produced)
    skeleton = onnx.helper.make_graph(nodes, "names", [typed(n) for n in free], [typed(n) for n in sorted(produced)])
    return onnx.helper.make_model(skeleton)


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name or "")


def _key(node: ir.Node) -> str:
    """Identify a node by its first named output (unique within a graph); empty for a node that has none."""
    return next((str(value.name) for value in node.outputs if value.name), "")
