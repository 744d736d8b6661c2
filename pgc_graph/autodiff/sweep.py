"""The way back through a graph: which nodes are differentiated, and the sums of what they contribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import onnx_ir as ir

from pgc_graph.analysis.reach import downstream_values, node_reads, upstream_nodes
from pgc_graph.autodiff.context import Context, Rule, Writer, node_label
from pgc_graph.autodiff.emitter import Emitter
from pgc_graph.errors import UnsupportedError

__all__ = ["FLOATS", "backward"]

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
"""Element types that can have a gradient."""

_SHOWN = 3


def backward(
    emitter: Emitter,
    rules: Mapping[tuple[str, str], Rule],
    seeds: Mapping[ir.Value, ir.Value],
    names: Mapping[ir.Value, str],
) -> dict[ir.Value, ir.Value | None]:
    """Write the nodes that compute gradients.

    Args:
        emitter: Writes them.
        rules: The rule of each operator.
        seeds: The gradient of each tensor that is differentiated.
        names: What the gradient of each tensor asked for is called.

    Returns:
        The gradient of each tensor asked for, None where no differentiable path leads to it.

    Raises:
        UnsupportedError: A node whose gradient is needed has no rule, or the rule refuses it.
    """
    nodes = upstream_nodes(emitter.model.graph, seeds)
    reached = downstream_values(nodes, names)
    sums = _Sums(emitter, seeds, names)
    missing: list[ir.Node] = []
    beyond: set[ir.Value] = set()  # tensors behind a node without a rule: looked at so that all such nodes are named
    for node in reversed(nodes):
        if not any(value in sums or value in beyond for value in node.outputs):
            continue
        wanted = tuple(value is not None and value in reached and value.dtype in FLOATS for value in node.inputs)
        captured = any(value in reached for value in node_reads(node) if value not in node.inputs)
        if not any(wanted) and not captured:
            continue
        rule = rules.get((_domain(node), node.op_type))
        if rule is None or captured or missing:
            missing += [node] if rule is None or captured else []
            beyond.update(
                value for value, asked in zip(node.inputs, wanted, strict=True) if asked and value is not None
            )
            continue
        gradients = tuple(sums.total(value) for value in node.outputs)
        context = Context(emitter, node_label(node), node, gradients, wanted, partial(_rule_behind, rules, names))
        for value, gradient in zip(node.inputs, rule(context), strict=False):
            if value is not None and gradient is not None and value in reached:
                _check(context, value, gradient)
                sums.add(value, gradient)
    if missing:
        raise UnsupportedError(_missing_message(missing))
    return {value: sums.total(value) for value in names}


def _rule_behind(rules: Mapping[tuple[str, str], Rule], names: Mapping[ir.Value, str], value: ir.Value) -> Rule | None:
    node = value.producer()
    return None if node is None or value in names else rules.get((_domain(node), node.op_type))


class _Sums:
    """Contributions to the gradient of each tensor, summed when the tensor's turn comes."""

    def __init__(self, emitter: Emitter, seeds: Mapping[ir.Value, ir.Value], names: Mapping[ir.Value, str]) -> None:
        self._emitter, self._names = emitter, names
        self._parts: dict[ir.Value, list[ir.Value]] = {value: [seed] for value, seed in seeds.items()}
        self._totals: dict[ir.Value, ir.Value] = {}
        self._named: set[ir.Value] = set(seeds.values())

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._parts

    def add(self, value: ir.Value, gradient: ir.Value) -> None:
        self._parts.setdefault(value, []).append(gradient)

    def total(self, value: ir.Value) -> ir.Value | None:
        if value in self._parts and value not in self._totals:
            self._totals[value] = self._sum(value, self._parts[value])
        return self._totals.get(value)

    def _sum(self, value: ir.Value, parts: Sequence[ir.Value]) -> ir.Value:
        writer = Writer(self._emitter, str(value.name))
        total = parts[0] if len(parts) == 1 else _added(writer, parts)
        if total.producer() is not None and total not in self._named and not total.is_graph_output():
            total.name = self._names[value] if value in self._names else self._emitter.claim(f"{value.name}_grad")
            self._named.add(total)
            total.shape = value.shape if value.shape is not None else total.shape
        return total


def _added(writer: Writer, parts: Sequence[ir.Value]) -> ir.Value:
    """Add contributions; those that were expanded to their shape need not be, next to one that was not."""
    whole = [part for part in parts if _unexpanded(part) is part]
    if not whole:
        whole, parts = [parts[0]], parts[1:]
    total = whole[0] if len(whole) == 1 else writer.emit("Add" if len(whole) == 2 else "Sum", *whole)
    for part in parts:
        if part not in whole:
            total = writer.emit("Add", total, _unexpanded(part))
    return total


def _unexpanded(value: ir.Value) -> ir.Value:
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Expand" and not node.domain else None
    return value if source is None else source


def _check(context: Context, value: ir.Value, gradient: ir.Value) -> None:
    """Refuse what a rule returned if it cannot be the gradient of the tensor: a defect of the rule."""
    fits = value.dtype == gradient.dtype or None in (value.dtype, gradient.dtype)
    if value.shape is not None and gradient.shape is not None:
        pairs = list(zip(value.shape, gradient.shape, strict=False))
        fits &= len(value.shape) == len(gradient.shape)
        fits &= all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in pairs)
    if not fits:
        context.refuse(
            f"its rule returned a gradient of {gradient.dtype} {gradient.shape} for tensor {value.name!r} of "
            f"{value.dtype} {value.shape}; expected the same type and shape, so mend the rule"
        )


def _domain(node: ir.Node) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def _missing_message(nodes: Sequence[ir.Node]) -> str:
    shown = [f"{node_label(node)!r} ({node.op_type}, tensor {node.outputs[0].name!r})" for node in nodes[:_SHOWN]]
    more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
    return (
        f"no gradient rule for node {', '.join(shown)}{more}; pass one in `rules`, rewrite the node, or differentiate "
        "by tensors behind it"
    )
