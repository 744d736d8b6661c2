"""What removed channels that hold a number other than 0 leave behind: a term in the bias of the layers that read them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.pruning.builder import Builder, Layer
from pgc_graph.analysis.pruning.known import Float64, column_sums
from pgc_graph.analysis.pruning.removal import Removal
from pgc_graph.passes.batchnorm.consumer import shift_product
from pgc_graph.passes.batchnorm.weights import constant_input, set_bias
from pgc_graph.passes.edit import GraphEditor

__all__ = ["add_to_bias", "contribution"]


def contribution(layer: Layer, removal: Removal, kept: NDArray[np.bool_], account: Builder) -> Float64 | None:
    """Return what the channels that go add to each output that stays, None if nothing.

    Args:
        layer: The layer that sums over them.
        removal: What goes.
        kept: Which channel ids stay.
        account: Of the model, uncut.
    """
    if layer.inputs is None or kept[layer.inputs].all():
        return None
    numbers = np.where(kept[layer.inputs], 0.0, np.nan_to_num(removal.known[layer.inputs]))
    sums, _ = column_sums(layer, account)
    shift: Float64 = (sums @ numbers)[kept[layer.outputs]]
    return shift if np.any(shift) else None


def add_to_bias(node: ir.Node, shift: Float64, constants: Constants, editor: GraphEditor) -> None:
    """Add a term to what a layer puts out, one number an output: to its bias, or for MatMul in an Add behind it."""
    dtype = constants.dtype(node.inputs[1])
    assert dtype is not None
    if node.op_type == "MatMul":
        shift_product(node, shift, dtype, constants, editor)
        return
    old = constant_input(node, 2, constants)
    old = old if isinstance(old, np.ndarray) else None
    beta = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
    total = shift if old is None else np.broadcast_to(beta * old.reshape(-1), shift.shape) + shift
    set_bias(node, old, total, dtype, editor)
