"""Linear operators that mix channels, where the operand differs from the run without gates in few channels.

With W[:, c] the weights that channel c is multiplied by, and d_c the channel's change, the result changes by

    Conv, pointwise, stride 1     W[:, c] ⊗ d_c
    Conv                          W[:, c] * d_c, a product of W[:, c] (M x K) and the K shifts of d_c that the kernel sees
    Gemm, MatMul (of rank 2)      W[c, :] d_c

A pointwise convolution of a tensor X scaled by g, with the factors g of every channel of the chunk, is the product of
(W diag(g)) for all of them, one below the other, and X; plus g_c W[:, c] ⊗ d_c for the channel that differs in X.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import dimensions
from pgc_graph.studies.ablation.channels.channelwise import is_standard
from pgc_graph.studies.ablation.channels.forms import Delta, Dense, Few, Form, Part, Scaled
from pgc_graph.studies.ablation.channels.runs import ChannelRuns

__all__ = ["add_product", "add_scaled", "add_update"]

Weights = NDArray[Any]
Writer = Callable[[ChannelRuns, ir.Node, ir.Value, Part, Weights], ir.Value]


def add_update(runs: ChannelRuns, node: ir.Node) -> Form | None:
    """Conv, Gemm and MatMul of a tensor of which few channels change: the result changes by a product of few factors."""
    data, weights = _operands(runs, node)
    few = None if data is None else runs.few(data)
    if data is None or few is None or weights is None:
        return None
    write: Writer
    if node.op_type == "Conv":
        write, columns = _convolved, _columns(node, weights)
    elif node.op_type in ("Gemm", "MatMul") and weights.ndim == 2 and len(dimensions(data) or ()) == 2:
        write, columns = _multiplied, _rows(node, weights)
    else:
        return None
    if columns is None or None in (dimensions(node.outputs[0]) or (None,))[1:]:
        return None
    change: ir.Value | None = None
    for part in few.parts:
        piece = columns[part.first : part.first + runs.count]
        update = write(runs, node, data, part, piece)
        change = update if change is None else runs.sheet.add("Add", [change, update], f"{update.name}_sum")
    return None if change is None else Delta(change)


def add_scaled(runs: ChannelRuns, node: ir.Node) -> Form | None:
    """Mul by one factor a channel, where only pointwise convolutions read the result."""
    if node.op_type != "Mul" or not is_standard(node) or not _feeds_pointwise(runs, node.outputs[0]):
        return None
    result = dimensions(node.outputs[0])
    for source, factor in (node.inputs, node.inputs[::-1]):
        if source is None or factor is None or not isinstance(runs.forms.get(factor), Delta | Dense):
            continue
        few, shape, small = runs.forms.get(source), dimensions(source), dimensions(factor)
        if shape != result or small is None or result is None or len(small) != len(result) or small[1] != result[1]:
            continue
        is_one_row = source not in runs.sheet.independent and (few is None or runs.whole(source) is not None)
        if is_one_row and all(dim == 1 for dim in small[2:]) and (few is None or isinstance(few, Few)):
            return Scaled(source, few, runs.dense(factor))
    return None


def add_product(runs: ChannelRuns, node: ir.Node) -> Form | None:
    """A pointwise convolution of a scaled tensor: one matrix product for all channels of the chunk."""
    data = node.inputs[0] if node.inputs else None
    form = None if data is None else runs.forms.get(data)
    weights = _pointwise(runs, node)
    if data is None or not isinstance(form, Scaled) or weights is None:
        return None
    sheet, name = runs.sheet, str(node.outputs[0].name)
    out, channels = weights.shape[:2]
    places = [int(dim or 0) for dim in (dimensions(node.outputs[0]) or ())[2:]]
    held = sheet.constant(weights.reshape(1, out, channels), f"{name}_weights")
    scaled = sheet.add(
        "Mul", [held, sheet.reshape(form.factor, [-1, 1, channels], f"{name}_factors")], f"{name}_scaled"
    )
    matrix = sheet.reshape(form.source, [channels, math.prod(places)], f"{name}_matrix")
    product = sheet.add("MatMul", [sheet.reshape(scaled, [-1, channels], f"{name}_stacked"), matrix], f"{name}_product")
    result = sheet.reshape(product, [-1, out, *places], f"{name}_rows")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = sheet.reshape(node.inputs[2], [out, *[1] * len(places)], f"{name}_bias")
        result = sheet.add("Add", [result, bias], f"{name}_biased")
    if form.few is not None:
        change = runs.change(form.source, form.few.parts[0])
        rows = sheet.reshape(sheet.channels, [-1, *[1] * (len(places) + 1)], "channel_rows")
        own = sheet.add("GatherElements", [form.factor, rows], f"{name}_own_factor", axis=1)
        change = sheet.add("Mul", [change, own], f"{name}_own_change")
        update = sheet.add("Mul", [_taken(runs, node, _columns_of(weights)), change], f"{name}_update")
        result = sheet.add("Add", [result, update], f"{name}_updated")
    return Dense(result)


def _operands(runs: ChannelRuns, node: ir.Node) -> tuple[ir.Value | None, Weights | None]:
    """Return the only changed operand, where it is the first, and the fixed weights it is multiplied by."""
    if node.op_type not in ("Conv", "Gemm", "MatMul") or not is_standard(node):
        return None, None
    if any(value in runs.forms for value in node.inputs[1:] if value is not None):
        return None, None
    return node.inputs[0], runs.sheet.constants.value(node.inputs[1])


def _columns(node: ir.Node, weights: Weights) -> Weights | None:
    """Return the weights `[C, M, K...]` that each channel is multiplied by, from `[M, C / groups, K...]`."""
    if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None  # SAME depends on the size of the operand alike, but exporters write pads
    groups = node.attributes.get_int("group", 1)
    out, inputs = weights.shape[:2]
    full = np.zeros((groups * inputs, out, *weights.shape[2:]), weights.dtype)
    for group in range(groups):
        rows = slice(group * out // groups, (group + 1) * out // groups)
        full[group * inputs : (group + 1) * inputs, rows] = _columns_of(weights[rows])
    return full


def _columns_of(weights: Weights) -> Weights:
    return np.ascontiguousarray(weights.swapaxes(0, 1))


def _rows(node: ir.Node, weights: Weights) -> Weights | None:
    """Return the weights `[K, M]` of a matrix product."""
    if node.op_type == "MatMul":
        return weights
    if node.attributes.get_int("transA", 0):
        return None
    alpha = np.asarray(node.attributes.get_float("alpha", 1.0), weights.dtype)
    return np.asarray(alpha * (weights.T if node.attributes.get_int("transB", 0) else weights), weights.dtype)


def _taken(runs: ChannelRuns, node: ir.Node, columns: Weights) -> ir.Value:
    """Return the weights of the chunk's channels: `[B, ...]`."""
    held = runs.sheet.constant(np.ascontiguousarray(columns), f"{node.outputs[0].name}_columns")
    return runs.sheet.add("Gather", [held, runs.sheet.channels], f"{node.outputs[0].name}_column", axis=0)


