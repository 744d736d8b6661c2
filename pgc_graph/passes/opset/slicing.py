"""Slice and Pad: what was an attribute became an input, and more came with it (ONNX operator pages).

Slice  10   starts, ends, axes: attribute -> input; `steps` are new; 11: negative axes
Pad    11   pads, value: attribute -> input
       18   `axes`; 19: mode `wrap`
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.passes.opset.site import CannotConvertError, Site

__all__ = ["pad_11_down", "pad_11_up", "pad_18_down", "pad_19_down", "slice_10_down", "slice_10_up", "slice_11_down"]


def slice_10_up(site: Site) -> str:
    """Take starts, ends and axes to inputs."""
    for index, name in ((1, "starts"), (2, "ends"), (3, "axes")):
        numbers = site.attribute(name)
        if numbers is not None:
            site.set_input(index, site.constant(name, [int(number) for number in numbers]))
            site.drop_attribute(name)
    return "bounds became inputs"


def slice_11_down(site: Site) -> str:
    """Count negative axes from the front."""
    axes = site.known(3, "axes")
    if axes is None or axes.size == 0 or axes.min() >= 0:
        return ""
    old = site.operand(3)
    site.set_input(3, site.constant("axes", axes % site.rank(), site.dtype(3)))
    site.editor.remove_orphans([old])
    return "negative axes counted from the front"


def slice_10_down(site: Site) -> str:
    """Take constant starts, ends and axes to attributes; steps become Gather with the indices written out."""
    starts, ends, axes, steps = (site.known(i, n) for i, n in enumerate(("starts", "ends", "axes", "steps"), start=1))
    if starts is None or ends is None:
        raise CannotConvertError("its bounds are missing", "repair the model")
    chosen = [int(axis) for axis in (range(len(starts)) if axes is None else axes)]
    if steps is not None and np.any(steps != 1):
        return _slice_by_gather(site, starts, ends, chosen, steps)
    site.set_attribute("starts", [int(start) for start in starts])
    site.set_attribute("ends", [int(end) for end in ends])
    site.set_attribute("axes", chosen)
    site.cut_inputs(1)
    return "bounds became attributes"


def _slice_by_gather(site: Site, starts: NDArray[Any], ends: NDArray[Any], axes: list[int], steps: NDArray[Any]) -> str:
    dims = site.dims()
    if any(dims[axis] is None for axis in axes):
        raise CannotConvertError("it has steps, and the dimension is open", "fix the input's shape")
    sizes = [dims[axis] or 0 for axis in axes]
    y, left = site.operand(0), list(dims)
    for axis, size, start, end, step in zip(axes, sizes, starts, ends, steps, strict=True):
        # Slice has INT64_MIN for "past the front", where Python's slice has None.
        stop = None if step < 0 and end < -size else int(end)
        indices = np.arange(size)[slice(int(start), stop, int(step))]
        left[axis] = len(indices)
        y = site.emit("Gather", [y, site.constant("indices", indices)], {"axis": axis}, dtype=y.dtype, dims=left)
    site.replace(y)
    return "steps written out as Gather"


def pad_11_up(site: Site) -> str:
    """Take pads and value to inputs."""
    value = site.attribute("value")
    site.set_input(1, site.constant("pads", [int(pad) for pad in site.attribute("pads")]))
    if value is not None:
        site.set_input(2, site.constant("value", np.array(value), site.dtype()))
        site.drop_attribute("value")
    site.drop_attribute("pads")
    return "pads became an input"


def pad_11_down(site: Site) -> str:
    """Take constant pads and value to attributes."""
    pads, value = site.known(1, "pads"), site.known(2, "constant_value")
    if pads is None:
        raise CannotConvertError("its pads are missing", "repair the model")
    site.set_attribute("pads", [int(pad) for pad in pads.reshape(-1)])
    if value is not None and value.size:
        site.set_attribute("value", float(value.reshape(())))
    site.cut_inputs(1)
    return "pads became an attribute"


def pad_18_down(site: Site) -> str:
    """Write pads for all axes where they are for some."""
    axes, pads = site.known(3, "axes"), None
    if axes is None:
        site.cut_inputs(3)
        return ""
    pads = site.known(1, "pads")
    rank = site.rank()
    if pads is None:
        raise CannotConvertError("its pads are missing", "repair the model")
    every = np.zeros((2, rank), np.int64)
    every[:, [int(axis) % rank for axis in axes]] = pads.reshape(2, -1)
    old = site.operand(1)
    site.set_input(1, site.constant("pads", every.reshape(-1)))
    site.cut_inputs(3)
    site.editor.remove_orphans([old])
    return "pads written for all axes"


def pad_19_down(site: Site) -> str:
    """Refuse the mode that is new."""
    if site.attribute("mode", "constant") == "wrap":
        raise CannotConvertError("mode = wrap does not exist", "write it as Slice and Concat")
    return ""
