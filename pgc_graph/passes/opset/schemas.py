"""May a node simply be read as the neighbouring version of its operator? Answered by the schemas that onnx carries.

Yes, if the versions differ only in

1. the types that they allow, and the node's types are allowed by the version that it goes to;
2. optional inputs or outputs that the node does not have;
3. attributes that the node does not set, or sets to the value that they are understood to have where they do not exist.

The operators whose meaning changed though their signature says little or nothing of it have an adapter in `table.py`.
"""

from __future__ import annotations

import functools

import onnx
import onnx_ir as ir

__all__ = ["changes_at", "relabel_obstacle", "schema_of", "type_obstacle", "unneeded_attributes"]

Schema = onnx.defs.OpSchema
_Option = onnx.defs.OpSchema.FormalParameterOption


@functools.cache
def schema_of(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    """Return the schema that an opset of the default domain has for an operator; None if it has none (any more)."""
    schema = _schema(op_type, opset)
    return None if schema is None or schema.deprecated else schema


@functools.cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


@functools.cache
def changes_at(op_type: str, low: int) -> bool:
    """Say whether an operator has different versions at an opset and at the next, or is not known to one or both."""
    older, newer = _schema(op_type, low), _schema(op_type, low + 1)
    return older is None or newer is None or bool(older.since_version != newer.since_version)


def unneeded_attributes(node: ir.Node, target: int) -> list[str]:
    """List the attributes that the target's version of an operator does not know (a relabelled node's are defaults)."""
    schema = schema_of(node.op_type, target)
    return [] if schema is None else [name for name in node.attributes if name not in schema.attributes]


def relabel_obstacle(node: ir.Node, source: int, target: int) -> str:
    """Say why a node cannot simply be read at the neighbouring opset, or return an empty string."""
    old, new = schema_of(node.op_type, source), schema_of(node.op_type, target)
    if old is None or new is None:
        return f"{node.op_type} does not exist at opset {source if old is None else target}"
    older, newer = sorted((old, new), key=lambda schema: int(schema.since_version))
    return _signature_change(node, older, newer) or type_obstacle(node, target)


def _signature_change(node: ir.Node, older: Schema, newer: Schema) -> str:
    common = zip(older.inputs, newer.inputs, strict=False)
    fits = max(older.min_input, newer.min_input) <= len(node.inputs) <= min(older.max_input, newer.max_input)
    if not fits or any(a.option != b.option and b.option != _Option.Optional for a, b in common):
        return f"inputs changed at opset {newer.since_version}"
    count = max((index for index, value in enumerate(node.outputs, start=1) if value.name), default=0)
    if count > min(older.max_output, newer.max_output):
        return f"outputs changed at opset {newer.since_version}"
    for name in sorted(set(older.attributes) | set(newer.attributes)):
        obstacle = _attribute_change(node, name, older.attributes.get(name), newer.attributes.get(name))
        if obstacle:
            return f"{obstacle} at opset {newer.since_version}"
    return ""


def _attribute_change(node: ir.Node, name: str, older: Schema.Attribute | None, newer: Schema.Attribute | None) -> str:
    if name == "consumed_inputs":
        return ""  # before opset 6, a list of inputs whose memory may be overwritten
    if older is not None and newer is not None:
        if (older.required or newer.required) and name not in node.attributes:
            return f"attribute {name} has no default on one side"
        if older.type != newer.type and name in node.attributes:
            return f"the type of {name} changed"
        same_default = older.default_value.SerializeToString() == newer.default_value.SerializeToString()
        return "" if same_default or name in node.attributes else f"the default of {name} changed"
    known = older or newer
    if known is not None and known.required:
        return f"attribute {name} is required on one side"
    if name not in node.attributes or known is None:
        return ""
    held = ir.to_proto(node.attributes[name])
    held.ClearField("doc_string")
    neutral = held.SerializeToString() == known.default_value.SerializeToString()
    # A list's length depends on the rank, so the schema cannot hold this default.
    neutral = neutral or (name == "dilations" and len(held.ints) > 0 and all(step == 1 for step in held.ints))
    return "" if neutral else f"attribute {name} exists on one side only"


def type_obstacle(node: ir.Node, target: int) -> str:
    """Say which tensor of a node has a type that an opset's version does not allow, or return an empty string.

    Tensors of unknown type, as in model-local functions, are taken for allowed.
    """
    schema = schema_of(node.op_type, target)
    if schema is None:
        return f"{node.op_type} does not exist at opset {target}"
    bound: dict[str, str] = {}
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, value in enumerate(values):
            formal = formals[min(index, len(formals) - 1)] if formals else None
            held = _type_text(value)
            if formal is None or not held:
                continue
            if held not in formal.types:
                return f"{node.op_type}-{schema.since_version} does not take {held} ({'' if value is None else value.name})"
            if formal.is_homogeneous and bound.setdefault(formal.type_str, held) != held:
                return f"{node.op_type}-{schema.since_version} does not mix {bound[formal.type_str]} and {held}"
    return ""


def _type_text(value: ir.Value | None) -> str:
    """Write a tensor's type as the schemas do, `tensor(float)`; empty where it is unknown or no plain tensor."""
    if value is None or value.dtype is None or type(value.type) is not ir.TensorType:
        return ""
    return f"tensor({value.dtype.name.lower()})"
