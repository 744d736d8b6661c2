"""Operands that hard-code a batch size: targets of Reshape and Expand, sizes of Resize (cases 3 to 5 of `batch`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.edit import GraphEditor
from pgc_graph.passes.rewrite import Change
from pgc_graph.passes.shapes import infer_shapes

__all__ = ["BATCH_SYMBOL", "free_operands", "reshape_target"]

BATCH_SYMBOL = "pgc_batch"
"""The batch dimension while operands are looked at: its axis can be told from others that happen to have its size."""

_OPERANDS = {"Reshape": 1, "Expand": 1, "Resize": 3}
_RESHAPE_BY_INPUT_OPSET = 5

Dims = Sequence[int | str | None]


def free_operands(model: ir.Model, known: ir.Model, old: int, batch: int | str) -> list[Change]:
    """Replace constant operands that hard-code a batch size by ones that fit any (a Resize: the new) size.

    Args:
        model: Edited in place; the batch of its inputs is `BATCH_SYMBOL`, and shapes of other tensors are unknown.
        known: The model at the old batch size with its shapes inferred.
        old: The old batch size.
        batch: The new one.

    Raises:
        UnsupportedError: A node hard-codes the batch in a way that cannot be undone.
    """
    before = {str(node.outputs[0].name): node for node in known.graph.all_nodes() if node.outputs}
    editor, changes = GraphEditor(model), list[Change]()
    pending = [node for node in model.graph.all_nodes() if node.op_type in _OPERANDS and node.domain in ("", "ai.onnx")]
    opset = model.opset_imports.get("", _RESHAPE_BY_INPUT_OPSET)
    shapes: dict[str, Dims] | None = None
    hidden: list[tuple[ir.Node, ir.Value, ir.Value, list[int]]] = []
    for node in pending:
        if node.op_type == "Reshape" and opset < _RESHAPE_BY_INPUT_OPSET:
            raise _refusal(
                node, f"before opset {_RESHAPE_BY_INPUT_OPSET} its target is an attribute; convert the opset"
            )
        target = _constant_target(node, model)
        if target is None:
            continue
        shapes = shapes if shapes is not None else _shapes(model)  # what is replaced decides about the shapes below
        new = _free_target(node, before[str(node.outputs[0].name)], target, shapes, old, batch)
        if new == target:
            continue
        if node.op_type == "Resize":
            hidden.append((node, *_hide(node, new, target, model, editor), new))
        else:
            _replace(node, new, editor)
        changes.append(Change(node.name or node.op_type, f"{node.op_type} target {target} -> {new}"))
        shapes = None
    for node, operand, stand_in, new in hidden:
        model.graph.inputs.remove(stand_in)
        node.replace_input_with(_OPERANDS["Resize"], operand)
        node.outputs[0].shape = None
        _replace(node, new, editor)
    return changes


def _hide(
    node: ir.Node, new: list[int], target: list[int], model: ir.Model, editor: GraphEditor
) -> tuple[ir.Value, ir.Value]:
    """Put a graph input in place of the sizes of a Resize, so that the batch keeps its symbol below; return both."""
    index = _OPERANDS["Resize"]
    operand = node.inputs[index]
    if operand is None:
        raise AssertionError(f"{node.name} has no sizes")
    shape, kind = ir.Shape([len(target)]), ir.TensorType(ir.DataType.INT64)
    sizes = ir.Value(name=editor.claim("pgc_sizes"), shape=shape, type=kind)
    model.graph.inputs.append(sizes)
    node.replace_input_with(index, sizes)
    dims = zip(new, target, strict=True)
    node.outputs[0].shape = ir.Shape([dim if dim == was else BATCH_SYMBOL for dim, was in dims])
    return operand, sizes


def reshape_target(target: list[int], data: Dims, old_data: Sequence[int], old: int) -> list[int]:
    """Return the target of a Reshape that does at any batch size what the given one does at one size.

    Args:
        target: The target, with 0 (copy the operand's dimension) and -1 (what is left).
        data: The operand's dimensions with a symbol where the batch is, alone or multiplied with others.
        old_data: Its dimensions at the old batch size.
        old: The old batch size.

    Raises:
        ValueError: The target mixes the batch with other dimensions, or the batch axis is not known.
    """
    axis = _batch_axis(data)
    if axis is None:
        return target
    full = [old_data[place] if dim == 0 else dim for place, dim in enumerate(target)]
    rest = math.prod(dim for dim in full if dim != -1)
    full = [math.prod(old_data) // max(1, rest) if dim == -1 else dim for dim in full]
    before = math.prod(old_data[:axis])
    place = next((index for index in range(len(full)) if math.prod(full[:index]) == before), None)
    if place is None or full[place] % old:
        raise ValueError(f"its target {target} mixes the batch with other dimensions of {list(data)}")
    if target[place] == -1 or (target[place] == 0 and place == axis):
        return target
    if place == axis and full[place] == old_data[axis]:
        return [*target[:place], 0, *target[place + 1 :]]
    return [*full[:place], -1, *full[place + 1 :]]


def _batch_axis(data: Dims) -> int | None:
    if BATCH_SYMBOL in data:
        return list(data).index(BATCH_SYMBOL)
    unknown = [axis for axis, dim in enumerate(data) if not isinstance(dim, int)]
    if len(unknown) > 1:
        raise ValueError(f"which axis of its operand {list(data)} holds the batch is not known")
    return unknown[0] if unknown else None


def _free_target(
    node: ir.Node, before: ir.Node, target: list[int], shapes: dict[str, Dims], old: int, batch: int | str
) -> list[int]:
    operand, old_operand = node.inputs[0], before.inputs[0]
    data = None if operand is None else shapes.get(str(operand.name))
    old_shape = None if old_operand is None else old_operand.shape
    old_data = [dim for dim in old_shape or () if isinstance(dim, int)]
    if data is None or old_shape is None or len(old_data) < len(old_shape):
        if old in target[:1]:
            raise _refusal(
                node, f"its target {target} may hard-code the batch, and the shape of its operand is unknown"
            )
        return target
    try:
        if node.op_type != "Reshape":
            return _aligned_target(node, target, data, old, batch)
        if _allows_zero(node) and 0 in target:
            raise ValueError(f"its target {target} asks for dimensions of size 0 (allowzero)")
        new = reshape_target(target, data, old_data, old)
    except ValueError as error:
        raise _refusal(node, str(error)) from error
    if 0 in new and _allows_zero(node):
        del node.attributes["allowzero"]
    return new


def _aligned_target(node: ir.Node, target: list[int], data: Dims, old: int, batch: int | str) -> list[int]:
    """Treat Expand and Resize, whose target has the operand's own axes (Expand: from the right)."""
    axis = _batch_axis(data)
    place = -1 if axis is None else axis + len(target) - len(data)
    if place < 0 or target[place] != old or "axes" in node.attributes:
        return target
    if node.op_type == "Expand":
        return [*target[:place], 1, *target[place + 1 :]]
    if isinstance(batch, str):
        raise ValueError(f"its sizes {target} hard-code the batch; give it scales, or a fixed batch")
    return [*target[:place], batch, *target[place + 1 :]]


def _allows_zero(node: ir.Node) -> bool:
    attribute = node.attributes.get("allowzero")
    return attribute is not None and attribute.as_int() != 0


def _constant_target(node: ir.Node, model: ir.Model) -> list[int] | None:
    index = _OPERANDS[node.op_type]
    operand = node.inputs[index] if index < len(node.inputs) else None
    array = Constants(model).value(operand)
    return None if array is None or array.ndim != 1 else [int(dim) for dim in array]


def _replace(node: ir.Node, target: list[int], editor: GraphEditor) -> None:
    index = _OPERANDS[node.op_type]
    operand = node.inputs[index]
    if operand is None:
        raise AssertionError(f"{node.name} has no target")
    fresh = editor.constant(f"{operand.name}_any_batch", np.asarray(target, np.int64), ir.DataType.INT64, node)
    node.replace_input_with(index, fresh)
    editor.remove_orphans([operand])


def _shapes(model: ir.Model) -> dict[str, Dims]:
    inferred = infer_shapes(model)
    values = [value for node in inferred.graph.all_nodes() for value in node.outputs]
    values += [*inferred.graph.inputs, *inferred.graph.initializers.values()]
    return {
        str(value.name): [dim if isinstance(dim, int) else dim.value for dim in value.shape]
        for value in values
        if value.shape is not None
    }


def _refusal(node: ir.Node, reason: str) -> UnsupportedError:
    name = node.name or node.outputs[0].name
    return UnsupportedError(f"{node.op_type} {name!r} cannot be made to fit another batch size: {reason}")
