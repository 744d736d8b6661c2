"""Nodes that put out what comes in."""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.analysis.constants import Constants

__all__ = ["idle_source", "is_onnx", "passes_on"]


def is_onnx(node: ir.Node, *op_types: str) -> bool:
    """Say whether a node is one of ONNX's own operators of these types."""
    return node.op_type in op_types and node.domain in ("", "ai.onnx")


def passes_on(node: ir.Node, constants: Constants, opset: int) -> bool:
    """Say whether a node's first output is its first input: Identity, or Dropout in inference without its mask."""
    if is_onnx(node, "Identity"):
        return True
    if not is_onnx(node, "Dropout") or any(v.name and (v.uses() or v.is_graph_output()) for v in node.outputs[1:]):
        return False
    if opset < 7:
        return node.attributes.get_int("is_test", 0) == 1
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is None:
        return True
    value = constants.value(training)
    return value is not None and not value.any()


def idle_source(node: ir.Node, constants: Constants, opset: int) -> ir.Value | None:
    """Return the tensor that a node's only used output is equal to, or None if the node does something.

    Covers Identity, Dropout in inference, Cast and CastLike to the same type, Transpose by the identity or back from
    another Transpose, Reshape, Flatten and Expand to the same shape, Concat of one tensor, and Pad by nothing.

    Args:
        node: Any node.
        constants: Of its model.
        opset: Version of the default domain where it stands.
    """
    if node.op_type not in _OPERATORS or node.domain not in ("", "ai.onnx") or not node.inputs:
        return None
    source = node.inputs[0]
    if source is None or any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    if passes_on(node, constants, opset):
        return source
    if node.op_type == "Transpose":
        return _transposed(node, source)
    rule = _RULES.get(node.op_type)
    return source if rule is not None and rule(node, source, constants, opset) else None


def _transposed(node: ir.Node, source: ir.Value) -> ir.Value | None:
    order = node.attributes.get_ints("perm", ())
    if not order:  # without it the axes are reversed
        return source if source.shape is not None and len(source.shape) <= 1 else None
    if list(order) == sorted(order):
        return source
    before = source.producer()
    if before is None or not is_onnx(before, "Transpose"):
        return None
    first = before.attributes.get_ints("perm", ())
    if len(first) != len(order) or [first[axis] for axis in order] != sorted(order):
        return None
    return before.inputs[0]


def _cast(node: ir.Node, source: ir.Value, constants: Constants, opset: int) -> bool:
    target = node.attributes.get("to")
    known = source.dtype is not None and target is not None and target.type == ir.AttributeType.INT
    return known and target is not None and source.dtype == target.as_int()


def _cast_like(node: ir.Node, source: ir.Value, constants: Constants, opset: int) -> bool:
    like = node.inputs[1]
    return like is not None and source.dtype is not None and source.dtype == like.dtype


def _reshape(node: ir.Node, source: ir.Value, constants: Constants, opset: int) -> bool:
    shape = constants.value(node.inputs[1]) if len(node.inputs) > 1 else None
    if shape is None or source.shape is None or shape.size != len(source.shape):
        return False
    copies = node.attributes.get_int("allowzero", 0) == 0
    fixed = [(copies and wanted == 0) or wanted == dim for wanted, dim in zip(shape, source.shape, strict=True)]
    unknown = [int(wanted) for wanted, same in zip(shape, fixed, strict=True) if not same]
    # One length may be left open: the number of elements decides it, unless a length of 0 hides it.
    return not unknown or (unknown == [-1] and not any(dim == 0 for dim in source.shape))


def _flatten(node: ir.Node, source: ir.Value, constants: Constants, opset: int) -> bool:
    axis = node.attributes.get_int("axis", 1)
    return source.shape is not None and len(source.shape) == 2 and axis in (1, -1)


def _expand(node: ir.Node, source: ir.Value, constants: Constants, opset: int) -> bool:
    shape = constants.value(node.inputs[1])
    if shape is None or source.shape is None or shape.size > len(source.shape):
        return False
    dims = list(source.shape)[len(source.shape) - shape.size :]
    return all(wanted in (1, dim) for wanted, dim in zip(shape.tolist(), dims, strict=True))


def _pad(node: ir.Node, source: ir.Value, constants: Constants, opset: int) -> bool:
    if opset < 11:
        pads = node.attributes.get_ints("pads" if opset >= 2 else "paddings", ())
        return bool(pads) and not any(pads)
    amounts = constants.value(node.inputs[1])
    return amounts is not None and not amounts.any()


def _concat(node: ir.Node, source: ir.Value, constants: Constants, opset: int) -> bool:
    return len(node.inputs) == 1


_RULES = {
    "Cast": _cast,
    "CastLike": _cast_like,
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
}
_OPERATORS = frozenset({"Identity", "Dropout", "Transpose", *_RULES})
