"""Broadcasting that came late (ONNX operator pages).

PRelu                7   a slope of one dimension was one a channel; since, shapes align at their ends
Max, Min, Sum, Mean  8   broadcast; before, all inputs had one shape
"""

from __future__ import annotations

from pgc_graph.analysis.interface import dimensions
from pgc_graph.passes.opset.site import CannotConvertError, Site

__all__ = ["equal_shapes", "prelu_up"]


def prelu_up(site: Site) -> str:
    """Give a slope per channel the shape that aligns with the channels."""
    dims, rank = site.dims(1), site.rank()
    if dims == (1,) or dims == () or rank <= 1:
        return ""
    shape = site.constant("slope_shape", [-1, *[1] * (rank - 2)])
    slope = site.operand(1)
    site.set_input(1, site.emit("Reshape", [slope, shape], dtype=slope.dtype, dims=[dims[0], *[1] * (rank - 2)]))
    return "slope shaped for the channels"


def equal_shapes(site: Site) -> str:
    """Let nodes pass whose inputs have one shape."""
    shapes = {dimensions(value) for value in site.node.inputs if value is not None}
    known = all(shape is not None and None not in shape for shape in shapes)
    if len(site.node.inputs) > 1 and not (known and len(shapes) == 1):
        raise CannotConvertError("its inputs may need broadcasting", "expand them to one shape")
    return ""
