"""Which initializers differ between two models, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.matching import NodePair, Scope
from pgc_graph.analysis.node_facts import array_distance

__all__ = ["WeightChange", "weight_changes"]


@dataclass(frozen=True)
class WeightChange:
    """An initializer that one model has alone, or that both have with differences.

    Attributes:
        kind: `added`, `removed`, `changed`, or `renamed` where the values are the same.
        scope: Where it is: empty for the main graph.
        before: Its name in the first model.
        after: Its name in the second model.
        before_type: Element type and shape in the first model.
        after_type: The same in the second model.
        max_difference: The largest |Δ|, None where shapes differ or there are no numbers.
        changed_elements: How many elements differ, None where shapes differ.
        elements: How many there are, in the second model where it has the weight.
    """

    kind: str
    scope: str
    before: str | None
    after: str | None
    before_type: str | None
    after_type: str | None
    max_difference: float | None
    changed_elements: int | None
    elements: int


def weight_changes(before: list[Scope], after: list[Scope], pairs: list[NodePair]) -> tuple[WeightChange, ...]:
    """Compare the initializers of two models, paired by name, then by their place at paired nodes.

    Args:
        before: The scopes of the first model.
        after: Those of the second.
        pairs: Their nodes in pairs.
    """
    first, second = _weights(before), _weights(after)
    partner = {key: key for key in first if key in second}
    taken = set(partner.values())
    keys = {value: key for table in (first, second) for key, value in table.items()}
    for left, right in _operands(pairs):
        key, other = keys.get(left), keys.get(right)
        if key is not None and other is not None and key not in partner and other not in taken:
            partner[key] = other
            taken.add(other)
    found = [_change(key, value, partner.get(key), second) for key, value in first.items()]
    found += [_alone("added", key, value) for key, value in second.items() if key not in taken]
    return tuple(change for change in found if change is not None)


Key = tuple[str, str]


def _weights(scopes: list[Scope]) -> dict[Key, ir.Value]:
    return {
        (scope.label, str(name)): value
        for scope in scopes
        for name, value in scope.graph.initializers.items()
        if value.const_value is not None
    }


def _operands(pairs: list[NodePair]) -> Iterator[tuple[ir.Value, ir.Value]]:
    for pair in pairs:
        if pair.before is not None and pair.after is not None and pair.before.op_type == pair.after.op_type:
            for left, right in zip(pair.before.inputs, pair.after.inputs, strict=False):
                if left is not None and right is not None:
                    yield left, right


def _alone(kind: str, key: Key, value: ir.Value) -> WeightChange:
    text, size = _type(value), _tensor(value).size
    if kind == "added":
        return WeightChange(kind, key[0], None, key[1], None, text, None, None, size)
    return WeightChange(kind, key[0], key[1], None, text, None, None, None, size)


def _change(key: Key, value: ir.Value, other: Key | None, second: dict[Key, ir.Value]) -> WeightChange | None:
    if other is None:
        return _alone("removed", key, value)
    left, right = _tensor(value), _tensor(second[other])
    largest, count = None, None
    equal = left.dtype == right.dtype and left.shape == right.shape
    if left.shape == right.shape:
        largest, count = array_distance(left.numpy(), right.numpy())
        equal = equal and not count
    if equal and key == other:
        return None
    types = (_type(value), _type(second[other]))
    return WeightChange("renamed" if equal else "changed", key[0], key[1], other[1], *types, largest, count, right.size)


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    if value.const_value is None:
        raise AssertionError(f"{value.name} is no weight")
    return value.const_value


def _type(value: ir.Value) -> str:
    tensor = _tensor(value)
    return f"{tensor.dtype.name.lower()} {'x'.join(str(dim) for dim in tensor.shape) or 'scalar'}"
