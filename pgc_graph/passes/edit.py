"""Small edits that passes are made of: new constants, replaced weights, bypassed nodes, orphans removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.names import FreshNames, all_graphs

__all__ = ["GraphEditor", "can_take_name", "misfit", "remove_unused_initializers", "rename_output"]

_ROUNDINGS = 4


def misfit(array: NDArray[np.float64], dtype: ir.DataType, *, axes: tuple[int, ...] | None = None) -> str:
    """Say why an array cannot be stored in a narrower type; an empty string if it can.

    Args:
        array: The exact values.
        dtype: The type (float16 ends at 65504, and has no more than 6e-8 between small numbers).
        axes: If given, the largest element along these axes must keep its precision; else only overflow counts.
    """
    with np.errstate(over="ignore"):
        stored = array.astype(dtype.numpy()).astype(np.float64)
    if not np.all(np.isfinite(stored)):
        return f"overflows {dtype.name}"
    if axes is None or array.size == 0:
        return ""
    magnitude = np.abs(array)
    largest = magnitude.max(axis=axes, keepdims=True) if axes else magnitude
    allowed = _ROUNDINGS * float(ml_dtypes.finfo(dtype.numpy()).eps) * largest  # type: ignore[no-untyped-call]
    return "" if np.all(np.abs(stored - array) <= allowed) else f"is too small for the precision of {dtype.name}"


class GraphEditor:
    """Edits one model that is ours to edit; knows its names and where constants may live."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._fresh = FreshNames(model)
        # A function's body has no initializers: its constants are Constant nodes.
        self._bodies = {id(function.graph) for function in model.functions.values()}

    def claim(self, wanted: str) -> str:
        """Return a fresh name."""
        return self._fresh.claim(wanted)

    def in_function(self, node: ir.Node) -> bool:
        """Say whether a node is directly in the body of a model-local function."""
        return id(node.graph) in self._bodies

    def constant(self, name: str, array: NDArray[Any], dtype: ir.DataType, before: ir.Node) -> ir.Value:
        """Make a new constant tensor that `before` can use: an initializer of its graph, or a Constant node."""
        graph = _graph_of(before)
        # np.ascontiguousarray would give a scalar one dimension.
        tensor = ir.tensor(np.array(array, dtype.numpy(), order="C"), dtype=dtype, name=self.claim(name))
        if id(graph) in self._bodies:
            node = ir.node("Constant", [], {"value": tensor}, name=self.claim(f"{tensor.name}/Constant"))
            node.outputs[0].name = tensor.name
            graph.insert_before(before, node)
            value = node.outputs[0]
        else:
            value = ir.Value(name=tensor.name, const_value=tensor)
            graph.register_initializer(value)
            if graph is self._model.graph and self._model.ir_version < 4:
                graph.inputs.append(value)
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(dtype)
        return value

    def replace_weight(self, node: ir.Node, index: int, array: NDArray[np.float64], dtype: ir.DataType) -> None:
        """Give a node new values for a constant input; the old tensor stays for its other users, if any."""
        old = node.inputs[index]
        if old is None:
            raise ValueError(f"{node.name} has no input {index}")
        # Overriding an input's default must not act on a weight that has a map folded into it.
        private = len(old.uses()) == 1 and not old.is_graph_output() and not self._is_interface(old)
        if old.is_initializer() and private and old.shape == array.shape:
            data = np.ascontiguousarray(array.astype(dtype.numpy()))
            said = getattr(old.const_value, "doc_string", None), dict(getattr(old.const_value, "metadata_props", {}))
            old.const_value = ir.Tensor(data, dtype, name=old.name, doc_string=said[0], metadata_props=said[1])
            return
        node.replace_input_with(index, self.constant(f"{old.name}_folded", array, dtype, node))
        self.remove_orphans([old])

    def insert_before(
        self,
        node: ir.Node,
        op_type: str,
        operands: list[ir.Value],
        name: str,
        attributes: Mapping[str, int] | None = None,
    ) -> ir.Value:
        """Compute an elementwise operator right before a node; the result is typed like the first operand."""
        new = ir.node(op_type, operands, dict(attributes or {}), name=self.claim(name))
        (value,) = new.outputs
        value.name = self.claim(f"{name}_output_0")
        value.shape, value.type = operands[0].shape, operands[0].type
        _graph_of(node).insert_before(node, new)
        return value

    def insert_after(self, node: ir.Node, op_type: str, operand: ir.Value, name: str) -> None:
        """Apply an elementwise operator to a node's first output, for all users of that output."""
        (output, *_) = node.outputs
        new = ir.node(op_type, [output, operand], name=self.claim(name))
        (value,) = new.outputs
        value.shape, value.type = output.shape, output.type
        inner = self.claim(f"{name}_input_0" if output.is_graph_output() else f"{name}_output_0")
        value.name, output.name = (output.name, inner) if output.is_graph_output() else (inner, output.name)
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        new.replace_input_with(0, output)
        _graph_of(node).insert_after(node, new)

    def bypass(self, node: ir.Node, source: ir.Value) -> None:
        """Remove a node of one output, giving `source` (or a tensor of its name) to all users of that output."""
        (output, *_) = node.outputs
        if output.is_graph_output():
            if not can_take_name(source, output):
                raise ValueError(f"{source.name} cannot take the name of graph output {output.name}")
            rename_output(output, source, self.claim(f"{output.name}_before_folding"))
        else:
            output.replace_all_uses_with(source)
        inputs = list(node.inputs)
        _graph_of(node).remove(node, safe=True)
        self.remove_orphans(inputs)

    def remove_orphans(self, values: Iterable[ir.Value | None]) -> None:
        """Remove constants that no node uses any more, and the constant nodes that only led to them."""
        stack = [value for value in values if value is not None]
        while stack:
            value = stack.pop()
            if value.uses() or value.is_graph_output():
                continue
            node = value.producer()
            if node is None:
                self._remove_initializer(value)
            elif node.graph is not None and not any(o.uses() or o.is_graph_output() for o in node.outputs):
                stack.extend(v for v in node.inputs if v is not None)
                _graph_of(node).remove(node, safe=True)

    def _is_interface(self, value: ir.Value) -> bool:
        return value.is_graph_input() and self._model.ir_version >= 4

    def _remove_initializer(self, value: ir.Value) -> None:
        graph = value.graph
        if not isinstance(graph, ir.Graph) or value.name not in graph.initializers:
            return
        if value.is_graph_input():
            if self._is_interface(value):
                return  # an input that users may feed is part of the model's interface
            graph.inputs.remove(value)
        del graph.initializers[str(value.name)]


