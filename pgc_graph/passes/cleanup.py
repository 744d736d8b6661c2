"""Remove what does nothing: idle nodes, needless arithmetic on shapes, duplicates, dead nodes and weights, in every scope.

Names and types of inputs and outputs stay, and so do initializers that are inputs as well. An idle node stays where it
puts a graph input, an initializer, a tensor of an outer scope or another output out under a name of its own.

Each step can be left out by the name that onnxsim gives to the same work, so that what it is told to skip stays.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedFunctionsPass

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.names import graph_nodes, node_graphs
from pgc_graph.passes.duplicates import merge_duplicate_nodes, merge_duplicate_weights
from pgc_graph.passes.edit import GraphEditor, can_take_name, remove_unused_initializers
from pgc_graph.passes.fold_constants import fold_moves, lift_constants
from pgc_graph.passes.idle import idle_source
from pgc_graph.passes.reshape_targets import write_constant_targets

__all__ = ["clean"]

_IDLE = {
    "eliminate_identity": {"Identity"},
    "eliminate_nop_cast": {"Cast", "CastLike"},
    "eliminate_nop_concat": {"Concat"},
    "eliminate_nop_dropout": {"Dropout"},
    "eliminate_nop_expand": {"Expand"},
    "eliminate_nop_flatten": {"Flatten"},
    "eliminate_nop_pad": {"Pad"},
    "eliminate_nop_reshape": {"Reshape"},
    "eliminate_nop_transpose": {"Transpose"},
}
"""onnxsim's name -> the operators whose idle nodes it removes."""


def clean(model: ir.Model, *, fold_up_to: int | None = None, skip: Collection[str] = ()) -> int:
    """Remove what does nothing from a model that is ours to edit, until nothing more is found.

    Args:
        model: Is changed.
        fold_up_to: If given, Constant nodes become initializers, and so do results of at most this many bytes that only
            move constants about.
        skip: Steps to leave out, by onnxsim's names of them.

    Returns:
        How many nodes, initializers and functions went away or became constants.
    """
    total = 0
    while True:
        found = _sweep(model, fold_up_to, frozenset(skip), first=total == 0)
        total += found
        if not found:
            return total


def _sweep(model: ir.Model, fold_up_to: int | None, skip: frozenset[str], *, first: bool) -> int:
    # What a step finds out about constants holds for the next ones: they only remove nodes, and make more of them constant.
    constants = Constants(model)
    left = frozenset[str]().union(*(operators for name, operators in _IDLE.items() if name in skip))
    new = 0
    if fold_up_to is not None:
        new += lift_constants(model, constants) if "extract_constant_to_initializer" not in skip else 0
        new += fold_moves(model, fold_up_to, constants, leave=left)
    found = _remove_idle(model, constants, left)
    new += write_constant_targets(model, constants) if "fuse_concat_into_reshape" not in skip else 0
    # Only a new weight can be equal to one that was seen before.
    if (first or new) and "eliminate_duplicate_initializer" not in skip:
        found += merge_duplicate_weights(model)
    if "eliminate_common_subexpression" not in skip:
        found += merge_duplicate_nodes(model)
    return found + new + _remove_dead(model, skip)


def _remove_idle(model: ir.Model, constants: Constants, left: frozenset[str]) -> int:
    editor = GraphEditor(model)
    default = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    bodies = [(model.graph, default)]
    bodies += [(function.graph, function.opset_imports.get("", default)) for function in model.functions.values()]
    removed = 0
    for graph, opset in bodies:
        for node in [node for node in graph_nodes(graph) if node.op_type not in left]:
            source = idle_source(node, constants, opset) if node.graph is not None else None
            output = node.outputs[0] if node.outputs else None
            if source is None or output is None or (output.is_graph_output() and not can_take_name(source, output)):
                continue
            editor.bypass(node, source)
            removed += 1
    return removed


def _remove_dead(model: ir.Model, skip: frozenset[str]) -> int:
    count = 0
    if "eliminate_deadend" not in skip:
        graphs = [model.graph, *(function.graph for function in model.functions.values())]
        count += sum(map(_remove_dead_nodes, graphs))
    if "eliminate_unused_initializer" not in skip:
        count += remove_unused_initializers(model)
    functions = len(model.functions)
    if functions:
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
