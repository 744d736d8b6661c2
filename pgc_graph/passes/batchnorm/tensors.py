"""Rank, number of channels and element type of tensors whose shape the graph does not state, as in functions.

Read off the weights of the Conv, ConvTranspose or Gemm upstream, through operators that keep all three.
"""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import is_batchnorm
from pgc_graph.passes.idle import is_onnx

__all__ = ["channels_of", "dtype_of", "rank_of"]

_KEEP = (
    *(
        "BatchNormalization",
        "Identity",
        "Dropout",
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "Clip",
        "Elu",
        "Selu",
        "Gelu",
    ),
    *("HardSigmoid", "HardSwish", "Mish", "Softplus", "Swish", "Neg", "Abs", "MaxPool", "AveragePool", "LpPool"),
    *("GlobalAveragePool", "GlobalMaxPool"),
)
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm")


def rank_of(value: ir.Value, constants: Constants) -> int | None:
    """Return a tensor's number of dimensions, or None if it is unknown."""
    origin = _origin(value)
    if origin.shape is not None:
        return len(origin.shape)
    weight = _weight_shape(origin, constants)
    return None if weight is None else len(weight)


def channels_of(value: ir.Value, constants: Constants) -> int | None:
    """Return the length of a tensor's axis 1, or None if it is unknown."""
    for known in (value, origin := _origin(value)):
        if known.shape is not None and len(known.shape) > 1 and isinstance(known.shape[1], int):
            return known.shape[1]
    node, weight = origin.producer(), _weight_shape(origin, constants)
    if node is None or weight is None:
        return None
    if node.op_type == "ConvTranspose":
        return node.attributes.get_int("group", 1) * weight[1]
    if node.op_type == "Gemm":
        return weight[0 if node.attributes.get_int("transB", 0) else 1]
    return weight[0]


def dtype_of(value: ir.Value, constants: Constants, opset: int) -> ir.DataType | None:
    """Return a tensor's element type, or None if it is unknown.

    Args:
        value: The tensor.
        constants: Of its model.
        opset: Version of the default domain; before 15 the scale of a BatchNormalization has the type of its input.
    """
    if value.dtype is not None:
        return value.dtype
    for node, index in value.uses():
        if is_batchnorm(node) and index == 0 and opset < 15:
            return constants.dtype(node.inputs[1])
    origin = _origin(value)
    producer = origin.producer()
    if origin.dtype is None and producer is not None and is_onnx(producer, *_WEIGHTED):
        return constants.dtype(producer.inputs[1])
    return origin.dtype


def _origin(value: ir.Value) -> ir.Value:
    """Walk up to the first tensor that says something about rank, channels and type."""
    while value.shape is None:
        node = value.producer()
        if node is None or not is_onnx(node, *_KEEP) or node.inputs[0] is None or value is not node.outputs[0]:
            break
        value = node.inputs[0]
    return value


def _weight_shape(value: ir.Value, constants: Constants) -> tuple[int, ...] | None:
    node = value.producer()
    if node is None or not is_onnx(node, *_WEIGHTED):
        return None
    array = constants.value(node.inputs[1])
    return None if array is None else array.shape
