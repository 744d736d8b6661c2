"""What a gradient rule may ask and do: one node, the gradients of its outputs, and a way to write nodes.

A rule is a plain function `rule(context) -> [gradient of input 0, gradient of input 1, ...]`: the vector-Jacobian product
of one operator. It returns None for an input that has no gradient (an index, a condition) or whose gradient nobody
asked for (`context.wants(i)` is False), and may leave out inputs at the end. A gradient has the shape of its input:
`forms.sum_to` reduces what broadcasting has spread. A rule that cannot treat a node calls `context.refuse(reason)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.autodiff.emitter import Dim, Emitter
from pgc_graph.errors import UnsupportedError

__all__ = ["Context", "Gradients", "Rule", "Writer", "node_label"]

Gradients = Sequence[ir.Value | None]


@dataclass(frozen=True, eq=False)
class Writer:
    """Writes nodes, and knows tensors.

    Attributes:
        emitter: Where nodes go to.
        label: Whose gradient is written: the name of a node or a tensor.
    """

    emitter: Emitter
    label: str

    @property
    def opset(self) -> int:
        """The version of the default operator set that the emitted nodes must suit."""
        return self.emitter.opset

    def known(self, value: ir.Value | None) -> NDArray[Any] | None:
        """Return the value of a constant tensor, or None if it depends on what the model is fed."""
        return self.emitter.known(value)

    def dims(self, value: ir.Value) -> tuple[Dim, ...]:
        """Return a tensor's dimensions: numbers, names of symbolic ones, None where unknown.

        Raises:
            UnsupportedError: Not even the rank is known.
        """
        if value.shape is None:
            self.refuse(f"the rank of {value.name!r} is unknown; state the model's shapes as value_info")
        return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)

    def rank(self, value: ir.Value) -> int:
        """Return a tensor's rank.

        Raises:
            UnsupportedError: It is unknown.
        """
        return len(self.dims(value))

    def static_dims(self, value: ir.Value, axes: Sequence[int] | None = None) -> tuple[int, ...]:
        """Return dimensions of a tensor that must be numbers: all of them, or those of `axes`.

        Raises:
            UnsupportedError: One is not.
        """
        dims = self.dims(value)
        chosen = dims if axes is None else [dims[axis] for axis in axes]
        numbers = tuple(dim for dim in chosen if isinstance(dim, int))
        if len(numbers) < len(chosen):
            self.refuse(f"the shape of {value.name!r} is {value.shape}, expected fixed dimensions; fix them first")
        return numbers

    def emit(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Write a node of one output and return that, or the same one written before, or a constant.

        Args:
            op_type: An operator of the default domain, in the form that it has in `opset`.
            inputs: Its inputs, None for those left out.
            attributes: Its attributes; those that are None are left out.
        """
        (value,) = self.emitter.emit(op_type, inputs, attributes, label=f"{self.label}_grad")
        return value

    def emit_many(
        self, op_type: str, inputs: Sequence[ir.Value | None], outputs: int, **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Write a node of several outputs."""
        return self.emitter.emit(op_type, inputs, attributes, label=f"{self.label}_grad", outputs=outputs)

    def constant(self, array: Any, *, like: ir.Value | None = None, dtype: ir.DataType | None = None) -> ir.Value:
        """Return a constant tensor, int64 unless `like` (a tensor of the same type) or `dtype` says otherwise.

        Raises:
            UnsupportedError: The type of `like` is unknown.
        """
        dtype = dtype if like is None else self.dtype(like)
        return self.emitter.constant(array, dtype or ir.DataType.INT64, f"{self.label}_grad")

    def dtype(self, value: ir.Value) -> ir.DataType:
        """Return a tensor's element type.

        Raises:
            UnsupportedError: It is unknown.
        """
        if value.dtype is None:
            self.refuse(f"the type of {value.name!r} is unknown; state it as value_info in the model")
        return value.dtype

    def refuse(self, reason: str) -> NoReturn:
        """Say by name what cannot be differentiated.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"cannot differentiate {self.label!r}: {reason}")


@dataclass(frozen=True, eq=False)
class Context(Writer):
    """One node that is being differentiated.

    Attributes:
        node: The node; its outputs exist and are reused, never recomputed.
        gradients: The gradient of each output, None for those that nothing differentiable reads.
        wanted: For each input, whether its gradient is asked for.
        rule_behind: The rule that takes a tensor's gradient further back, None where there is none, or where the gradient
            of this very tensor is asked for: so a rule knows whether it may treat two nodes as one.
    """

    node: ir.Node
    gradients: tuple[ir.Value | None, ...]
    wanted: tuple[bool, ...]
    rule_behind: Callable[[ir.Value], Rule | None] = field(default=lambda _value: None)

    @property
    def gradient(self) -> ir.Value:
        """The gradient of the first output, for operators where no other output can have one.

        Raises:
            UnsupportedError: The gradient came to a further output.
        """
        extra = [output for output, g in zip(self.node.outputs[1:], self.gradients[1:], strict=True) if g is not None]
        if extra:
            self.refuse(f"only its first output can be differentiated, and {extra[0].name!r} is used as well")
        value = self.gradients[0]
        if value is None:
            raise ValueError(f"{self.label} has no gradient to pass on")
        return value

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def input(self, index: int) -> ir.Value | None:
        """Return an input, None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def operand(self, index: int = 0) -> ir.Value:
        """Return an input that the operator cannot do without.

        Raises:
            UnsupportedError: It is missing.
        """
        value = self.input(index)
        if value is None:
            self.refuse(f"its input {index} is missing")
        return value

    def wants(self, index: int) -> bool:
        """Say whether the gradient of an input is asked for."""
        return index < len(self.wanted) and self.wanted[index]

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, or `default` where it is not set; floats in the precision in which ONNX has them."""
        attribute = self.node.attributes.get(name)
        if attribute is not None:
            return attribute.value
        return float(np.float32(default)) if isinstance(default, float) else default

    def known_input(self, index: int, what: str) -> NDArray[Any] | None:
        """Return the value of an input that must be constant; None where it is left out.

        Raises:
            UnsupportedError: It is computed at run time.
        """
        value = self.input(index)
        array = self.known(value)
        if value is not None and array is None:
            self.refuse(f"its {what} ({value.name}) is computed at run time, expected a constant")
        return array

    def refuse(self, reason: str) -> NoReturn:
        """Say by name why the node cannot be differentiated.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"cannot differentiate node {self.label!r} ({self.node.op_type}): {reason}")


Rule = Callable[[Context], Gradients]
"""The vector-Jacobian product of one operator."""


def node_label(node: ir.Node) -> str:
    """Return a node's name, or its first output's where it has none."""
    return node.name or next((str(value.name) for value in node.outputs if value.name), node.op_type)
