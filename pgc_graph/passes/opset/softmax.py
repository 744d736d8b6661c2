"""Softmax, LogSoftmax and Hardmax, which changed their meaning at opset 13 (ONNX operator page, Softmax).

Before, the tensor is taken for a matrix: dimensions from `axis` (default 1) on are one row, and a row sums to 1. Since,
one dimension sums to 1 (default -1). Both say the same where

1. `axis` is the last dimension, or
2. all dimensions behind it have length 1.

Otherwise, going up, the matrix is written out: Flatten, the operator along its rows, Reshape to the old shape. Going down,
the dimension is brought to the end and back by Transpose. onnx.version_converter gives wrong values there.
"""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.analysis.interface import dimensions
from pgc_graph.passes.opset.site import Site

__all__ = ["softmax_down", "softmax_up"]


def softmax_up(site: Site) -> str:
    """Take the operator from rows of a matrix to one dimension."""
    x, axis = site.operand(0), int(site.attribute("axis", 1))
    dims = dimensions(x)
    if dims is not None:
        axis %= max(len(dims), 1)
        if all(size == 1 for size in dims[axis + 1 :]):
            site.set_attribute("axis", axis)
            return "" if axis == len(dims) - 1 else "only one dimension is longer than 1"
    shape = site.emit("Shape", [x], dtype=ir.DataType.INT64, dims=None if dims is None else [len(dims)])
    matrix = site.emit("Flatten", [x], {"axis": axis}, dtype=x.dtype, dims=[None, None])
    rows = site.emit(site.node.op_type, [matrix], {"axis": 1}, like=matrix)
    site.replace(site.emit("Reshape", [rows, shape], like=x))
    return "as a matrix: Flatten, Reshape"


def softmax_down(site: Site) -> str:
    """Take the operator from one dimension to rows of a matrix."""
    x, axis = site.operand(0), int(site.attribute("axis", -1))
    if axis == -1 and x.shape is None:
        site.set_attribute("axis", -1)
        return ""
    dims = site.dims()
    last = len(dims) - 1
    axis = axis % len(dims) if dims else 0
    if all(size == 1 for size in dims[axis + 1 :]):
        site.set_attribute("axis", axis)
        return "" if axis == last else "only one dimension is longer than 1"
    order = [*range(len(dims))]
    order[axis], order[last] = last, axis
    moved = site.emit("Transpose", [x], {"perm": order}, dtype=x.dtype, dims=[dims[index] for index in order])
    rows = site.emit(site.node.op_type, [moved], {"axis": last}, like=moved)
    site.replace(site.emit("Transpose", [rows], {"perm": order}, like=x))
    return "dimension brought to the end by Transpose"
