"""Small edits that passes are made of: new constants, replaced weights, bypassed nodes, orphans removed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.names import FreshNames

__all__ = ["GraphEditor", "fits"]


def fits(array: NDArray[np.float64], dtype: ir.DataType) -> bool:
    """Say whether every element stays finite in a narrower type (float16 ends at 65504)."""
    with np.errstate(over="ignore"):
        return bool(np.all(np.isfinite(array.astype(dtype.numpy()).astype(np.float64))))


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
        if old.is_initializer() and len(old.uses()) == 1 and not old.is_graph_output() and old.shape == array.shape:
            data = np.ascontiguousarray(array.astype(dtype.numpy()))
            old.const_value = ir.tensor(data, dtype=dtype, name=old.name)
            return
        node.replace_input_with(index, self.constant(f"{old.name}_folded", array, dtype, node))
        self.remove_orphans([old])

    def insert_before(self, node: ir.Node, op_type: str, operands: list[ir.Value], name: str) -> ir.Value:
        """Compute an elementwise operator right before a node; the result is typed like the first operand."""
        new = ir.node(op_type, operands, name=self.claim(name))
        (value,) = new.outputs
        value.name = self.claim(f"{name}_output_0")
        value.shape, value.type = operands[0].shape, operands[0].type
        _graph_of(node).insert_before(node, new)
        return value

    def bypass(self, node: ir.Node, source: ir.Value) -> None:
        """Remove a node of one output, giving `source` (or a tensor of its name) to all users of that output."""
        (output, *_) = node.outputs
        if output.is_graph_output():
            if source.is_graph_output() or source.is_graph_input() or source.producer() is None:
                raise ValueError(f"{source.name} cannot take the name of graph output {output.name}")
            name, source.shape, source.type = output.name, output.shape, output.type
            output.replace_all_uses_with(source, replace_graph_outputs=True)
            output.name = self.claim(f"{name}_before_folding")
            source.name = name
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

    def _remove_initializer(self, value: ir.Value) -> None:
        graph = value.graph
        if not isinstance(graph, ir.Graph) or value.name not in graph.initializers:
            return
        if value.is_graph_input():
            if self._model.ir_version >= 4:
                return  # an input that users may feed is part of the model's interface
            graph.inputs.remove(value)
        del graph.initializers[str(value.name)]


def _graph_of(node: ir.Node) -> ir.Graph:
    graph = node.graph
    if graph is None:
        raise ValueError(f"node {node.name} belongs to no graph")
    return graph
