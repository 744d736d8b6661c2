"""Multiply gates into the weights next to them.

A gate is a Mul that `insert_gates` put in: `tensor = tensor::ungated * gate`, the gate a defaulted input or an initializer.
For each, in graph order:

1. a gate of ones is removed;
2. else its factor moves back into what computes the tensor (`scaling/backward.py`),
3. else forward into all that read it (`scaling/forward.py`);
4. else it stays, with the reasons.

Where a gate goes, the tensor before it takes the gated tensor's name back. Sums are in float64, stored once in the weights'
own type; weights with other users are copied.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import Declined
from pgc_graph.passes.edit import GraphEditor, can_take_name, remove_unused_initializers
from pgc_graph.passes.gates import gate_nodes
from pgc_graph.passes.rewrite import Change, Rewrite, Skip
from pgc_graph.passes.scaling.backward import pull_back
from pgc_graph.passes.scaling.forward import push_forward
from pgc_graph.passes.scaling.plan import ScalingPlan
from pgc_graph.passes.shapes import with_shapes

__all__ = ["fold_gate_nodes", "fold_gates", "gate_value"]


def fold_gates(model: ir.Model) -> Rewrite:
    """Multiply every gate's value into the weights next to it, where that is exact, and remove the gate.

    A gate that is a graph input counts by its default; whoever feeds it afterwards finds it gone.

    Args:
        model: Stays untouched.

    Returns:
        The model without those gates; `changes` and `skipped` have one entry a gate: where it went or why it stays.
    """
    if not gate_nodes(model):
        return Rewrite(model.clone())
    folded = with_shapes(model)
    changes, skipped = fold_gate_nodes(folded, gate_nodes(folded))
    return Rewrite(folded, tuple(changes), tuple(skipped))


def fold_gate_nodes(model: ir.Model, nodes: Iterable[ir.Node]) -> tuple[list[Change], list[Skip]]:
    """Fold some gates of a model that is ours to edit and whose shapes are known; say where each went or why it stays."""
    editor, constants = GraphEditor(model), Constants(model)
    opset = model.opset_imports.get("", 1)
    order = {node: place for place, node in enumerate(model.graph)}
    changes: list[Change] = []
    pending = list(nodes)
    while True:
        # One gate less can be what another one waited for.
        left: list[tuple[ir.Node, Skip]] = []
        for node in pending:
            name = str(node.outputs[0].name)
            verdict = _fold(node, ScalingPlan(constants, opset), editor, order)
            if isinstance(verdict, Declined):
                left.append((node, Skip(name, verdict.reason)))
            else:
                _remove(model, node, editor)
                changes.append(Change(name, verdict))
        if len(left) in (0, len(pending)):
            remove_unused_initializers(model)
            return changes, [skip for _, skip in left]
        pending = [node for node, _ in left]


def gate_value(node: ir.Node) -> NDArray[np.float64] | None:
    """Return a gate's value: that of its initializer or the default of its input; None if it has none."""
    gate = node.inputs[1]
    return None if gate is None or gate.const_value is None else gate.const_value.numpy().astype(np.float64)


def _fold(node: ir.Node, plan: ScalingPlan, editor: GraphEditor, order: dict[ir.Node, int]) -> str | Declined:
    source, output, factor = node.inputs[0], node.outputs[0], gate_value(node)
    if factor is None or source is None:
        return Declined("its gate has no value: it is a graph input without a default")
    if not np.all(np.isfinite(factor)):
        return Declined("its gate is not a finite number")
    if output.is_graph_output() and not can_take_name(source, output):
        return Declined("it is a graph output under this name alone")
    if np.all(factor == 1):
        return "removed: its gate is 1"
    reasons: list[str] = []
    for where, trial in (("before", plan.fork()), ("after", plan.fork())):
        declined = pull_back(source, factor, trial) if where == "before" else push_forward(output, factor, trial, order)
        declined = declined or trial.commit(editor)
        if declined is None:
            targets = dict.fromkeys(f"{item.op_type} {item.name}" for item, _ in trial.pending)
            return f"folded into {', '.join(targets)} {where} it"
        reasons.append(declined.reason)
    return Declined("; ".join(dict.fromkeys(reasons)))


def _remove(model: ir.Model, node: ir.Node, editor: GraphEditor) -> None:
    """Remove a gate; the tensor before it takes over the gated tensor's name."""
    source, gate, output = node.inputs[0], node.inputs[1], node.outputs[0]
    assert source is not None
    assert gate is not None
    name, was_output = output.name, output.is_graph_output()
    editor.bypass(node, source)
    if not was_output and str(source.name).startswith(f"{name}::ungated"):
        source.name = name
    if gate.is_graph_input() and not gate.uses():
        model.graph.inputs.remove(gate)
        model.graph.initializers.pop(str(gate.name), None)
