"""Which channels hold one known number at every place, whatever the image.

1. A sum over channels: where every input that has a weight is known, and padding does not put zeros beside a number that is
   not 0, the output is known (bias + sum of number x weights). A row without weights gives the bias.
2. An elementwise operator of known operands is computed; a product with a known 0 is 0, and BatchNormalization with γ = 0
   gives β.
3. Sums and padded averages keep 0, and other operators that move channels keep any number: they share ids.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import evaluate
from pgc_graph.analysis.pruning.builder import Builder, Elementwise, KeepsZero, Layer

__all__ = ["Float64", "column_sums", "is_padded", "known_channels"]

Float64 = NDArray[np.float64]


def known_channels(account: Builder) -> Float64:
    """Return the number that each channel id holds, NaN where it depends on the image."""
    known = np.full(len(account.parents), np.nan)
    for step in account.steps:
        if isinstance(step, KeepsZero):
            known[step.outputs] = np.where(known[step.inputs] == 0, 0.0, np.nan)
        elif isinstance(step, Layer):
            known[step.outputs] = _layer(step, known, account)
        else:
            known[step.outputs] = _elementwise(step, known, account)
    return known


def column_sums(layer: Layer, account: Builder) -> tuple[Float64, NDArray[np.bool_]]:
    """Return a layer's weights summed over the kernel, (outputs, inputs), and where any weight is not 0.

    Inputs that an output does not read, since they belong to another group of a Conv, have no weight.
    """
    weight = account.constants.value(layer.node.inputs[1])
    assert weight is not None
    array = weight.astype(np.float64) * _alpha(layer.node)
    matrix = np.moveaxis(array, (layer.output_axis, layer.input_axis), (0, 1)).reshape(
        array.shape[layer.output_axis], array.shape[layer.input_axis], -1
    )
    sums, used = matrix.sum(axis=2), (matrix != 0).any(axis=2)
    if layer.groups == 1:
        return sums, used
    outputs, inputs = sums.shape
    wide, wide_used = np.zeros((outputs, inputs * layer.groups)), np.zeros((outputs, inputs * layer.groups), bool)
    for output in range(outputs):
        start = output // (outputs // layer.groups) * inputs
        wide[output, start : start + inputs], wide_used[output, start : start + inputs] = sums[output], used[output]
    return wide, wide_used


def is_padded(node: ir.Node) -> bool:
    """Say whether zeros come in beside what a layer reads; a ConvTranspose's borders and gaps count as such."""
    if node.op_type == "ConvTranspose":
        return True
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    return automatic in ("SAME_UPPER", "SAME_LOWER") or any(node.attributes.get_ints("pads", ()) or ())


def _layer(layer: Layer, known: Float64, account: Builder) -> Float64:
    sums, used = column_sums(layer, account)
    numbers = np.full(sums.shape[1], np.nan) if layer.inputs is None else known[layer.inputs]
    unsuited = np.isnan(numbers) | ((numbers != 0) & is_padded(layer.node))
    total = sums @ np.where(unsuited, 0.0, numbers) + _bias(layer, len(sums), account)
    return np.where((used & unsuited[None, :]).any(axis=1), np.nan, total)


def _bias(layer: Layer, count: int, account: Builder) -> Float64:
    node = layer.node
    bias = account.constants.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if bias is None:
        return np.zeros(count)
    beta = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
    if bias.size not in (1, count):  # a Gemm's C may differ from row to row
        return np.full(count, np.nan)
    return np.broadcast_to(beta * bias.astype(np.float64).reshape(-1), (count,))


def _alpha(node: ir.Node) -> float:
    return node.attributes.get_float("alpha", 1.0) if node.op_type == "Gemm" else 1.0


def _elementwise(step: Elementwise, known: Float64, account: Builder) -> Float64:
    count = len(step.outputs)
    operands = [_operand(step, index, known, account) for index in range(len(step.node.inputs))]
    if step.node.op_type == "BatchNormalization":
        operands[0] = _unless_scaled_by_zero(operands[0], operands[1])
    given = [operand for operand in operands if operand is not None]
    unknown = np.zeros(count, bool)
    for operand in given:
        unknown |= np.isnan(operand)
    zero = np.zeros(count, bool)
    if step.node.op_type == "Mul":
        for operand in given:
            zero |= operand == 0
    if np.all(unknown | zero):
        return np.where(zero, 0.0, np.nan)
    result = _computed(step, [None if item is None else np.nan_to_num(item) for item in operands], account)
    return np.where(zero, 0.0, np.where(unknown, np.nan, result))


def _unless_scaled_by_zero(data: Float64 | None, gamma: Float64 | None) -> Float64 | None:
    """Return what a BatchNormalization normalises, 0 in channels where that does not matter."""
    return data if data is None or gamma is None else np.where(gamma == 0, np.nan_to_num(data), data)


def _operand(step: Elementwise, index: int, known: Float64, account: Builder) -> Float64 | None:
    """Return what an input holds in each channel, NaN where unknown; None for an input that is left out."""
    value, ids = step.node.inputs[index], step.operands[index] if index < len(step.operands) else None
    count = len(step.outputs)
    if value is None:
        return None
    array = account.constants.value(value)
    if array is None:
        return np.broadcast_to(np.full(count, np.nan) if ids is None else known[ids], (count,))
    if array.dtype.kind not in "fiub":
        return np.full(count, np.nan)
    return _along(array.astype(np.float64), step, count)


def _along(array: Float64, step: Elementwise, count: int) -> Float64:
    """Return a constant operand as one number a channel, NaN where it differs along other axes."""
    if step.node.op_type == "BatchNormalization" or array.ndim == 0:
        return np.broadcast_to(array.reshape(-1), (count,))
    result = step.node.outputs[0].shape
    place = step.axis - (0 if result is None else len(result) - array.ndim)
    if place < 0:
        return np.broadcast_to(array.reshape(-1)[0] if array.size == 1 else np.nan, (count,))
    rows = np.moveaxis(array, place, 0).reshape(array.shape[place], -1)
    same = (rows == rows[:, :1]).all(axis=1)
    return np.broadcast_to(np.where(same, rows[:, 0], np.nan), (count,))


def _computed(step: Elementwise, operands: list[Float64 | None], account: Builder) -> Float64:
    """Run a node on numbers: one number a channel in a tensor of shape (1, channels)."""
    node, feeds = step.node, {}
    if node.op_type == "BatchNormalization":
        return _normalised(node, [item for item in operands if item is not None])
    for value, operand in zip(node.inputs, operands, strict=True):
        if value is None or operand is None:
            continue
        constant = account.constants.value(value)
        single = constant is not None and constant.size == 1 and constant.ndim == 0
        feeds[str(value.name)] = operand[0].reshape(()) if single else operand[None, :]
    with np.errstate(all="ignore"):
        results = evaluate(node, feeds, account.opset)
    unknown = np.full(len(step.outputs), np.nan)
    if not results or results[0].size != len(step.outputs):
        return unknown
    values = results[0].astype(np.float64).reshape(-1)
    return np.where(np.isfinite(values), values, np.nan)


def _normalised(node: ir.Node, operands: list[Float64]) -> Float64:
    # onnx.reference normalises by the batch's own statistics where a node of version 9 states a momentum.
    data, gamma, beta, mean, variance = operands
    return gamma * (data - mean) / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5)) + beta
