"""Add copies of nodes that read other tensors than the originals do, each distinct copy once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.names import FreshNames
from pgc_graph.analysis.reach import Reads, node_reads

__all__ = ["Copies"]

Replaced = Mapping[ir.Value, ir.Value]


class Copies:
    """Appends nodes to the main graph of one model; what has been computed before is not computed again."""

    def __init__(self, model: ir.Model, reads: Reads = node_reads) -> None:
        self._model, self._reads = model, reads
        self._fresh = FreshNames(model)
        self._made: dict[tuple[object, ...], ir.Node] = {}

    def copy(self, node: ir.Node, replaced: Replaced) -> ir.Node:
        """Return the copy of a node that reads `replaced[v]` wherever the node reads `v`, subgraphs included."""
        key = (node, *(replaced.get(value, value) for value in self._reads(node)))
        if key not in self._made:
            inputs = [None if value is None else replaced.get(value, value) for value in node.inputs]
            attributes = [_attribute(attribute, replaced) for attribute in node.attributes.values()]
            self._made[key] = self._append(node, inputs, attributes)
        return self._made[key]

    def claim(self, name: str) -> str:
        """Return a name that nothing in the model bears, as close to a given one as can be."""
        return self._fresh.claim(name)

    def add(self, op_type: str, inputs: list[ir.Value], name: str) -> ir.Value:
        """Return the first output of a new node without attributes."""
        key = (op_type, *inputs)
        if key not in self._made:
            node = ir.Node("", op_type, inputs, name=self._fresh.claim(f"{name}/{op_type}"))
            node.outputs[0].name = self._fresh.claim(name)
            self._model.graph.append(node)
            self._made[key] = node
        return self._made[key].outputs[0]

    def constant(self, array: NDArray[Any], name: str) -> ir.Value:
        """Return a new initializer."""
        tensor = ir.tensor(array)
        value = ir.Value(name=self._fresh.claim(name), shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        self._model.graph.register_initializer(value)
        if self._model.ir_version < 4:
            self._model.graph.inputs.append(value)
        return value

    def _append(self, node: ir.Node, inputs: list[ir.Value | None], attributes: list[ir.Attr]) -> ir.Node:
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            attributes,
            overload=node.overload,
            num_outputs=len(node.outputs),
            version=node.version,
            name=self._fresh.claim(str(node.name or node.op_type)),
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name = self._fresh.claim(old.name) if old.name else ""
            new.type, new.shape = old.type, None if old.shape is None else old.shape.copy()
        self._model.graph.append(copy)
        return copy


def _attribute(attribute: ir.Attr, replaced: Replaced) -> ir.Attr:
    if attribute.type == ir.AttributeType.GRAPH:
        return ir.AttrGraph(attribute.name, _subgraph(attribute.as_graph(), replaced))
    if attribute.type == ir.AttributeType.GRAPHS:
        return ir.AttrGraphs(attribute.name, [_subgraph(graph, replaced) for graph in attribute.as_graphs()])
    return attribute


def _subgraph(graph: ir.Graph, replaced: Replaced) -> ir.Graph:
    copy = graph.clone(allow_outer_scope_values=True)
    for scope in (copy, *copy.subgraphs()):
        for node in scope:
            for index, value in enumerate(node.inputs):
                if value is not None and value in replaced:
                    node.replace_input_with(index, replaced[value])
    return copy
