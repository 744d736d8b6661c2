"""How two nodes, attributes or tensors differ, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["NodeDifference", "array_distance", "attribute_bytes", "describe_value", "node_differences"]

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_TENSORS = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)
_SHOWN = 60


@dataclass(frozen=True)
class NodeDifference:
    """One fact about a node that differs, and whether it is about names alone."""

    text: str
    only_names: bool = False


def node_differences(before: ir.Node, after: ir.Node) -> list[NodeDifference]:
    """List how two nodes differ; bodies are scopes of their own and not looked into.

    Args:
        before: A node of the first model.
        after: A node of the second.
    """
    found = [NodeDifference(f"operator {_operator(before)} -> {_operator(after)}")] if _differ(before, after) else []
    if before.name != after.name:
        found.append(NodeDifference(f"name {before.name!r} -> {after.name!r}", only_names=True))
    found += _attribute_differences(before, after)
    for word, first, second in (("input", before.inputs, after.inputs), ("output", before.outputs, after.outputs)):
        for place, (left, right) in enumerate(zip_longest(map(_name, first), map(_name, second), fillvalue="")):
            if left != right:
                only_names = bool(left) == bool(right)
                found.append(NodeDifference(f"{word} {place}: {left or 'none'} -> {right or 'none'}", only_names))
    if (before.doc_string or "") != (after.doc_string or ""):
        found.append(NodeDifference("doc string", only_names=True))
    if dict(before.metadata_props) != dict(after.metadata_props):
        found.append(NodeDifference("metadata of the node", only_names=True))
    return found


def describe_value(value: ir.Value, *, unknown: str) -> str:
    """Say what a model states of a tensor: type, shape, denotations, doc string, metadata.

    Args:
        value: The tensor.
        unknown: What to say where neither type nor shape is stated.
    """
    parts = [] if value.type is None else [_type_text(value.type)]
    if value.shape is not None:
        dims = ["?" if not isinstance(dim, int) and dim.value is None else str(dim) for dim in value.shape]
        marks = [value.shape.get_denotation(axis) for axis in range(len(dims))]
        parts.append(
            "x".join(f"{dim}({mark})" if mark else dim for dim, mark in zip(dims, marks, strict=True)) or "scalar"
        )
    parts = parts or [unknown]
    parts += [repr(value.doc_string)] if value.doc_string else []
    parts += [f"{key}={text}" for key, text in sorted(value.metadata_props.items())]
    parts += [f"quantised by {text}" for text in sorted(value.meta.get("quant_parameter_tensor_names", {}).values())]
    return " ".join(parts)


def array_distance(before: NDArray[Any], after: NDArray[Any]) -> tuple[float | None, int]:
    """Return the largest |Δ| of two arrays of one shape (None where they hold no numbers) and how many elements differ."""
    if before.dtype.kind in "OSU":
        return None, int(np.count_nonzero(before != after))
    first, second = before.astype(np.float64), after.astype(np.float64)
    different = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(first[different] - second[different])
    # A number against NaN or infinity is as far as can be.
    largest = float(np.max(np.where(np.isnan(gaps), np.inf, gaps), initial=0.0))
    return largest, int(np.count_nonzero(different))


def attribute_bytes(attribute: ir.Attr) -> bytes:
    """Return what identifies an attribute's value; of bodies, only how many."""
    if attribute.is_ref():
        return f"ref {attribute.ref_attr_name}".encode()
    kind = attribute.type
    if kind in _GRAPHS:
        return f"{kind} {1 if kind == ir.AttributeType.GRAPH else len(attribute.as_graphs())}".encode()
    if kind in _TENSORS:
        return b"|".join(f"{t.dtype} {t.shape} ".encode() + _content(t) for t in _tensors(attribute))
    return f"{kind} {attribute.value!r}".encode()


def _attribute_differences(before: ir.Node, after: ir.Node) -> Iterator[NodeDifference]:
    for name in dict.fromkeys((*before.attributes, *after.attributes)):
        first, second = before.attributes.get(name), after.attributes.get(name)
        if first is None or second is None:
            state = f"not set -> {_shown(second)}" if second is not None else f"{_shown(first)} -> not set"
            yield NodeDifference(f"attribute {name}: {state}")
        elif attribute_bytes(first) != attribute_bytes(second):
            yield NodeDifference(f"attribute {name}: {_tensor_distance(first, second) or _change(first, second)}")


def _change(first: ir.Attr, second: ir.Attr) -> str:
    return f"{_shown(first)} -> {_shown(second)}"


def _tensor_distance(first: ir.Attr, second: ir.Attr) -> str:
    if {first.type, second.type} != {ir.AttributeType.TENSOR} or first.is_ref() or second.is_ref():
        return ""
    left, right = first.as_tensor(), second.as_tensor()
    if left.dtype != right.dtype or left.shape != right.shape or left.size <= 8:
        return ""
    largest, count = array_distance(left.numpy(), right.numpy())
    return f"{count} of {left.size} elements differ" + ("" if largest is None else f", max |Δ| = {largest:.3g}")


def _shown(attribute: ir.Attr | None) -> str:
    if attribute is None:
        return "not set"
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    if attribute.type in _GRAPHS:
        return "a body"
    if attribute.type in _TENSORS:
        shown = [f"{t.dtype} {t.shape} {t.numpy().tolist() if t.size <= 8 else '...'}" for t in _tensors(attribute)]
        return ", ".join(shown)
    value = attribute.value
    text = str(list(value)) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _tensors(attribute: ir.Attr) -> Sequence[ir.TensorProtocol]:
    return [attribute.as_tensor()] if attribute.type == ir.AttributeType.TENSOR else attribute.as_tensors()


def _content(tensor: ir.TensorProtocol) -> bytes:
    return repr(tensor.numpy().tolist()).encode() if tensor.dtype == ir.DataType.STRING else tensor.tobytes()


def _type_text(kind: ir.TypeProtocol) -> str:
    text = kind.dtype.name.lower() if isinstance(kind, ir.TensorType) else str(kind)
    return f"{text} {kind.denotation}" if kind.denotation else text


def _differ(before: ir.Node, after: ir.Node) -> bool:
    return (before.domain, before.op_type, before.overload) != (after.domain, after.op_type, after.overload)


def _operator(node: ir.Node) -> str:
    return ".".join(part for part in (node.domain, node.op_type, node.overload) if part)


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name or "")
