"""Write nodes behind a graph: typed, each computation once, constants computed at once.

1. A new node goes to the end of the graph, where all that it may read exists already; its outputs get the types and shapes
   that onnx infers for this one node.
2. The same operator on the same inputs with the same attributes is written once, the same constant stored once.
3. What depends on constants alone is evaluated (by `onnx.reference`) and stored as an initializer, unless it would be much
   larger than what it is made of, like a constant expanded to an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.names import FreshNames, node_graphs
from pgc_graph.analysis.node_facts import attribute_bytes
from pgc_graph.errors import UnsupportedError

__all__ = ["Dim", "Emitter"]

Dim = int | str | None
"""A dimension: a number, the name of a symbolic one, or None where nothing is known of it."""

_ALWAYS_FOLDED = 4096  # elements
_SHAPED_LIKE_INPUT = ("GroupNormalization",)  # for which onnx has no shape inference
_SHAPE_DATA = 64  # elements; longer integer constants are no shapes, axes or pads


class Emitter:
    """Appends nodes and constants to the main graph of one model that is ours to edit.

    Attributes:
        model: The model.
        opset: The version of the default operator set that it uses.
        nodes: The nodes written so far, in order.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.opset = int(model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1)))
        self.nodes: list[ir.Node] = []
        self._fresh = FreshNames(model)
        self._constants = Constants(model)
        self._written: dict[Any, tuple[ir.Value, ...]] = {}
        self._made: list[ir.Value] = []

    def claim(self, wanted: str) -> str:
        """Return a fresh name."""
        return self._fresh.claim(wanted)

    def known(self, value: ir.Value | None) -> NDArray[Any] | None:
        """Return the value of a constant tensor, or None if it depends on what the model is fed."""
        return self._constants.value(value)

    def constant(self, array: Any, dtype: ir.DataType, label: str) -> ir.Value:
        """Return a constant tensor; equal ones are stored once.

        Args:
            array: Its values.
            dtype: Its element type.
            label: The beginning of its name.
        """
        data = np.array(array, dtype.numpy(), order="C")  # np.ascontiguousarray would give a scalar one dimension
        key = (dtype, data.shape, data.tobytes())
        if key not in self._written:
            value = ir.Value(
                name=self.claim(f"{label}/constant"), shape=ir.Shape(data.shape), type=ir.TensorType(dtype)
            )
            value.const_value = ir.tensor(data, dtype=dtype, name=value.name)
            self.model.graph.register_initializer(value)
            self._made.append(value)
            self._written[key] = (value,)
        return self._written[key][0]

    def emit(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any],
        *,
        label: str,
        outputs: int = 1,
        domain: str = "",
    ) -> tuple[ir.Value, ...]:
        """Write a node, unless it is written already or its outputs are constants.

        Args:
            op_type: The operator.
            inputs: Its inputs, None for those left out.
            attributes: Its attributes; those that are None are left out.
            label: The beginning of its name.
            outputs: How many outputs it has.
            domain: The operator's domain.
        """
        given = {name: value for name, value in attributes.items() if value is not None}
        node = ir.node(op_type, inputs, given, domain=domain, num_outputs=outputs)
        facts = sorted((name, attribute_bytes(attribute)) for name, attribute in node.attributes.items())
        key = (domain, op_type, outputs, tuple(map(id, inputs)), tuple(facts))
        written = self._written.get(key)
        if written is None:
            constants = self._folded(node, label)
            written = constants or self._append(node, label)
            self._written[key] = written
        if written[0].producer() is not node:
            node.resize_inputs(0)  # a node that is not in the graph must not count as a user
        return written

    def graph_input(self, wanted: str, like: ir.Value) -> ir.Value:
        """Add a graph input with the type and shape of a tensor."""
        value = ir.Value(name=self.claim(wanted), shape=like.shape, type=like.type)
        self.model.graph.inputs.append(value)
        return value

    def alias(self, value: ir.Value, name: str) -> ir.Value:
        """Give a tensor a second name, which has been claimed: what is an output cannot be a constant or another output."""
        node = ir.node("Identity", [value])
        self._append(node, name)
        node.outputs[0].name = name
        return node.outputs[0]

    def complete_shapes(self) -> None:
        """Infer, node by node, the types and shapes that are still unknown, where an operator stopped onnx's inference."""
        for node in self.model.graph:
            if all(value.shape is not None and value.type is not None for value in node.outputs):
                continue
            if node.op_type in _SHAPED_LIKE_INPUT and node.inputs[0] is not None:
                node.outputs[0].shape, node.outputs[0].type = node.inputs[0].shape, node.inputs[0].type
            elif onnx.defs.has(node.op_type, self.opset, node.domain) and not node_graphs(node):
                self._infer(node)

    def remove_unused(self) -> None:
        """Remove the nodes and constants written here that nothing came to use."""
        for node in reversed(self.nodes):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                self.model.graph.remove(node, safe=True)
        self.nodes = [node for node in self.nodes if node.graph is not None]
        for value in self._made:
            if not value.uses() and not value.is_graph_output():
                del self.model.graph.initializers[str(value.name)]
        self._made = [value for value in self._made if value.uses() or value.is_graph_output()]
        self._written.clear()

    def _append(self, node: ir.Node, label: str) -> tuple[ir.Value, ...]:
        node.name = self.claim(f"{label}/{node.op_type}")
        for index, value in enumerate(node.outputs):
            value.name = self.claim(f"{node.name}_output_{index}")
        self._infer(node)
        self.model.graph.append(node)
        self.nodes.append(node)
        return tuple(node.outputs)

    def _folded(self, node: ir.Node, label: str) -> tuple[ir.Value, ...]:
        """Return a node's outputs as constants if they are constants worth storing, else nothing."""
        arrays = [self.known(value) for value in node.inputs if value is not None]
        if node.domain or not arrays or any(array is None for array in arrays):
            return ()
        for index, value in enumerate(node.outputs):
            value.name = f"folded_{index}"
        self._infer(node)
        limit = max(_ALWAYS_FOLDED, *(array.size for array in arrays if array is not None))
        if any(_size(value) is None or (_size(value) or 0) > limit for value in node.outputs):
            return ()
        results = [(self.known(value), value.dtype) for value in node.outputs]
        known = [(array, dtype) for array, dtype in results if array is not None and dtype is not None]
        if len(known) < len(results):
            return ()
        return tuple(self.constant(array, dtype, f"{label}/{node.op_type}") for array, dtype in known)

    def _infer(self, node: ir.Node) -> None:
        inputs = {str(value.name): value for value in node.inputs if value is not None}
        if node.domain or any(value.type is None for value in inputs.values()):
            return
        version = self.opset
        proto = ir.serde.serialize_node(node)
        types = {name: _type_proto(value) for name, value in inputs.items()}
        data = {name: tensor for name, value in inputs.items() if (tensor := self._shape_data(value)) is not None}
        schema = onnx.defs.get_schema(node.op_type, version)
        if schema.deprecated:
            raise UnsupportedError(f"operator {node.op_type} is not part of opset {version}; convert the model first")
        imports = [onnx.helper.make_opsetid("", version)]
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
        for value in node.outputs:
            kind = found.get(str(value.name))
            if kind is not None:
                value.type = value.type or ir.serde.deserialize_type_proto_for_type(kind)
                value.shape = ir.serde.deserialize_type_proto_for_shape(kind) if value.shape is None else value.shape

    def _shape_data(self, value: ir.Value) -> onnx.TensorProto | None:
        if value.dtype != ir.DataType.INT64:
            return None
        array = self.known(value)
        small = array is not None and array.size <= _SHAPE_DATA
        return onnx.numpy_helper.from_array(array, value.name) if small and array is not None else None


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    if value.dtype is None:
        raise UnsupportedError(f"the type of tensor {value.name!r} is unknown; state it as value_info in the model")
    dims = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    proto: onnx.TypeProto = onnx.helper.make_tensor_type_proto(int(value.dtype), dims)
    return proto


def _size(value: ir.Value) -> int | None:
    if value.shape is None or not value.shape.is_static():
        return None
    return math.prod(value.shape.numpy())
