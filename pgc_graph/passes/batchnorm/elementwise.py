"""Write an affine map as one Mul and one Add, with constants shaped for the tensor's rank.

The channel axis of BatchNormalization is axis 1: for an (N, C, D1 ... Dn) tensor the constants are (1, C, 1 ... 1); for
(N, C) they are (C). A [C] constant on a 4-D tensor would broadcast along its width instead, silently where W equals C.
A factor of 1 or a term of 0 in every channel needs no node.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.passes.batchnorm.affine import Affine, Declined
from pgc_graph.passes.edit import GraphEditor, fits

__all__ = ["replace_by_mul_add"]


def replace_by_mul_add(node: ir.Node, affine: Affine, editor: GraphEditor, opset: int) -> str | Declined:
    """Replace a BatchNormalization by a Mul and an Add.

    Args:
        node: The BatchNormalization node; removed when replaced.
        affine: What it does.
        editor: Of the model.
        opset: Version of the default domain; before 7, Mul and Add did not broadcast by themselves.

    Returns:
        What was done, or why not.
    """
    value = node.inputs[0]
    if opset < 7:
        return Declined(f"Mul and Add do not broadcast at opset {opset}")
    if value is None or value.shape is None or value.dtype is None:
        return Declined("the rank or type of its input is unknown")
    rank, dtype = len(value.shape), value.dtype
    if not (fits(affine.scale, dtype) and fits(affine.shift, dtype)):
        return Declined(f"the factor or term overflows {dtype.name}")
    shape = (-1,) if rank == 2 else (1, -1, *[1] * (rank - 2))
    steps = [
        (op_type, array.reshape(shape), label)
        for op_type, array, label, neutral in (("Mul", affine.scale, "scale", 1), ("Add", affine.shift, "shift", 0))
        if np.any(array != neutral)
    ]
    name = node.name or str(node.outputs[0].name)
    for op_type, array, label in steps:
        operand = editor.constant(f"{name}/{label}", array, dtype, node)
        value = editor.insert_before(node, op_type, [value, operand], f"{name}/{op_type}")
    if not steps and node.outputs[0].is_graph_output():
        value = editor.insert_before(node, "Identity", [value], f"{name}/Identity")
    editor.bypass(node, value)
    return "replaced by " + (" and ".join(op_type for op_type, _, _ in steps) or "nothing: it is the identity")
