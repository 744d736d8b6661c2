"""Rename tensors and nodes by a regular expression, in every scope at once.

1. A tensor is renamed where it is made: uses, captures in subgraphs, graph inputs and outputs follow, and so do
   quantisation annotations that name it.
2. The main graph and the subgraphs in it share one space of names (ONNX IR specification, "Names Within a Graph"); each
   model-local function has a space of its own.
3. Two names of one space must not become one. Tensors that bore the same name before (branches of an If may) go on to do
   so.
4. Weights are shared between copies of a model, and a weight bears its tensor's name: a renamed weight is copied.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator

import onnx
import onnx_ir as ir

from pgc_graph.errors import OptionError, SelectionError
from pgc_graph.passes.rewrite import Change, Rewrite

__all__ = ["rename"]

_ANNOTATION = "quant_parameter_tensor_names"  # where onnx-ir keeps a tensor's quantisation annotation


def rename(model: ir.Model, pattern: str, replacement: str, *, tensors: bool = True, nodes: bool = True) -> Rewrite:
    r"""Replace what a regular expression finds in the names of tensors and nodes, in every scope.

    Args:
        model: Stays untouched.
        pattern: Python's `re` syntax; every find within a name is replaced, so anchor it (`^...$`) to match whole names.
        replacement: What to put there; `\1` and `\g<name>` refer to groups.
        tensors: Whether tensors are renamed: inputs, outputs, initializers and all between.
        nodes: Whether nodes are renamed.

    Returns:
        The renamed model, the same function, and one change a name.

    Raises:
        OptionError: The expression or the replacement is not valid, or two names would become one, or one would be empty.
        SelectionError: No name changes.
    """
    try:
        compiled = re.compile(pattern)
        compiled.sub(replacement, "")
    except (re.error, IndexError) as error:
        raise OptionError(
            f"cannot replace {pattern!r} by {replacement!r}: {error}; expected Python's re syntax"
        ) from error
    renamed = model.clone()
    changes: list[Change] = []
    for graphs in _name_spaces(renamed):
        if tensors:
            values = list(dict.fromkeys(value for graph in graphs for value in _values(graph)))
            changes += _rename_values(graphs, values, _new_names("tensor", _names(values), compiled, replacement))
        if nodes:
            inside = [node for graph in graphs for node in graph]
            mapping = _new_names("node", _names(inside), compiled, replacement)
            for node in inside:
                node.name = mapping.get(str(node.name), node.name)
            changes += [Change(old, f"node renamed to {new}") for old, new in mapping.items()]
    if not changes:
        what = " and ".join(word for word, wanted in (("tensor", tensors), ("node", nodes)) if wanted) or "no"
        raise SelectionError(f"{pattern!r} changes no {what} name; see the names with inspect or ablate --list-targets")
    return Rewrite(renamed, tuple(changes))


def _name_spaces(model: ir.Model) -> Iterator[list[ir.Graph]]:
    yield [model.graph, *model.graph.subgraphs()]
    for function in model.functions.values():
        yield [function.graph, *function.graph.subgraphs()]


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from (value for value in node.outputs if value.name)


def _names(items: Iterable[ir.Value | ir.Node]) -> list[str]:
    return list(dict.fromkeys(item.name for item in items if item.name))


def _new_names(kind: str, names: list[str], pattern: re.Pattern[str], replacement: str) -> dict[str, str]:
    """Map old names to new ones, without those that stay; refuse what would be ambiguous."""
    owners: dict[str, str] = {}
    mapping: dict[str, str] = {}
    for name in names:
        new = pattern.sub(replacement, name)
        if not new:
            raise OptionError(f"{kind} {name!r} would be left without a name; expected a replacement that leaves one")
        if new in owners:
            raise OptionError(
                f"{kind}s {owners[new]!r} and {name!r} would both be named {new!r}; "
                "choose a replacement that keeps them apart"
            )
        owners[new] = name
        if new != name:
            mapping[name] = new
    return mapping


def _rename_values(graphs: list[ir.Graph], values: list[ir.Value], mapping: dict[str, str]) -> list[Change]:
    if not mapping:
        return []
    # An initializer cannot take a name that another one is about to give up, so all leave their tables meanwhile; this
    # keeps their order as well.
    tables = [(graph, list(graph.initializers.values())) for graph in graphs]
    for graph, _ in tables:
        graph.initializers.clear()
    for value in values:
        _follow_annotation(value, mapping)
        new = mapping.get(str(value.name))
        if new is not None:
            if value.const_value is not None:
                value.const_value = _own_copy(value.const_value)
            value.name = new
    for graph, initializers in tables:
        for value in initializers:
            graph.initializers[str(value.name)] = value
    return [Change(old, f"tensor renamed to {new}") for old, new in mapping.items()]


def _follow_annotation(value: ir.Value, mapping: dict[str, str]) -> None:
    annotation = value.meta.get(_ANNOTATION)
    if annotation:
        value.meta[_ANNOTATION] = {key: mapping.get(name, name) for key, name in annotation.items()}


def _own_copy(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if isinstance(tensor, ir.serde.TensorProtoTensor):
        proto = onnx.TensorProto()
        proto.CopyFrom(tensor.raw)
        return ir.serde.TensorProtoTensor(proto)
    return copy.copy(tensor)
