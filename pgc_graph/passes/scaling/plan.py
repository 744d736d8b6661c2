"""What moving a factor would change: products of constants and factors, collected first and written all or none.

A factor is an array that broadcasts to its tensor without raising the tensor's rank: a number (rank 0), or one dimension an
axis, 1 where it does not vary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import Declined
from pgc_graph.passes.batchnorm.weights import constant_input
from pgc_graph.passes.edit import GraphEditor, misfit

__all__ = ["Declined", "Float64", "ScalingPlan", "along", "constant_operand", "is_positive", "node_label"]

Float64 = NDArray[np.float64]


@dataclass(eq=False)
class ScalingPlan:
    """New values for constants, by node and input; nothing is written before `commit`."""

    constants: Constants
    opset: int
    pending: dict[tuple[ir.Node, int], Float64] = field(default_factory=dict)

    def fork(self) -> ScalingPlan:
        """Return a copy to try something on."""
        return ScalingPlan(self.constants, self.opset, dict(self.pending))

    def read(self, node: ir.Node, index: int) -> Float64 | Declined:
        """Return a constant input as it would be by now, or why it is none."""
        if (node, index) in self.pending:
            return self.pending[node, index]
        found = constant_input(node, index, self.constants)
        return Declined(f"{node_label(node)} has no input {index}") if found is None else found

    def write(self, node: ir.Node, index: int, array: Float64) -> None:
        """Put a new value for a constant input on the plan."""
        self.pending[node, index] = array

    def multiply(self, node: ir.Node, index: int, factor: Float64) -> Declined | None:
        """Put the product of a constant input and a factor on the plan."""
        array = self.read(node, index)
        if isinstance(array, Declined):
            return array
        product = array * factor
        # A factor has an axis for each of its tensor's, a constant that broadcasts need not.
        spare = product.ndim - array.ndim
        self.write(
            node, index, product.reshape(product.shape[spare:]) if set(product.shape[:spare]) <= {1} else product
        )
        return None

    def commit(self, editor: GraphEditor) -> Declined | None:
        """Write all new values, each in the type of the old one, or say why one of them cannot be stored."""
        types: dict[tuple[ir.Node, int], ir.DataType] = {}
        for (node, index), array in self.pending.items():
            dtype = self.constants.dtype(node.inputs[index])
            if dtype is None:
                return Declined(f"the type of input {index} of {node_label(node)} is unknown")
            axes = tuple(range(1, array.ndim)) if array.ndim > 1 else None
            problem = misfit(array, dtype, axes=axes)
            if problem:
                return Declined(f"the folded input {index} of {node_label(node)} {problem}")
            types[node, index] = dtype
        for (node, index), array in self.pending.items():
            editor.replace_weight(node, index, array, types[node, index])
        return None


def constant_operand(node: ir.Node, index: int, plan: ScalingPlan) -> bool:
    """Say whether an input of a node is a constant."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return value is not None and plan.constants.value(value) is not None


def is_positive(factor: Float64) -> bool:
    """Say whether no element of a factor is below 0: what a Relu or a maximum lets pass."""
    return bool(np.all(factor >= 0))


def along(factor: Float64, axis: int, length: int) -> Float64 | None:
    """Return a factor as one number an index along an axis, or None if it varies along another one.

    Args:
        factor: Of a tensor.
        axis: Of that tensor; may count from the end.
        length: Of that axis.
    """
    if factor.ndim == 0:
        return np.full(length, float(factor))
    axis %= factor.ndim
    if factor.size != factor.shape[axis] or factor.shape[axis] not in (1, length):
        return None
    return np.broadcast_to(factor.reshape(-1), (length,)).astype(np.float64)


def node_label(node: ir.Node) -> str:
    """Return what to call a node in a reason: its operator and name."""
    return f"{node.op_type} {node.name or node.outputs[0].name}"
