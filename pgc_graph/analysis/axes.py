"""Which axes a node names."""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.analysis.constants import Constants

__all__ = ["axes_of"]


def axes_of(node: ir.Node, constants: Constants) -> tuple[int, ...] | None:
    """Return the axes that a Reduce operator, Squeeze or Unsqueeze names, () where it names none, None where unknown.

    They are an attribute in older versions and the second input in newer ones.
    """
    if "axes" in node.attributes:
        return tuple(node.attributes.get_ints("axes", ()) or ())
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return ()
    array = constants.value(node.inputs[1])
    return None if array is None else tuple(int(axis) for axis in array.reshape(-1))
