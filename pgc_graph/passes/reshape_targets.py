"""Reshape targets that are computed only to keep a dimension.

Exporters write `x.view(x.size(0), -1)` as Shape, Gather, Unsqueeze, Concat and Reshape. In a Reshape target, 0 stands for
"the input's dimension at this place" (ONNX Reshape, allowzero = 0), so the constant target (0, -1) says the same:

1. the target is a Concat along axis 0, each part one number;
2. a part is a constant, or one entry of a tensor's Shape: by Gather, Slice, or Shape with start and end, whatever
   Unsqueeze, Squeeze and Reshape come between (they leave a single number what it is);
3. that entry is the dimension that Reshape's input has at the part's own place: the Shape is of that very tensor, or both
   dimensions bear the same symbolic name.

Where Reshape has allowzero = 1 and no part is a constant 0, the target with allowzero = 0 says the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.names import graph_nodes
from pgc_graph.passes.edit import GraphEditor
from pgc_graph.passes.idle import is_onnx

__all__ = ["constant_target", "state_kept_dimensions", "write_constant_targets"]


def write_constant_targets(model: ir.Model, constants: Constants) -> int:
    """Replace computed Reshape targets by constants where that says the same; the model is changed.

    Args:
        model: Is changed.
        constants: Of the model.

    Returns:
        How many targets were replaced.
    """
    editor = GraphEditor(model)
    replaced = 0
    reshapes = [node for node in graph_nodes(model.graph) if is_onnx(node, "Reshape") and len(node.inputs) > 1]
    for node in reshapes:
        target = constant_target(node, constants)
        if target is None:
            continue
        old = node.inputs[1]
        name = f"{node.name or node.outputs[0].name}/shape"
        node.attributes.pop("allowzero", None)
        node.replace_input_with(1, editor.constant(name, np.asarray(target, np.int64), ir.DataType.INT64, node))
        editor.remove_orphans([old])
        _state_shape(node, target)
        replaced += 1
    return replaced


def state_kept_dimensions(model: ir.Model) -> int:
    """State the shapes of results whose Reshape target is computed only to keep a dimension; return how many."""
    constants, stated = Constants(model), 0
    for node in model.graph.all_nodes():
        if is_onnx(node, "Reshape") and len(node.inputs) > 1 and node.outputs[0].shape is None:
            target = constant_target(node, constants)
            if target is not None:
                _state_shape(node, target)
                stated += node.outputs[0].shape is not None
    return stated


def constant_target(node: ir.Node, constants: Constants) -> list[int] | None:
    """Return the constant that a Reshape's computed target can be replaced by, or None."""
    source, target = node.inputs[0], node.inputs[1]
    concat = None if target is None else target.producer()
    if source is None or concat is None or not is_onnx(concat, "Concat"):
        return None
    literal = node.attributes.get_int("allowzero", 0) != 0
    numbers: list[int] = []
    for place, part in enumerate(concat.inputs):
        value = constants.value(part)
        number = _kept(part, source, place, constants) if value is None else _single(value)
        if number is None or (literal and value is not None and number == 0):
            return None
        numbers.append(number)
    return numbers if numbers.count(-1) <= 1 else None


def _state_shape(node: ir.Node, target: list[int]) -> None:
    """Write down what the result's shape now is, where nothing is left open but kept dimensions."""
    source, result = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or result.shape is not None:
        return
    kept = {place for place, number in enumerate(target) if number == 0}
    others = [dim for place, dim in enumerate(source.shape) if place not in kept]
    if any(not isinstance(dim, int) for dim in others):
        return
    rest = math.prod(dim for dim in others if isinstance(dim, int))
    open_ended = rest // math.prod(number for number in target if number > 0)
    shape = [open_ended if number == -1 else number for number in target]
    result.shape = ir.Shape([source.shape[place] if place in kept else dim for place, dim in enumerate(shape)])


def _single(value: NDArray[Any]) -> int | None:
    return int(value.reshape(-1)[0]) if value.size == 1 else None


def _kept(part: ir.Value | None, source: ir.Value, place: int, constants: Constants) -> int | None:
    """Return 0 if a part of the target is the dimension that Reshape's input has at this place, else None."""
    entry = _shape_entry(part, constants)
    if entry is None:
        return None
    shaped, index = entry
    if shaped is source and index == place:
        return 0
    here, there = _dimension(source, place), _dimension(shaped, index)
    named = isinstance(here, ir.SymbolicDim) and isinstance(there, ir.SymbolicDim) and here.value is not None
    return 0 if named and here == there else None


def _shape_entry(part: ir.Value | None, constants: Constants) -> tuple[ir.Value, int] | None:
    """Find of which tensor's Shape a one-element tensor is which entry."""
    node = None if part is None else part.producer()
    while node is not None and is_onnx(node, "Unsqueeze", "Squeeze", "Reshape"):
        part = node.inputs[0]
        node = None if part is None else part.producer()
    if node is None or not node.inputs or node.inputs[0] is None:
        return None
    if is_onnx(node, "Shape"):
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", 0)
        return (node.inputs[0], start) if start >= 0 and end == start + 1 else None
    shape = node.inputs[0].producer()
    if shape is None or not is_onnx(shape, "Shape") or shape.attributes or shape.inputs[0] is None:
        return None
    index = _index(node, constants)
    return None if index is None else (shape.inputs[0], index)


def _index(node: ir.Node, constants: Constants) -> int | None:
    values = [constants.value(value) for value in node.inputs[1:]]
    if not values or any(value is None or value.size != 1 for value in values):
        return None
    numbers = [int(value.reshape(-1)[0]) for value in values if value is not None]
    if is_onnx(node, "Gather"):
        return numbers[0] if numbers[0] >= 0 else None
    if is_onnx(node, "Slice") and len(numbers) >= 2 and numbers[0] >= 0 and numbers[1] == numbers[0] + 1:
        return numbers[0] if numbers[2:3] in ([], [0]) and numbers[3:4] in ([], [1]) else None
    return None


def _dimension(value: ir.Value, index: int) -> int | ir.SymbolicDim | None:
    shape = value.shape
    if shape is None or index >= len(shape):
        return None
    dim = shape[index]
    return dim if isinstance(dim, (int, ir.SymbolicDim)) else None
