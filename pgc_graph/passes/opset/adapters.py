"""Rewrite single nodes whose signature changed: axes that were an attribute and became an input, or back.

    ReduceSum, Squeeze, Unsqueeze       13   axes: attribute -> input
    ReduceMean, ReduceMax, ...          18   axes: attribute -> input

Going down, axes have to be a constant: an attribute cannot be computed at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.edit import GraphEditor

__all__ = ["Adapter", "adapter_for"]

Adapter = Callable[[ir.Node, Constants, GraphEditor], str]
"""Rewrites a node in place; returns why it cannot, or an empty string."""

_AXES_INPUT_SINCE = {
    "ReduceSum": 13,
    "Squeeze": 13,
    "Unsqueeze": 13,
    **dict.fromkeys(
        (
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSumSquare",
        ),
        18,
    ),
}


def adapter_for(node: ir.Node, source: int, target: int) -> Adapter | None:
    """Return what rewrites a node from one opset to another, or None if no rule here is needed or known."""
    since = _AXES_INPUT_SINCE.get(node.op_type)
    if since is None or (source < since) == (target < since):
        return None
    return _axes_to_input if source < since else partial(_axes_to_attribute, lowest=target)


def _axes_to_input(node: ir.Node, constants: Constants, editor: GraphEditor) -> str:
    del constants
    attribute = node.attributes.pop("axes", None)
    if attribute is not None:
        axes = np.asarray(attribute.as_ints(), np.int64)
        operand = editor.constant(f"{node.name or node.outputs[0].name}/axes", axes, ir.DataType.INT64, node)
        node.resize_inputs(2)
        node.replace_input_with(1, operand)
    return ""


def _axes_to_attribute(node: ir.Node, constants: Constants, editor: GraphEditor, *, lowest: int) -> str:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    axes = None if value is None else constants.value(value)
    if value is not None and axes is None:
        return f"its axes ({value.name}) are computed at run time"
    if node.attributes.get_int("noop_with_empty_axes", 0) and (axes is None or axes.size == 0):
        return "noop_with_empty_axes has no counterpart"
    node.attributes.pop("noop_with_empty_axes", None)
    if axes is not None and axes.size:
        rank = None if node.inputs[0] is None or node.inputs[0].shape is None else len(node.inputs[0].shape)
        if lowest < 11 and np.any(axes < 0):
            if rank is None or node.op_type == "Unsqueeze":
                return "negative axes need the tensor's rank before opset 11"
            axes = axes % rank
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes.reshape(-1)])
    node.resize_inputs(1)
    editor.remove_orphans([value])
    return ""
