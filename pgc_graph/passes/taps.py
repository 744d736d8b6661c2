"""Make intermediate tensors visible: a tap is a tensor that is a graph output as well.

Nothing is renamed and no node is added, so a tapped graph computes what it computed before. What cannot be tapped:
tensors inside a subgraph (If, Loop, Scan) or a model-local function, because a graph output must belong to the main
graph; and sequences, maps and optionals, which are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from pgc_graph.analysis.names import node_graphs
from pgc_graph.errors import SelectionError, UnsupportedError
from pgc_graph.passes.rewrite import Change, Rewrite, Skip
from pgc_graph.passes.shapes import infer_shapes

__all__ = ["add_taps"]

_TENSOR_TYPES = (ir.TensorType, ir.SparseTensorType)


def add_taps(model: ir.Model, tensors: Sequence[str], *, require_types: bool = True) -> Rewrite:
    """Append tensors of the main graph to its outputs; existing outputs stay first and in order.

    A graph input or an initializer can be tapped like any node's output. A tensor named twice, or an output already, is
    not appended again. Where the model does not state a tensor's type and shape, onnx's shape inference supplies them.

    Args:
        model: Stays untouched.
        tensors: Names of the tensors, in the order in which they become outputs.
        require_types: Whether a tensor whose type or shape stays unknown is refused, as onnx.checker would refuse the
            output. onnxruntime infers both by itself; for a graph that only it will see, pass False.

    Returns:
        The tapped model; skipped are tensors that are outputs already and those that are not plain tensors.

    Raises:
        SelectionError: A tensor does not exist, or lives inside a subgraph or a function.
        UnsupportedError: A tensor's type or shape is unknown and cannot be inferred.
    """
    wanted = list(dict.fromkeys(tensors))
    values = _main_values(model)
    for name in wanted:
        if name not in values:
            raise SelectionError(_missing_message(model, name))
    # Both ways give a copy; inference costs a round trip through protobuf, so it runs only where something is unknown.
    tapped = model.clone() if all(_is_typed(values[name]) for name in wanted) else infer_shapes(model)
    values = _main_values(tapped)
    changes: list[Change] = []
    skipped: list[Skip] = []
    for name in wanted:
        reason = _reason_to_skip(values[name])
        if reason:
            skipped.append(Skip(name, reason))
            continue
        if require_types and not _is_typed(values[name]):
            raise UnsupportedError(
                f"the type or shape of tensor {name!r} is unknown and onnx cannot infer it, so the checker would refuse "
                "it as an output; state it as value_info in the model, or tap another tensor"
            )
        tapped.graph.outputs.append(values[name])
        changes.append(Change(name, "tapped"))
    return Rewrite(tapped, tuple(changes), tuple(skipped))


def _main_values(model: ir.Model) -> dict[str, ir.Value]:
    values = {str(value.name): value for value in model.graph.inputs}
    values.update({str(name): value for name, value in model.graph.initializers.items()})
    values.update({str(value.name): value for node in model.graph for value in node.outputs if value.name})
    return values


def _is_typed(value: ir.Value) -> bool:
    return value.type is not None and (value.shape is not None or not isinstance(value.type, _TENSOR_TYPES))


def _reason_to_skip(value: ir.Value) -> str:
    if value.is_graph_output():
        return "is a graph output already"
    if value.type is not None and not isinstance(value.type, _TENSOR_TYPES):
        return f"is not a plain tensor but {value.type}"
    return ""


def _missing_message(model: ir.Model, name: str) -> str:
    for node in model.graph:
        if any(_holds(graph, name) for graph in node_graphs(node)):
            owner = node.name or node.op_type
            return (
                f"tensor {name!r} lives inside a subgraph of node {owner!r} and cannot be tapped from outside; tap an "
                "output of that node"
            )
    for function in model.functions.values():
        if _holds(function.graph, name):
            return (
                f"tensor {name!r} lives inside function {function.name!r} and cannot be tapped from outside; inline the "
                "function, or tap an output of its caller"
            )
    return f"the model has no tensor {name!r}; check the name"


def _holds(graph: ir.Graph, name: str) -> bool:
    inner = (value for node in graph.all_nodes() for value in node.outputs)
    return name in graph.initializers or any(value.name == name for value in (*graph.inputs, *inner))