def _multiplied(runs: ChannelRuns, node: ir.Node, data: ir.Value, part: Part, rows: Weights) -> ir.Value:
    change = runs.change(data, part)  # (B, 1)
    return runs.sheet.add("Mul", [_taken(runs, node, rows), change], f"{node.outputs[0].name}_update")


def _convolved(runs: ChannelRuns, node: ir.Node, data: ir.Value, part: Part, columns: Weights) -> ir.Value:
    sheet, name = runs.sheet, str(node.outputs[0].name)
    change = runs.change(data, part)  # (B, 1, H, W)
    column = _taken(runs, node, columns)  # (B, M, K...)
    if _is_pointwise(node, columns):
        return sheet.add("Mul", [column, change], f"{name}_update")
    kernel, out = columns.shape[2:], columns.shape[1]
    size = math.prod(kernel)
    shifts = sheet.constant(np.eye(size, dtype=columns.dtype).reshape(size, 1, *kernel), f"{name}_shifts")
    kept = {
        key: node.attributes[key].value
        for key in ("strides", "pads", "dilations", "auto_pad")
        if key in node.attributes
    }
    seen = sheet.add("Conv", [change, shifts], f"{name}_seen", **kept)  # (B, K, H', W')
    product = sheet.add(
        "MatMul",
        [sheet.reshape(column, [-1, out, size], f"{name}_flat"), sheet.reshape(seen, [0, size, -1], f"{name}_patches")],
        f"{name}_product",
    )
    places = [int(dim or 0) for dim in (dimensions(node.outputs[0]) or ())[2:]]
    return sheet.reshape(product, [-1, out, *places], f"{name}_update")


def _is_pointwise(node: ir.Node, weights: Weights) -> bool:
    """Say whether a convolution multiplies each place by one matrix."""
    steps = (*node.attributes.get_ints("strides", ()), *weights.shape[2:])
    return all(step == 1 for step in steps) and not any(node.attributes.get_ints("pads", ()))


def _pointwise(runs: ChannelRuns, node: ir.Node) -> Weights | None:
    """Return the fixed weights of a pointwise convolution of one group, or None if a node is none."""
    data, weights = _operands(runs, node)
    if node.op_type != "Conv" or data is None or weights is None or node.attributes.get_int("group", 1) != 1:
        return None
    shape = dimensions(node.outputs[0])
    known = shape is not None and None not in shape[2:]
    return weights if known and _is_pointwise(node, weights) else None


def _feeds_pointwise(runs: ChannelRuns, value: ir.Value) -> bool:
    readers = [usage.node for usage in value.uses() if usage.node in runs.sheet.originals]
    fits = [_pointwise(runs, node) is not None and node.inputs[0] is value for node in readers]
    return bool(fits) and all(fits) and not value.is_graph_output()
