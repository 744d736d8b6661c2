"""Fold what only moves constants about: shapes, indices and copies, as exporters write them around their parameters.

onnxsim folds constants as well, but a chain of them takes it several rounds (the dynamo exporter writes Shape, Expand and
CastLike before each BatchNormalization), and it leaves Constant nodes in an order of its own each time. So, before it:

1. a Constant node of the main graph becomes an initializer of the same name;
2. a node whose inputs are all initializers becomes one, if its operator only moves values, so that no rounding depends on
   who computes it; arithmetic is left to onnxsim. Of CastLike's second input only the type counts, of Shape's input the
   shape, which is that of stored data and so cannot be stale.

Initializers that whoever runs the model can replace are no constants. Below IR version 4 every initializer is an input of
the model, and in functions there are none: there nothing is done.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants

__all__ = ["fold_moves", "lift_constants"]

_MIN_IR_VERSION = 4
_MOVES = frozenset(
    {"Cast", "CastLike", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Shape"}
    | {"Size", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
_TYPES = frozenset(np.dtype(name) for name in ("bool", "int32", "int64", "float16", "float32", "float64"))


def lift_constants(model: ir.Model, constants: Constants) -> int:
    """Make the Constant nodes of the main graph initializers; the model is changed.

    Args:
        model: Is changed.
        constants: Of the model.

    Returns:
        How many there were.
    """
    if model.ir_version < _MIN_IR_VERSION:
        return 0
    lifted = 0
    for node in list(model.graph):
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or node.outputs[0].is_graph_output():
            continue
        tensor: ir.TensorProtocol | None
        if "value" in node.attributes and not node.attributes["value"].is_ref():
            tensor = node.attributes["value"].as_tensor()
        else:  # value_float, value_ints, ...
            array = constants.value(node.outputs[0])
            tensor = None if array is None or array.dtype not in _TYPES else ir.tensor(array)
        if tensor is not None and tensor.dtype != ir.DataType.STRING:
            _replace(model.graph, node, tensor)
            lifted += 1
    return lifted


def fold_moves(model: ir.Model, limit: int, constants: Constants, *, leave: Collection[str] = ()) -> int:
    """Replace nodes of the main graph that only move constants by their results; the model is changed.

    Args:
        model: Is changed.
        limit: Results of more bytes than this stay computed.
        constants: Of the model.
        leave: Operators to leave as they are.

    Returns:
        How many nodes were replaced.
    """
    if model.ir_version < _MIN_IR_VERSION:
        return 0
    folded = 0
    for node in list(model.graph):
        if node.op_type in leave or not _only_moves(node, constants):
            continue
        if node.op_type == "Identity" and node.inputs[0] is not None:
            node.outputs[0].replace_all_uses_with(node.inputs[0])
            model.graph.remove(node, safe=True)
            folded += 1
            continue
        array = constants.value(node.outputs[0])
        if array is None or array.dtype not in _TYPES or array.nbytes > limit:
            continue
        _replace(model.graph, node, ir.tensor(np.array(array, order="C")))
        folded += 1
    return folded


def _only_moves(node: ir.Node, constants: Constants) -> bool:
    if node.op_type not in _MOVES or node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
        return False
    if not node.inputs or node.outputs[0].is_graph_output():
        return False
    operands = node.inputs[:1] if node.op_type == "CastLike" else node.inputs
    if any(value is not None and not _is_stored(value, constants) for value in operands):
        return False
    return node.op_type not in ("Cast", "CastLike") or _rounds_alike(node)


def _is_stored(value: ir.Value, constants: Constants) -> bool:
    return value.is_initializer() and value.const_value is not None and not constants.overridable(value)


def _rounds_alike(node: ir.Node) -> bool:
    """Say whether every runtime casts alike: what happens to a float beyond the integers is each one's own."""
    source, target = node.inputs[0], node.outputs[0].dtype
    if node.op_type == "CastLike" and node.inputs[1] is not None:
        target = node.inputs[1].dtype
    if "to" in node.attributes:
        target = ir.DataType(node.attributes.get_int("to"))
    if source is None or source.dtype is None or target is None:
        return False
    return source.dtype == target or not source.dtype.is_floating_point() or target.is_floating_point()


def _replace(graph: ir.Graph, node: ir.Node, tensor: ir.TensorProtocol) -> None:
    """Put an initializer in a node's place, under the name of its result."""
    (old,) = node.outputs
    new = ir.Value(name=old.name, const_value=_named(tensor, str(old.name)), doc_string=old.doc_string)
    new.shape, new.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
    new.metadata_props.update(old.metadata_props)
    old.name = None
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    graph.register_initializer(new)


def _named(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    """Return the tensor under a name of its own; the model that this one was cloned from shares the tensor."""
    if tensor.name == name:
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name, doc_string=tensor.doc_string)
