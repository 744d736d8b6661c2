"""Axes: an attribute that became an input, and negative numbers, which count from the end.

    ReduceSum, Squeeze, Unsqueeze                     13   axes: attribute -> input
    ReduceMean, ReduceMax, ...                        18   axes: attribute -> input
    Reduce*, Squeeze, Unsqueeze, Flatten, Concat, ... 11   negative axes are allowed
    Gather                                            11   negative indices are allowed

Going down, axes have to be constant: an attribute cannot be computed at run time. A negative axis needs the rank there.
"""

from __future__ import annotations

import numpy as np

from pgc_graph.passes.opset.site import CannotConvertError, Site

__all__ = ["axes_to_attribute", "axes_to_input", "positive_axes", "positive_axis", "positive_indices"]


def axes_to_input(site: Site) -> str:
    """Take the attribute `axes` to the second input."""
    axes = site.attribute("axes")
    if axes is None:
        return ""
    site.drop_attribute("axes")
    site.set_input(1, site.constant("axes", np.asarray(axes, np.int64)))
    return "axes became an input"


def axes_to_attribute(site: Site) -> str:
    """Take the constant second input to the attribute `axes`."""
    axes = site.known(1, "axes")
    noop = site.attribute("noop_with_empty_axes", 0)
    empty = axes is None or axes.size == 0
    if noop and empty:
        value = site.emit("Identity", [site.operand(0)], like=site.operand(0))
        site.replace(value)
        return "no axes to reduce: Identity"
    site.drop_attribute("noop_with_empty_axes")
    if axes is not None and not empty:
        site.set_attribute("axes", [int(axis) for axis in axes.reshape(-1)])
    had_input = len(site.node.inputs) > 1
    site.cut_inputs(1)
    return "axes became an attribute" if had_input else ""


def positive_axes(site: Site) -> str:
    """Count negative entries of the attribute `axes` from the front."""
    axes = site.attribute("axes")
    if axes is None or min(axes, default=0) >= 0:
        return ""
    rank = site.rank() + (len(axes) if site.node.op_type == "Unsqueeze" else 0)
    site.set_attribute("axes", [int(axis) % rank for axis in axes])
    return "negative axes counted from the front"


def positive_axis(site: Site) -> str:
    """Count a negative attribute `axis` from the front."""
    axis = site.attribute("axis", 0)
    if axis >= 0:
        return ""
    site.set_attribute("axis", int(axis) % max(site.rank(), 1))
    return "negative axis counted from the front"


def positive_indices(site: Site) -> str:
    """Count negative constant indices of Gather from the front."""
    indices = site.constants.value(site.operand(1))
    if indices is None or indices.size == 0 or indices.min() >= 0:
        return ""
    dims = site.dims()
    size = dims[site.attribute("axis", 0)]
    if size is None:
        raise CannotConvertError("its indices are negative and the dimension is open", "fix the input's shape")
    dtype = site.dtype(1)
    old = site.operand(1)
    site.set_input(1, site.constant("indices", np.where(indices < 0, indices + size, indices), dtype))
    site.editor.remove_orphans([old])
    return "negative indices counted from the front"
