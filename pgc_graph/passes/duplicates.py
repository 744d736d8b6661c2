"""Merge what a graph computes or stores twice.

Two nodes of one graph are duplicates if operator, attributes and inputs are the same and the operator is ONNX's own and
deterministic: Random*, Bernoulli, Multinomial and a Dropout that may be training draw anew each time, a node with a
subgraph can hide any of these, and of another domain's operators nothing is known. Two initializers are duplicates if
type, shape and bytes are the same (so 0.0 and -0.0 differ); what whoever runs the model can replace stays apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import onnx_ir as ir

from pgc_graph.analysis.constants import RANDOM_OPERATORS
from pgc_graph.analysis.names import all_graphs
from pgc_graph.passes.edit import can_take_name, rename_output

__all__ = ["merge_duplicate_nodes", "merge_duplicate_weights"]

_MAX_HASHED_BYTES = 1 << 28
_BEGINNING = 8
T = TypeVar("T")


def merge_duplicate_weights(model: ir.Model) -> int:
    """Merge duplicate initializers of a model that is ours to edit; return how many went away."""
    return sum(map(_merge_initializers, all_graphs(model)))


def merge_duplicate_nodes(model: ir.Model) -> int:
    """Merge duplicate nodes of a model that is ours to edit; return how many went away."""
    return sum(map(_merge_nodes, all_graphs(model)))


def _merge_initializers(graph: ir.Graph) -> int:
    alike: dict[Hashable, _Alike[ir.Value]] = {}
    merged = 0
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        interface = value.is_graph_input() or value.is_graph_output()
        if tensor is None or interface or tensor.nbytes > _MAX_HASHED_BYTES or tensor.dtype == ir.DataType.STRING:
            continue
        beginning = tensor.numpy().reshape(-1)[:_BEGINNING].tobytes()
        group = alike.setdefault((tensor.dtype, tuple(tensor.shape), beginning), _Alike(_digest))
        first = group.first_equal(value)
        if first is not value:
            value.replace_all_uses_with(first)
            del graph.initializers[str(value.name)]
            merged += 1
    return merged


def _merge_nodes(graph: ir.Graph) -> int:
    alike: dict[Hashable, _Alike[ir.Node]] = {}
    merged = 0
    for node in graph:
        if node.domain not in ("", "ai.onnx") or node.op_type in RANDOM_OPERATORS:
            continue
        named = tuple(bool(value.name) for value in node.outputs)
        inputs = tuple(None if value is None else id(value) for value in node.inputs)
        group = alike.setdefault((node.op_type, node.overload, inputs, named), _Alike(_attributes))
        first = group.first_equal(node)
        if first is not node and _replace(node, first):
            merged += 1
    return merged


class _Alike(Generic[T]):
    """Things that look alike at first sight; what takes long to compare is computed only from the second one on."""

    def __init__(self, key: Callable[[T], Hashable | None]) -> None:
        self._key = key
        self._first: T | None = None
        self._known: dict[Hashable, T] = {}

    def first_equal(self, thing: T) -> T:
        """Return the first of those seen that is equal to a thing, or the thing itself."""
        if self._first is None:
            self._first = thing
            return thing
        if not self._known:
            self._known[self._key(self._first)] = self._first
        key = self._key(thing)
        return thing if key is None else self._known.setdefault(key, thing)


def _digest(value: ir.Value) -> Hashable | None:
    return None if value.const_value is None else hashlib.sha256(value.const_value.tobytes()).digest()


def _attributes(node: ir.Node) -> Hashable | None:
    """Return what a node's attributes say, or None where they cannot be compared."""
    attributes = []
    for name in sorted(node.attributes):
        attribute = node.attributes[name]
        if attribute.is_ref() or attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().nbytes > _MAX_HASHED_BYTES:
            return None
        proto = ir.to_proto(attribute)
        proto.t.name = proto.doc_string = ""
        attributes.append(proto.SerializeToString(deterministic=True))
    return tuple(attributes)


def _replace(node: ir.Node, first: ir.Node) -> bool:
    pairs = list(zip(node.outputs, first.outputs, strict=True))
    if any(old.is_graph_output() and not can_take_name(new, old) for old, new in pairs):
        return False
    for old, new in pairs:
        if old.is_graph_output():
            rename_output(old, new, f"{old.name}_merged")
        else:
            old.replace_all_uses_with(new)
    graph = node.graph
    assert graph is not None
    graph.remove(node, safe=True)
    return True
