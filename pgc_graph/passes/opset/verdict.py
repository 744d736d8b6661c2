"""What has to happen to each node when the opset changes, read from the operator schemas that onnx carries.

Between two opsets an operator is

1. `same`       if both know it by the same version;
2. `relabel`    if its newer version only widens types, or adds optional attributes that the node does not use (every
                version in between is looked at; the operators in `_MEANING_CHANGES` changed without their signature);
3. `adapter`    if `adapters.py` can rewrite it;
4. `unknown`    otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from pgc_graph.analysis.names import all_nodes
from pgc_graph.passes.opset.adapters import adapter_for

__all__ = ["Verdict", "plan_conversion", "unneeded_attributes"]

# (operator, version from which on it means something else though its signature says little or nothing of it)
_MEANING_CHANGES = frozenset(
    {
        ("Softmax", 13),  # flattens to 2-D before, works along one axis since
        ("LogSoftmax", 13),
        ("Hardmax", 13),
        ("Resize", 11),  # coordinate transformation
        ("Resize", 13),
        ("Upsample", 9),
        ("GroupNormalization", 21),  # scale and bias per group before, per channel since
        ("BatchNormalization", 7),  # is_test before
        ("BatchNormalization", 9),  # spatial before
        ("AveragePool", 7),  # count_include_pad
    }
)


@dataclass(frozen=True)
class Verdict:
    """What happens to one node.

    Attributes:
        node: The node's name.
        op_type: Its operator.
        action: `same`, `relabel`, `adapter` or `unknown`.
        detail: From which version of the operator to which, or what stands in the way.
    """

    node: str
    op_type: str
    action: str
    detail: str


def plan_conversion(model: ir.Model, target: int) -> tuple[Verdict, ...]:
    """Say for every node of the default domain what converting to `target` takes."""
    source = model.opset_imports.get("", 1)
    nodes = (node for node in all_nodes(model) if node.domain in ("", "ai.onnx"))
    return tuple(_judge(node, source, target) for node in nodes)


def unneeded_attributes(node: ir.Node, target: int) -> list[str]:
    """List the attributes that the target's version of an operator does not know (a relabelled node's are defaults)."""
    new = onnx.defs.get_schema(node.op_type, target, "")
    return [name for name in node.attributes if name not in new.attributes]


def _judge(node: ir.Node, source: int, target: int) -> Verdict:
    name = node.name or str(node.outputs[0].name)
    try:
        old = onnx.defs.get_schema(node.op_type, source, "")
        new = onnx.defs.get_schema(node.op_type, target, "")
    except onnx.defs.SchemaError:
        return Verdict(name, node.op_type, "unknown", f"{node.op_type} does not exist at opset {source} or {target}")
    detail = f"{node.op_type}-{old.since_version} -> {node.op_type}-{new.since_version}"
    if old.since_version == new.since_version:
        return Verdict(name, node.op_type, "same", detail)
    if adapter_for(node, source, target) is not None:
        return Verdict(name, node.op_type, "adapter", detail)
    obstacle = _obstacle(node, old, new)
    if new.deprecated:
        obstacle = f"{node.op_type} is deprecated at opset {target}"
    if obstacle:
        return Verdict(name, node.op_type, "unknown", f"{detail}: {obstacle}")
    return Verdict(name, node.op_type, "relabel", detail)


def _obstacle(node: ir.Node, old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> str:
    """Say why a node cannot simply be read as the other version of its operator, or return an empty string."""
    low, high = sorted((old.since_version, new.since_version))
    changed = [v for op, v in _MEANING_CHANGES if op == node.op_type and low < v <= high]
    if changed:
        return f"its meaning changed at opset {changed[0]}"
    for older, newer in itertools.pairwise(_versions(node.op_type, low, high)):
        obstacle = _signature_change(node, older, newer)
        if obstacle:
            return obstacle
    return ""


def _versions(op_type: str, low: int, high: int) -> Iterator[onnx.defs.OpSchema]:
    version = high
    found = []
    while version >= low:
        schema = onnx.defs.get_schema(op_type, version, "")
        found.append(schema)
        version = schema.since_version - 1
    yield from reversed(found)


def _signature_change(node: ir.Node, older: onnx.defs.OpSchema, newer: onnx.defs.OpSchema) -> str:
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    common = zip(older.inputs, newer.inputs, strict=False)
    fits = max(older.min_input, newer.min_input) <= len(node.inputs) <= min(older.max_input, newer.max_input)
    if not fits or any(a.option != b.option and b.option != optional for a, b in common):
        return f"inputs changed at opset {newer.since_version}"
    if sum(bool(v.name) for v in node.outputs) > min(older.max_output, newer.max_output):
        return f"outputs changed at opset {newer.since_version}"
    for name in sorted(set(older.attributes) | set(newer.attributes)):
        obstacle = _attribute_change(node, name, older.attributes.get(name), newer.attributes.get(name))
        if obstacle:
            return f"{obstacle} at opset {newer.since_version}"
    return ""


def _attribute_change(
    node: ir.Node, name: str, older: onnx.defs.OpSchema.Attribute | None, newer: onnx.defs.OpSchema.Attribute | None
) -> str:
    if older is not None and newer is not None:
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
    neutral = neutral or (name == "dilations" and all(step == 1 for step in held.ints))
    return "" if neutral else f"attribute {name} exists on one side only"
