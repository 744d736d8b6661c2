"""Cut a part out of a model: what lies between some tensors and others becomes a model of its own.

1. From the wanted outputs the graph is walked upwards, through captures of subgraphs as well. The walk ends at the given
   inputs, at initializers and at nodes without inputs (Constant). It must not reach another input of the whole model:
   then the given inputs do not cut the part off.
2. The part takes along what it needs: initializers (with their place among the inputs where they can be overridden),
   functions that its nodes call, imports of the operator sets that it uses, metadata and doc strings of model and graph.
3. Tensors keep their names, so a value recorded in the whole model can be fed to the part by name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from pgc_graph.analysis.names import all_nodes
from pgc_graph.analysis.reach import node_reads
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.passes.rewrite import Change, Rewrite
from pgc_graph.passes.taps import add_taps

__all__ = ["extract"]

_STANDARD = ("", "ai.onnx")


def extract(model: ir.Model, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> Rewrite:
    """Make a model of the part between some tensors of the main graph and others.

    Args:
        model: Stays untouched.
        inputs: Tensors that the part is fed, in the order of its inputs; none: those inputs of the model that it needs.
        outputs: Tensors that it returns, in order; none: the model's own outputs.

    Returns:
        The part, with one change for what was left out.

    Raises:
        OptionError: Neither is given, or a tensor is both.
        SelectionError: A tensor does not exist in the main graph, or the inputs do not cut the part off, or an input leads
            to none of the outputs.
        UnsupportedError: The type of an input or output is unknown and cannot be inferred, or is no tensor.
    """
    inputs, outputs = list(dict.fromkeys(inputs)), list(dict.fromkeys(outputs))
    if not inputs and not outputs:
        raise OptionError("neither inputs nor outputs of the part are given; expected tensors to cut at")
    outputs = outputs or [str(value.name) for value in model.graph.outputs]
    both = [name for name in outputs if name in inputs]
    if both:
        raise OptionError(f"tensor {both[0]!r} is both an input and an output of the part; nothing lies between")
    part = _typed_copy(model, [*inputs, *outputs])
    values = _main_values(part)
    ends, starts = [values[name] for name in outputs], [values[name] for name in inputs]
    nodes, leaves = _walk(part.graph, ends, set(starts))
    whole = len(part.graph)
    _check_cut(part, inputs, outputs, nodes, leaves)
    _keep(part, ends, starts, nodes, leaves)
    _drop_unused(part)
    left = f"{whole - len(nodes)} of {whole} nodes left out"
    # Nodes that were cut off, and the bodies in them, still count as users of tensors; a copy knows nothing of them.
    return Rewrite(part.clone(), (Change(f"{', '.join(inputs) or 'the inputs'} to {', '.join(outputs)}", left),))


def _typed_copy(model: ir.Model, names: list[str]) -> ir.Model:
    # Tapping finds out whether the tensors are there and what type and shape they have.
    tapped = add_taps(model, names)
    for skip in tapped.skipped:
        if skip.reason.startswith("is not a plain tensor"):
            raise UnsupportedError(f"tensor {skip.subject!r} {skip.reason}; cut at a tensor")
    return tapped.model


def _main_values(model: ir.Model) -> dict[str, ir.Value]:
    values = {str(value.name): value for value in (*model.graph.inputs, *model.graph.initializers.values())}
    values.update({str(value.name): value for node in model.graph for value in node.outputs if value.name})
    return values


def _walk(
    graph: ir.Graph, ends: Sequence[ir.Value], starts: Collection[ir.Value]
) -> tuple[set[ir.Node], dict[ir.Value, str]]:
    """Return the nodes between two sets of tensors, and where the walk ended, with the name of the output it came from."""
    nodes: set[ir.Node] = set()
    leaves: dict[ir.Value, str] = {}
    stack = [(end, str(end.name)) for end in ends]
    while stack:
        value, end = stack.pop()
        node = value.producer()
        if value in starts or node is None:
            leaves.setdefault(value, end)
        elif node not in nodes:
            nodes.add(node)
            stack.extend((read, end) for read in node_reads(node))
    return nodes, leaves


def _check_cut(
    model: ir.Model, inputs: list[str], outputs: list[str], nodes: set[ir.Node], leaves: dict[ir.Value, str]
) -> None:
    defaults = model.graph.initializers
    for value, end in leaves.items():
        if inputs and value.name not in inputs and value.name not in defaults:
            raise SelectionError(
                f"output {end!r} depends on the model's input {value.name!r} by a way around {', '.join(inputs)}; "
                f"add {value.name!r} to the inputs, or cut at tensors that every way leads through"
            )
    reached = {value.name for value in leaves}
    for name in inputs:
        if name not in reached:
            raise SelectionError(
                f"input {name!r} leads to none of the outputs {', '.join(outputs)} (or only through other inputs); "
                "leave it out or choose other outputs"
            )
    if not nodes:
        raise SelectionError(f"no node computes {', '.join(outputs)}; expected tensors that nodes compute")


def _keep(
    model: ir.Model,
    ends: list[ir.Value],
    starts: list[ir.Value],
    nodes: set[ir.Node],
    leaves: dict[ir.Value, str],
) -> None:
    graph = model.graph
    graph.outputs[:] = ends
    own = [value for value in graph.inputs if value in leaves and value not in starts]
    graph.inputs[:] = [*map(_detached, starts), *own]
    graph.remove([node for node in graph if node not in nodes], safe=False)
    fed = {value.name for value in starts}
    for name, value in list(graph.initializers.items()):
        # An initializer that is fed is fed for good: its value came from the whole model.
        if name in fed or value not in leaves:
            del graph.initializers[name]


def _detached(value: ir.Value) -> ir.Value:
    """Return what stands for a tensor as a graph input: itself where no node makes it."""
    if value.producer() is None:
        value.const_value = None
        return value
    fresh = ir.Value(
        name=value.name,
        shape=value.shape,
        type=value.type,
        doc_string=value.doc_string,
        metadata_props=dict(value.metadata_props),
    )
    fresh.meta.update(value.meta)
    value.replace_all_uses_with(fresh)
    return fresh


def _drop_unused(model: ir.Model) -> None:
    """Remove functions that nothing calls any more, and imports of operator sets that nothing uses any more."""
    known = dict(model.functions)
    called: set[ir.OperatorIdentifier] = set()
    stack: list[ir.Node] = list(model.graph.all_nodes())
    while stack:
        identifier = stack.pop().op_identifier()
        if identifier in known and identifier not in called:
            called.add(identifier)
            stack.extend(known[identifier].all_nodes())
    for identifier in known:
        if identifier not in called:
            del model.functions[identifier]
    used = {node.domain for node in all_nodes(model)} | {domain for domain, _, _ in called}
    for domain in [domain for domain in model.opset_imports if domain not in (*used, *_STANDARD)]:
        del model.opset_imports[domain]
