"""Remove what does nothing: idle nodes, needless arithmetic on shapes, duplicates, dead nodes and weights, in every scope.

Names and types of inputs and outputs stay, and so do initializers that are inputs as well. An idle node stays where it
puts a graph input, an initializer, a tensor of an outer scope or another output out under a name of its own.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedFunctionsPass

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.names import node_graphs
from pgc_graph.passes.duplicates import merge_duplicates
from pgc_graph.passes.edit import GraphEditor, can_take_name, remove_unused_initializers
from pgc_graph.passes.idle import idle_source
from pgc_graph.passes.reshape_targets import write_constant_targets

__all__ = ["clean"]


def clean(model: ir.Model) -> int:
    """Remove what does nothing from a model that is ours to edit, until nothing more is found.

    Args:
        model: Is changed.

    Returns:
        How many nodes, initializers and functions went away or became constants.
    """
    total = 0
    while True:
        found = _remove_idle(model) + write_constant_targets(model) + merge_duplicates(model) + _remove_dead(model)
        total += found
        if not found:
            return total


def _remove_idle(model: ir.Model) -> int:
    editor, constants = GraphEditor(model), Constants(model)
    default = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    bodies = [(model.graph, default)]
    bodies += [(function.graph, function.opset_imports.get("", default)) for function in model.functions.values()]
    removed = 0
    for graph, opset in bodies:
        for node in list(ir.traversal.RecursiveGraphIterator(graph)):
            source = idle_source(node, constants, opset) if node.graph is not None else None
            output = node.outputs[0] if node.outputs else None
            if source is None or output is None or (output.is_graph_output() and not can_take_name(source, output)):
                continue
            editor.bypass(node, source)
            removed += 1
    return removed


def _remove_dead(model: ir.Model) -> int:
    count = _remove_dead_nodes(model.graph)
    count += sum(_remove_dead_nodes(function.graph) for function in model.functions.values())
    count += remove_unused_initializers(model)
    functions = len(model.functions)
    RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    return count + functions - len(model.functions)


def _remove_dead_nodes(graph: ir.Graph) -> int:
    count = 0
    for node in reversed(graph):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
            count += 1
            continue
        count += sum(_remove_dead_nodes(body) for body in node_graphs(node))
    return count
