"""The graph that the runs of one tensor's channels are written on: nodes for an image, and nodes for a chunk of channels.

The copy of the model on it computes an image without gates (`(1, ...)`); what is added below it for a whole tensor at once
(see `Few`) is `(1, ...)` as well. All that has one row for each channel of a chunk is computed by *item* nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.interface import dimensions
from pgc_graph.analysis.reach import downstream_values, independent_values, node_reads, upstream_nodes
from pgc_graph.errors import UnsupportedError
from pgc_graph.studies.ablation.changes import Changes
from pgc_graph.studies.ablation.copies import Copies
from pgc_graph.studies.ablation.plan import Question

__all__ = ["Sheet"]


class Sheet:
    """A copy of the model that nodes are added to."""

    def __init__(self, question: Question) -> None:
        """Begin with the nodes that the outputs and the only tensor of the question need."""
        self.model = question.model.clone()
        graph = self.model.graph
        values = {str(value.name): value for node in graph for value in node.outputs if value.name}
        self.outputs = [values[name] for name in question.outputs]
        graph.outputs[:] = self.outputs
        (self.gate,) = (values[name] for name in question.tensors)
        needed = set(upstream_nodes(graph, [*self.outputs, self.gate]))
        graph.remove([node for node in graph if node not in needed])
        self.nodes = tuple(graph)
        self.originals = frozenset(self.nodes)
        self.independent = independent_values(graph)
        sized = [value for node in graph if node.op_type in ("Shape", "Size") for value in node.outputs]
        self.by_shape = downstream_values(self.nodes, [v for v in sized if v in self.independent])
        self.constants = Constants(self.model, assume_default_inputs=True)
        self.copies = Copies(self.model)
        self.changes = Changes(question.intervention, question.statistics, self.copies, self.model)
        self.channels = ir.Value(
            name=self.copies.claim("channels"), shape=ir.Shape(["items"]), type=ir.TensorType(ir.DataType.INT64)
        )
        self.item_nodes: dict[ir.Node, None] = {}
        self._made: dict[tuple[object, ...], ir.Value] = {}

    def add(self, op_type: str, inputs: Sequence[ir.Value], name: str, **attributes: Any) -> ir.Value:
        """Return the output of a new item node."""
        key = (op_type, *inputs, *sorted((key, str(value)) for key, value in attributes.items()))
        if key not in self._made:
            node = ir.node(op_type, list(inputs), attributes, name=self.copies.claim(f"{name}/{op_type}"))
            node.outputs[0].name = self.copies.claim(name)
            self.model.graph.append(node)
            self.item_nodes[node] = None
            self._made[key] = node.outputs[0]
        return self._made[key]

    def front(self, op_type: str, inputs: Sequence[ir.Value], name: str, *, like: ir.Value) -> ir.Value:
        """Return the output of a new node that is run once an image; it has the type and shape of a tensor."""
        value = self.copies.add(op_type, list(inputs), name)
        value.type, value.shape = like.type, None if like.shape is None else like.shape.copy()
        return value

    def copy(self, node: ir.Node, replaced: Mapping[ir.Value, ir.Value]) -> ir.Node:
        """Return the copy of a node among the item nodes, reading other tensors."""
        copy = self.copies.copy(node, replaced)
        for value in copy.outputs:
            if value.shape is not None and len(value.shape):
                value.shape = ir.Shape(["items", *list(value.shape)[1:]])
        self.item_nodes[copy] = None
        return copy

    def constant(self, array: NDArray[Any], name: str) -> ir.Value:
        """Return a new initializer, equal ones once."""
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            self._made[key] = self.copies.constant(array, name)
        return self._made[key]

    def integers(self, *numbers: int) -> ir.Value:
        """Return a vector of whole numbers."""
        return self.constant(np.array(numbers, np.int64), "integers")

    def reshape(self, value: ir.Value, shape: Sequence[int], name: str) -> ir.Value:
        """Return a tensor in another shape."""
        return self.add("Reshape", [value, self.integers(*shape)], name)

    def pick(self, values: ir.Value, rank: int) -> ir.Value:
        """Return `(B, 1, ...)`: of `(1, C, ...)`, the channels of the chunk."""
        taken = self.add("Gather", [values, self.channels], f"{values.name}_picked", axis=1)
        order = [1, 0, *range(2, rank)]
        return self.add("Transpose", [taken], f"{values.name}_rows", perm=order)

    def expanded(self, value: ir.Value) -> ir.Value:
        """Return a row for each channel of the chunk: `(B, ...)` from `(1, ...)`."""
        shape = dimensions(value)
        if not shape:
            raise UnsupportedError(f"tensor {value.name!r} has no known rank, so that it cannot be given rows")
        rows = self.add("Shape", [self.channels], "items")
        target = self.add("Concat", [rows, self.integers(*(1,) * (len(shape) - 1))], "item_rows", axis=0)
        return self.add("Expand", [value, target], f"{value.name}_expanded")

    def row_shape(self, value: ir.Value) -> ir.Value:
        """Return what is computed from the shapes of tensors, with a row for each channel of the chunk in their shapes."""
        node = value.producer()
        if node is None or value not in self.by_shape:
            return value
        if node.op_type not in ("Shape", "Size"):
            replaced = {read: self.row_shape(read) for read in node_reads(node)}
            copy = self.copies.copy(node, replaced)
            self.item_nodes[copy] = None
            return copy.outputs[value.index() or 0]
        (source,) = (read for read in node.inputs if read is not None)
        if source in self.independent:
            return value
        if node.op_type == "Size":
            raise UnsupportedError(f"node {node.name!r} counts the elements of a batch; it cannot be run for channels")
        rows = self.add("Shape", [self.channels], "items")
        rest = self.add("Shape", [source], f"{source.name}_shape")
        rest = self.add("Slice", [rest, self.integers(1), self.integers(2**31)], f"{source.name}_shape_of_one")
        whole = self.add("Concat", [rows, rest], f"{source.name}_shape_of_items", axis=0)
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", 2**31)
        return self.add("Slice", [whole, self.integers(start), self.integers(end)], f"{value.name}_of_items")
