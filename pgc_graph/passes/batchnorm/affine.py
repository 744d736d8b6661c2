"""Nodes that are affine maps, channel by channel: y = scale * x + shift.

BatchNormalization in inference (Ioffe and Szegedy 2015; ONNX operator versions 1, 6, 7, 9, 14, 15):

    scale = gamma / sqrt(variance + epsilon)        shift = beta - mean * scale

Attributes of all versions: `epsilon` is used; `momentum` matters in training only; `training_mode` (14+) must be 0;
`is_test` (1, 6) must be 1; `spatial` (1 to 8) must be 1; `consumed_inputs` (1) names buffers of a framework and means
nothing here.

Mul, Add, Sub and Div (operator versions 7+, which broadcast like numpy) by a constant that is one number, or one number a
channel along axis 1, and that does not change the tensor's shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.idle import is_onnx

__all__ = ["Affine", "Declined", "is_batchnorm", "read_affine", "read_elementwise"]

_PARAMETERS = ("scale", "bias", "mean", "variance")
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """A per-channel affine map: `scale` and `shift` are (C,) float64."""

    scale: Float64
    shift: Float64

    def then(self, other: Affine) -> Affine:
        """Return this map followed by another."""
        return Affine(other.scale * self.scale, other.scale * self.shift + other.shift)


@dataclass(frozen=True)
class Declined:
    """Why something cannot be folded."""

    reason: str


def is_batchnorm(node: ir.Node) -> bool:
    """Say whether a node is ONNX's own BatchNormalization."""
    return is_onnx(node, "BatchNormalization")


def read_affine(node: ir.Node, constants: Constants, opset: int) -> Affine | Declined:
    """Read a BatchNormalization node's parameters as an affine map, computed in float64.

    Args:
        node: A BatchNormalization node.
        constants: Of the node's model.
        opset: Version of the default domain where the node stands.
    """
    declined = _training_form(node, opset)
    if declined:
        return declined
    values: list[Float64] = []
    for name, value in zip(_PARAMETERS, node.inputs[1:5], strict=True):
        array = constants.value(value)
        if array is None:
            if constants.overridable(value):
                return Declined(f"{name} is a graph input with a default that can be overridden")
            return Declined(f"{name} is not a constant")
        values.append(array.astype(np.float64).reshape(-1))
    gamma, beta, mean, variance = values
    if not len(gamma) == len(beta) == len(mean) == len(variance):
        return Declined("its parameters differ in their number of channels")
    spread = variance + node.attributes.get_float("epsilon", 1e-5)
    if not np.all(spread > 0):
        return Declined("variance + epsilon is not above 0 in every channel")
    scale = gamma / np.sqrt(spread)
    shift = beta - mean * scale
    if not (np.all(np.isfinite(scale)) and np.all(np.isfinite(shift))):
        return Declined("a parameter is not finite")
    return Affine(scale, shift)


def read_elementwise(
    node: ir.Node, constants: Constants, *, rank: int | None, channels: int
) -> tuple[int, Affine] | None:
    """Read a Mul, Add, Sub or Div by a constant as an affine map.

    Args:
        node: Any node, at an opset of 7 or later.
        constants: Of the node's model.
        rank: Of the tensor that the constant meets, None if unknown.
        channels: Of that tensor.

    Returns:
        The index of the input that is not the constant, and the map; None if the node is no such map.
    """
    if not is_onnx(node, "Mul", "Add", "Sub", "Div") or len(node.inputs) != 2:
        return None
    operands = [constants.value(value) for value in node.inputs]
    if (operands[0] is None) == (operands[1] is None):
        return None
    data = 0 if operands[0] is None else 1
    if data == 1 and node.op_type == "Div":
        return None
    vector = _per_channel(operands[1 - data], rank, channels)
    if vector is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        scale, shift = {
            "Mul": (vector, np.zeros(channels)),
            "Div": (1 / vector, np.zeros(channels)),
            "Add": (np.ones(channels), vector),
            "Sub": (np.full(channels, 1.0 - 2 * data), vector * (2 * data - 1)),
        }[node.op_type]
    return (data, Affine(scale, shift)) if np.all(np.isfinite(scale)) and np.all(np.isfinite(shift)) else None


def _per_channel(constant: NDArray[np.generic] | None, rank: int | None, channels: int) -> Float64 | None:
    """Return a constant as one number a channel if it acts like that on an (N, C, ...) tensor, else None."""
    if constant is None:
        return None
    if constant.size == 1 and constant.ndim <= (1 if rank is None else rank):
        return np.full(channels, constant.reshape(-1)[0], np.float64)
    if rank is None or rank < 2 or constant.ndim > rank:
        return None
    aligned = (1,) * (rank - constant.ndim) + constant.shape
    if aligned != (1, channels, *[1] * (rank - 2)):
        return None
    return constant.astype(np.float64).reshape(-1)


def _training_form(node: ir.Node, opset: int) -> Declined | None:
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return Declined("an attribute is a parameter of the function that it stands in")
    if node.attributes.get_int("training_mode", 0) != 0:
        return Declined("training_mode is 1: it normalises by the statistics of the batch")
    if opset < 7 and node.attributes.get_int("is_test", 0) != 1:
        return Declined("is_test is 0: it normalises by the statistics of the batch")
    if node.attributes.get_int("spatial", 1) != 1:
        return Declined("spatial is 0: it normalises every position on its own")
    if any(value.name and (value.uses() or value.is_graph_output()) for value in node.outputs[1:]):
        return Declined("its running statistics are used as outputs")
    return None
