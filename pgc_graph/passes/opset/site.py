"""One node at one step from an opset to the next: what an adapter may ask about it, and how it is replaced.

An adapter is a plain function `adapt(site) -> str`. It rewrites the node in place or replaces it, and says in a few words
what it did; it returns an empty string where nothing but the version changes. Where it cannot, it raises
`CannotConvertError` before it has touched anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.interface import dimensions
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.edit import GraphEditor

__all__ = ["Adapter", "CannotConvertError", "Site", "node_label"]


class CannotConvertError(UnsupportedError):
    """Ends an adapter; the driver turns it into a verdict.

    Attributes:
        reason: What stands in the way.
        remedy: What would help, or empty: the driver knows how far the node can go.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


@dataclass(frozen=True, eq=False)
class Site:
    """One node, about to go one opset up or down.

    Attributes:
        node: The node.
        target: The opset that it has to suit after this step.
        constants: Which tensors are constants.
        editor: Makes tensors and fresh names.
        emitted: Nodes written so far in the node's place.
    """

    node: ir.Node
    target: int
    constants: Constants
    editor: GraphEditor
    emitted: list[ir.Node] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The node's name, or its first output's."""
        return node_label(self.node)

    def input(self, index: int) -> ir.Value | None:
        """Return an input, None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def operand(self, index: int) -> ir.Value:
        """Return an input that the operator's schema requires.

        Raises:
            CannotConvertError: It is missing.
        """
        value = self.input(index)
        if value is None:
            raise CannotConvertError(f"its input {index} is missing", "repair the model")
        return value

    def output_used(self, index: int) -> bool:
        """Say whether an output exists and anybody reads it."""
        outputs = self.node.outputs
        return index < len(outputs) and (bool(outputs[index].uses()) or outputs[index].is_graph_output())

    def known(self, index: int, what: str) -> NDArray[Any] | None:
        """Return the value of a constant input, None where it is left out.

        Raises:
            CannotConvertError: It is computed at run time.
        """
        value = self.input(index)
        if value is None:
            return None
        array = self.constants.value(value)
        if array is None:
            overridable = self.constants.overridable(value)
            how = "a graph input that can be overridden" if overridable else "computed at run time"
            raise CannotConvertError(f"its {what} ({value.name}) is {how}", f"make {value.name} a constant")
        return array

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, or `default` where it is not set.

        Raises:
            CannotConvertError: It is a parameter of the function that the node is in.
        """
        attribute = self.node.attributes.get(name)
        if attribute is None:
            return default
        if attribute.is_ref():
            raise CannotConvertError(f"its {name} is a parameter of the function", "inline the function")
        return attribute.value

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute."""
        self.node.attributes[name] = ir.convenience.convert_attribute(name, value)

    def drop_attribute(self, name: str) -> None:
        """Remove an attribute if it is set."""
        self.node.attributes.pop(name, None)

    def rank(self, index: int = 0) -> int:
        """Return the rank of an input.

        Raises:
            CannotConvertError: It is unknown.
        """
        value = self.operand(index)
        if value.shape is None:
            raise CannotConvertError(f"the rank of {value.name} is unknown", "give the model's inputs their shapes")
        return len(value.shape)

    def dims(self, index: int = 0) -> tuple[int | None, ...]:
        """Return the dimensions of an input, None for open ones.

        Raises:
            CannotConvertError: Not even the rank is known.
        """
        self.rank(index)
        return dimensions(self.operand(index)) or ()

    def dtype(self, index: int = 0) -> ir.DataType:
        """Return the element type of an input.

        Raises:
            CannotConvertError: It is unknown.
        """
        value = self.operand(index)
        dtype = self.constants.dtype(value)
        if dtype is None:
            raise CannotConvertError(f"the type of {value.name} is unknown", "inline the function")
        return dtype

    def constant(self, what: str, array: Any, dtype: ir.DataType = ir.DataType.INT64) -> ir.Value:
        """Make a constant tensor that the node can use, `<node>/<what>`."""
        return self.editor.constant(f"{self.label}/{what}", np.asarray(array), dtype, self.node)

    def set_input(self, index: int, value: ir.Value | None) -> None:
        """Set an input, lengthening the list of inputs where it is too short."""
        if index >= len(self.node.inputs):
            self.node.resize_inputs(index + 1)
        self.node.replace_input_with(index, value)

    def cut_inputs(self, count: int) -> None:
        """Keep the first inputs only; constants that nobody else reads go."""
        dropped = list(self.node.inputs[count:])
        if dropped:
            self.node.resize_inputs(count)
            self.editor.remove_orphans(dropped)

    def emit(
        self,
        op_type: str,
        operands: Sequence[ir.Value | None],
        attributes: dict[str, Any] | None = None,
        *,
        like: ir.Value | None = None,
        dtype: ir.DataType | None = None,
        dims: Sequence[Any] | None = None,
    ) -> ir.Value:
        """Write a node before this one and return its output.

        Args:
            op_type: Operator of the default domain.
            operands: Inputs.
            attributes: Attributes.
            like: The tensor whose type and shape the output has.
            dtype: Its element type, where it differs.
            dims: Its dimensions, where they differ.
        """
        new = ir.node(op_type, operands, attributes or {}, name=self.editor.claim(f"{self.label}/{op_type}"))
        (value,) = new.outputs
        value.name = self.editor.claim(f"{new.name}_output_0")
        value.type = None if like is None else like.type
        value.shape = None if like is None else like.shape
        value.type = value.type if dtype is None else ir.TensorType(dtype)
        value.shape = value.shape if dims is None else ir.Shape(dims)
        graph = self.node.graph
        if graph is None:
            raise CannotConvertError("it belongs to no graph", "repair the model")
        graph.insert_before(self.node, new)
        self.emitted.append(new)
        return value

    def replace(self, *values: ir.Value) -> None:
        """Let emitted tensors take the place, and the names, of the node's outputs; the node goes.

        Whoever read an output, taps or gates it by its name, or looks the node up by its own, finds the new one.
        """
        for output, value in zip(self.node.outputs, values, strict=False):
            name = output.name
            value.shape = output.shape if output.shape is not None else value.shape
            value.type = output.type if output.type is not None else value.type
            value.doc_string = output.doc_string
            value.metadata_props.update(output.metadata_props)
            output.replace_all_uses_with(value, replace_graph_outputs=True)
            output.name, value.name = None, name
        last = values[0].producer()
        name, inputs, graph = self.node.name, list(self.node.inputs), self.node.graph
        if graph is not None:
            graph.remove(self.node, safe=True)
        if last is not None:
            last.name, last.doc_string = name, self.node.doc_string
            last.metadata_props.update(self.node.metadata_props)
        self.editor.remove_orphans(inputs)


Adapter = Callable[[Site], str]
"""Takes a node one opset up or down; says what it did, or an empty string for nothing but the version."""


def node_label(node: ir.Node) -> str:
    """Return a node's name, or its first output's where it has none."""
    return node.name or next((str(value.name) for value in node.outputs if value.name), node.op_type)
