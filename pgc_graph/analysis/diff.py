"""What differs between two models, part by part; equal models give an empty answer.

Nodes are paired as by `matching`; a pair that differs in names alone is *renamed*, any other *changed*. Weights are paired
by name, then by their place at paired nodes. Tensors are compared by name: what the files state of their types and shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.diff_weights import WeightChange, weight_changes
from pgc_graph.analysis.matching import NodePair, Scope, match_nodes, model_scopes
from pgc_graph.analysis.node_facts import describe_value, node_differences

__all__ = ["NOT_STATED", "Difference", "ModelDiff", "NodeChange", "diff_models"]

NOT_STATED = "not stated"
"""What stands for a type and shape that a file does not state."""


@dataclass(frozen=True)
class Difference:
    """One fact that differs.

    Attributes:
        name: What it is about: a metadata key, a domain, a tensor.
        before: In the first model; None if it is not there.
        after: In the second model; None if it is not there.
    """

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class NodeChange:
    """A node that one model has alone, or that both have with differences.

    Attributes:
        kind: `added`, `removed`, `changed` (it computes something else or from something else) or `renamed`.
        scope: Where it is: empty for the main graph, else the way through nodes with bodies, or a function.
        before: Its name in the first model; the name of its first output where it has none.
        after: The same in the second model.
        operator: Its operator, in the second model where both have it.
        details: What differs, one sentence a fact.
    """

    kind: str
    scope: str
    before: str | None
    after: str | None
    operator: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelDiff:
    """What differs between two models.

    Attributes:
        header: IR version, producer, names, doc strings.
        opsets: Imported versions by domain.
        metadata: Entries of `metadata_props`.
        inputs: Graph inputs; those that changed places have the order as their name.
        outputs: Graph outputs.
        nodes: Nodes of every scope.
        weights: Initializers of every scope.
        tensors: Types and shapes that the files state for other tensors.
        functions: Model-local functions that one model has alone, or whose interface differs.
    """

    header: tuple[Difference, ...]
    opsets: tuple[Difference, ...]
    metadata: tuple[Difference, ...]
    inputs: tuple[Difference, ...]
    outputs: tuple[Difference, ...]
    nodes: tuple[NodeChange, ...]
    weights: tuple[WeightChange, ...]
    tensors: tuple[Difference, ...]
    functions: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not any(getattr(self, name) for name in self.__dataclass_fields__)


def diff_models(before: ir.Model, after: ir.Model) -> ModelDiff:
    """Compare two models part by part.

    Args:
        before: The first model.
        after: The second model.
    """
    first, second = model_scopes(before), model_scopes(after)
    pairs = match_nodes(first, second)
    return ModelDiff(
        header=(*_compare(_header(before), _header(after)), *_order(pairs)),
        opsets=_compare(_opsets(before), _opsets(after)),
        metadata=_compare(before.metadata_props, after.metadata_props),
        inputs=_interface(before.graph.inputs, after.graph.inputs),
        outputs=_interface(before.graph.outputs, after.graph.outputs),
        nodes=tuple(_node_changes(pairs)),
        weights=weight_changes(first, second, pairs),
        tensors=_compare(_stated(first), _stated(second), both=False),
        functions=_compare(_functions(before), _functions(after)),
    )


def _compare(before: Mapping[str, str], after: Mapping[str, str], *, both: bool = True) -> tuple[Difference, ...]:
    """List what differs; with `both` False, only of names that both have (what the others are is said elsewhere)."""
    names = dict.fromkeys((*before, *after)) if both else dict.fromkeys(name for name in before if name in after)
    return tuple(
        Difference(name, before.get(name), after.get(name))
        for name in names
        if (name in before) != (name in after) or before[name] != after[name]
    )


def _header(model: ir.Model) -> dict[str, str]:
    facts = {
        "IR version": model.ir_version,
        "producer": " ".join(part for part in (model.producer_name, model.producer_version) if part),
        "domain": model.domain,
        "model version": model.model_version,
        "doc string": model.doc_string,
        "graph name": model.graph.name,
        "graph doc string": model.graph.doc_string,
    }
    facts |= {f"graph metadata {key}": value for key, value in model.graph.metadata_props.items()}
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _opsets(model: ir.Model) -> dict[str, str]:
    return {domain or "ai.onnx": str(version) for domain, version in model.opset_imports.items()}


def _functions(model: ir.Model) -> dict[str, str]:
    described = {}
    for (domain, name, overload), function in model.functions.items():
        imports = ", ".join(f"{key or 'ai.onnx'} {value}" for key, value in function.opset_imports.items())
        inputs, outputs = (
            ", ".join(str(value.name) for value in values) for values in (function.inputs, function.outputs)
        )
        text = f"({inputs}; {', '.join(function.attributes)}) -> ({outputs}), {imports}"
        text += f", {function.doc_string!r}" if function.doc_string else ""
        described[".".join(part for part in (domain, name, overload) if part)] = text
    return described


def _interface(before: Sequence[ir.Value], after: Sequence[ir.Value]) -> tuple[Difference, ...]:
    first, second = ({str(v.name): describe_value(v, unknown="unknown") for v in values} for values in (before, after))
    found = _compare(first, second)
    if not found and list(first) != list(second):
        return (Difference("order", ", ".join(first), ", ".join(second)),)
    return found


def _stated(scopes: list[Scope]) -> dict[str, str]:
    """Describe the tensors that nodes compute, but for graph outputs, by scope and name."""
    return {
        f"{scope.label}{': ' if scope.label else ''}{value.name}": describe_value(value, unknown=NOT_STATED)
        for scope in scopes
        for node in scope.graph
        for value in node.outputs
        if value.name and not (value.is_graph_output() and not scope.label)
    }


def _order(pairs: list[NodePair]) -> tuple[Difference, ...]:
    places = [(pair.before_place, pair.after_place) for pair in pairs if pair.before and pair.after]
    moved = [after for _, after in sorted(places)]
    return () if moved == sorted(moved) else (Difference("order of nodes", "as in the first", "another"),)


def _node_changes(pairs: list[NodePair]) -> Iterator[NodeChange]:
    for pair in pairs:
        left, right = (None if node is None else _name(node) for node in (pair.before, pair.after))
        shown = pair.after or pair.before
        if shown is None:
            continue
        operator = shown.op_type if shown.domain in ("", "ai.onnx") else f"{shown.domain}.{shown.op_type}"
        if pair.before is None or pair.after is None:
            kind = "added" if pair.before is None else "removed"
            yield NodeChange(kind, pair.scope, left, right, operator)
            continue
        differences = node_differences(pair.before, pair.after)
        if differences:
            same = pair.same_structure and all(item.only_names for item in differences)
            details = tuple(item.text for item in differences)
            yield NodeChange("renamed" if same else "changed", pair.scope, left, right, operator, details)


def _name(node: ir.Node) -> str:
    return node.name or next((str(value.name) for value in node.outputs if value.name), node.op_type)
