"""Write an affine map as one Mul and one Add, with constants shaped for the tensor's rank.

The channel axis of BatchNormalization is axis 1: for an (N, C, D1 ... Dn) tensor the constants are (1, C, 1 ... 1); for
(N, C) they are (C). A [C] constant on a 4-D tensor would broadcast along its width instead, silently where W equals C.
Before opset 7 Mul and Add broadcast by attributes: `broadcast` 1 with `axis` 1 lays a (C) constant along axis 1.
A factor of 1 or a term of 0 in every channel needs no node.
"""

from __future__ import annotations

import numpy as np

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import Declined, Float64
from pgc_graph.passes.batchnorm.chain import Span
from pgc_graph.passes.batchnorm.tensors import dtype_of, rank_of
from pgc_graph.passes.edit import GraphEditor, misfit

__all__ = ["remove_core", "replace_by_mul_add"]

_BROADCASTING_OPSET = 7


def replace_by_mul_add(span: Span, constants: Constants, editor: GraphEditor) -> str | Declined:
    """Replace a run of affine nodes by a Mul and an Add.

    Args:
        span: The run; its affine nodes are removed when replaced.
        constants: Of the model.
        editor: Of the model.

    Returns:
        What was done, or why not.
    """
    value = span.core[0].source
    by_attributes = span.opset < _BROADCASTING_OPSET
    rank, dtype = rank_of(value, constants), dtype_of(value, constants, span.opset)
    if (rank is None and not by_attributes) or dtype is None:
        return Declined("the rank or type of its input is unknown")
    problem = misfit(span.affine.scale, dtype, axes=()) or misfit(span.affine.shift, dtype)
    if problem:
        return Declined(f"the factor or term {problem}")
    shape = (-1,) if rank is None or by_attributes else _shape(rank)
    steps = _steps(span, shape)
    first, last = span.core[0].node, span.core[-1].node
    attributes = {"broadcast": 1, "axis": 1} if by_attributes else {}
    for op_type, array, label in steps:
        operand = editor.constant(f"{span.name}/{label}", array, dtype, first)
        value = editor.insert_before(first, op_type, [value, operand], f"{span.name}/{op_type}", attributes)
    if not steps and last.outputs[0].is_graph_output():
        value = editor.insert_before(first, "Identity", [value], f"{span.name}/Identity")
    first.replace_input_with(span.core[0].index, value)
    remove_core(span, editor)
    return "replaced by " + (" and ".join(op_type for op_type, _, _ in steps) or "nothing: it is the identity")


def remove_core(span: Span, editor: GraphEditor) -> None:
    """Remove the affine nodes of a run, whose work is done elsewhere now; what passes its input on stays."""
    for link in span.core:
        if link.affine is not None:
            editor.bypass(link.node, link.source)


def _shape(rank: int) -> tuple[int, ...]:
    # A rank of 1 is a batch of single numbers: one channel, and nothing may raise the rank.
    return (-1,) if rank <= 2 else (1, -1, *[1] * (rank - 2))


def _steps(span: Span, shape: tuple[int, ...]) -> list[tuple[str, Float64, str]]:
    parts = (("Mul", span.affine.scale, "scale", 1), ("Add", span.affine.shift, "shift", 0))
    return [(op, array.reshape(shape), label) for op, array, label, neutral in parts if np.any(array != neutral)]