def remove_unused_initializers(model: ir.Model) -> int:
    """Remove the initializers of every scope that no node uses and that are no inputs or outputs; return how many."""
    unused = [
        (graph, name)
        for graph in all_graphs(model)
        for name, value in graph.initializers.items()
        if not (value.uses() or value.is_graph_input() or value.is_graph_output())
    ]
    for graph, name in unused:
        del graph.initializers[name]
    return len(unused)


def can_take_name(source: ir.Value, output: ir.Value) -> bool:
    """Say whether a tensor can become the graph output that another tensor is now."""
    producer, user = source.producer(), output.producer()
    free = not (source.is_graph_output() or source.is_graph_input() or source.is_initializer())
    return free and producer is not None and user is not None and producer.graph is user.graph


def rename_output(output: ir.Value, source: ir.Value, name: str) -> None:
    """Make a tensor the graph output that another one is now, under that one's name; the other gets a new name."""
    wanted = output.name
    source.shape = output.shape if output.shape is not None else source.shape
    source.type = output.type if output.type is not None else source.type
    output.replace_all_uses_with(source, replace_graph_outputs=True)
    output.name, source.name = name, wanted


def _graph_of(node: ir.Node) -> ir.Graph:
    graph = node.graph
    if graph is None:
        raise ValueError(f"node {node.name} belongs to no graph")
    return graph
