"""Bring what another tool's result says about a graph into the model, or what the model says into the result.

onnxsim drops metadata and denotations of nodes, tensors and subgraphs, quantization annotations, and the doc strings of
attributes, and writes some twenty entries into the model's metadata. `carry_over` brings these back by the names of
tensors: a node that took another one's place inherits what belonged to the node that computed its first output before.
Where a tool only inferred types and shapes, `adopt_types` takes just these, and the model stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from pgc_graph.analysis.names import graph_nodes

__all__ = ["adopt_types", "carry_over"]


def adopt_types(model: ir.Model, proto: onnx.ModelProto) -> int:
    """Give the tensors of a model's main graph the types and shapes that a proto of the same graph knows better.

    Args:
        model: Is changed.
        proto: The same graph after shape inference.

    Returns:
        How many tensors are better known than before.
    """
    infos = {info.name: info.type for info in (*proto.graph.value_info, *proto.graph.output)}
    adopted = 0
    for node in model.graph:
        for value in node.outputs:
            known = infos.get(str(value.name))
            if known is None or (value.type is not None and value.shape is not None and value.shape.is_static()):
                continue
            before = value.type, value.shape
            value.type = ir.serde.deserialize_type_proto_for_type(known) if value.type is None else value.type
            value.shape = _better_known(value.shape, ir.serde.deserialize_type_proto_for_shape(known))
            adopted += before != (value.type, value.shape)
    return adopted


def _better_known(own: ir.Shape | None, other: ir.Shape | None) -> ir.Shape | None:
    if own is None or other is None:
        return other if own is None else own
    return other if len(own) == len(other) and _known(other) > _known(own) else own


def _known(shape: ir.Shape) -> int:
    return sum(isinstance(dim, int) for dim in shape)


def carry_over(before: ir.Model, after: ir.Model) -> None:
    """Give a tool's result what the model that went in said of itself, its graphs, nodes and tensors.

    Args:
        before: Stays untouched.
        after: Is changed.
    """
    after.metadata_props.clear()
    after.metadata_props.update(before.metadata_props)
    after.doc_string, after.domain = before.doc_string, before.domain
    after.producer_name, after.producer_version = before.producer_name, before.producer_version
    after.model_version = before.model_version
    after.graph.name = before.graph.name
    _describe(before.graph, after.graph)
    # Names of tensors are unique over all scopes of a model; functions, which are worlds of their own, onnxsim leaves.
    values = {str(value.name): value for value in _values(before.graph)}
    for value in _values(after.graph):
        old = values.get(str(value.name))
        if old is not None:
            _describe_value(old, value)
    for node in graph_nodes(after.graph):
        known = [values.get(str(value.name)) for value in node.outputs if value.name]
        producer = known[0].producer() if known and known[0] is not None else None
        if producer is not None:
            _describe(producer, node)
            _describe_attributes(producer, node)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield the tensors of every scope."""
    for scope in (graph, *graph.subgraphs()):
        yield from scope.inputs
        yield from scope.initializers.values()
        for node in scope:
            yield from node.outputs


def _describe(old: ir.Graph | ir.Node | ir.Value, new: ir.Graph | ir.Node | ir.Value) -> None:
    for key, text in old.metadata_props.items():
        new.metadata_props.setdefault(key, text)
    new.doc_string = new.doc_string or old.doc_string


def _describe_value(old: ir.Value, new: ir.Value) -> None:
    _describe(old, new)
    for key, annotation in old.meta.items():
        new.meta.setdefault(key, annotation)
    if old.type is not None and new.type is not None and old.type.denotation and not new.type.denotation:
        new.type.denotation = old.type.denotation
    if old.shape is not None and new.shape is not None and len(old.shape) == len(new.shape):
        denotations = [old.shape.get_denotation(axis) for axis in range(len(old.shape))]
        if any(denotations):
            new.shape = ir.Shape(list(new.shape), denotations)
    if _same(old.const_value, new.const_value):
        new.const_value = old.const_value  # with its own doc string and metadata, and without a second copy in memory


def _same(old: ir.TensorProtocol | None, new: ir.TensorProtocol | None) -> bool:
    if old is None or new is None or old is new or old.dtype == ir.DataType.STRING:
        return False
    return old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes()


def _describe_attributes(old: ir.Node, new: ir.Node) -> None:
    for name, attribute in new.attributes.items():
        other = old.attributes.get(name)
        if other is None or other.type != attribute.type or other.is_ref() or attribute.is_ref():
            continue
        attribute.doc_string = attribute.doc_string or other.doc_string
        if attribute.type == ir.AttributeType.GRAPH:
            _describe(other.as_graph(), attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for body, result in zip(other.as_graphs(), attribute.as_graphs(), strict=False):
                _describe(body, result)
