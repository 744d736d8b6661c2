"""What a BatchNormalization node does in inference: y = scale * x + shift, channel by channel.

    scale = gamma / sqrt(variance + epsilon)        shift = beta - mean * scale

(Ioffe and Szegedy 2015; ONNX BatchNormalization, operator versions 1, 6, 7, 9, 14, 15.) Attributes of all versions:
`epsilon` is used; `momentum` matters in training only; `training_mode` (14+) must be 0; `is_test` (1, 6) must be 1;
`spatial` (1 to 8) must be 1; `consumed_inputs` (1) names buffers of a framework and means nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants

__all__ = ["Affine", "Declined", "is_batchnorm", "read_affine"]

_PARAMETERS = ("scale", "bias", "mean", "variance")
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """A per-channel affine map: `scale` and `shift` are (C,) float64."""

    scale: Float64
    shift: Float64


@dataclass(frozen=True)
class Declined:
    """Why something cannot be folded."""

    reason: str


def is_batchnorm(node: ir.Node) -> bool:
    """Say whether a node is ONNX's own BatchNormalization."""
    return node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx")


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
    spread = variance + node.attributes.get_float("epsilon", 1e-5)
    if not np.all(spread > 0):
        return Declined("variance + epsilon is not above 0 in every channel")
    scale = gamma / np.sqrt(spread)
    shift = beta - mean * scale
    if not (np.all(np.isfinite(scale)) and np.all(np.isfinite(shift))):
        return Declined("a parameter is not finite")
    return Affine(scale, shift)


def _training_form(node: ir.Node, opset: int) -> Declined | None:
    if node.attributes.get_int("training_mode", 0) != 0:
        return Declined("training_mode is 1: it normalises by the statistics of the batch")
    if opset < 7 and node.attributes.get_int("is_test", 0) != 1:
        return Declined("is_test is 0: it normalises by the statistics of the batch")
    if node.attributes.get_int("spatial", 1) != 1:
        return Declined("spatial is 0: it normalises every position on its own")
    if any(value.name and (value.uses() or value.is_graph_output()) for value in node.outputs[1:]):
        return Declined("its running statistics are used as outputs")
    return None
