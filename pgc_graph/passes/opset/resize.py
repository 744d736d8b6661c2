"""Resize, and Upsample before it (ONNX operator pages).

    Upsample   9   scales: attribute -> input
    Resize    10   replaced it, for any scales; both take pixel x of the result from x / scale
              11   roi and sizes; where a pixel comes from is an attribute, and so is the rounding for `nearest`
              13   roi and scales became optional; `tf_half_pixel_for_nn` went
              18   axes, antialias, keep_aspect_ratio_policy; 19: half_pixel_symmetric

Version 10 does not say how `nearest` rounds; onnxruntime takes the lower pixel when it enlarges and the upper one when it
shrinks. Going down, what an older version cannot express is written out (`resize_explicit.py`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.passes.opset.resize_explicit import resize_explicitly
from pgc_graph.passes.opset.resize_pixels import same_pixels
from pgc_graph.passes.opset.site import CannotConvertError, Site

__all__ = [
    "resize_10_down",
    "resize_11_down",
    "resize_11_up",
    "resize_13_down",
    "resize_13_up",
    "resize_18_down",
    "resize_19_down",
    "upsample_9_down",
    "upsample_9_up",
]

_FLOAT = ir.DataType.FLOAT
_NEW_IN_11 = (
    "coordinate_transformation_mode",
    "nearest_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "extrapolation_value",
)


def upsample_9_up(site: Site) -> str:
    """Take the scales to an input."""
    site.set_input(1, site.constant("scales", np.array(site.attribute("scales")), _FLOAT))
    site.drop_attribute("scales")
    return "scales became an input"


def upsample_9_down(site: Site) -> str:
    """Take constant scales to an attribute."""
    scales = site.known(1, "scales")
    if scales is None:
        raise CannotConvertError("its scales are missing", "repair the model")
    site.set_attribute("scales", [float(scale) for scale in scales])
    site.cut_inputs(1)
    return "scales became an attribute"


def resize_10_down(site: Site) -> str:
    """Go back to Upsample, which only enlarges."""
    scales = site.known(1, "scales")
    if scales is None or np.any(scales < 1):
        raise CannotConvertError("Upsample cannot shrink", "write it as a pooling or a strided Slice")
    site.node.op_type = "Upsample"
    return "renamed to Upsample"


def resize_11_up(site: Site) -> str:
    """State what version 10 does of itself."""
    rounding = {}
    if site.attribute("mode", "nearest") == "nearest":
        scales = site.known(1, "scales")
        if scales is None or (np.any(scales < 1) and np.any(scales > 1)):
            raise CannotConvertError("it enlarges one axis and shrinks another", "resize one axis after the other")
        rounding["nearest_mode"] = "ceil" if np.any(scales < 1) else "floor"
    scales_input = site.operand(1)
    site.set_input(1, site.constant("roi", np.zeros(0), _FLOAT))
    site.set_input(2, scales_input)
    for name, value in {"coordinate_transformation_mode": "asymmetric", **rounding}.items():
        site.set_attribute(name, value)
    return "asymmetric coordinates stated"


def resize_11_down(site: Site) -> str:
    """Keep the scales alone where version 10 takes the same pixels; otherwise write the result out."""
    scales = _whole_scales(site)
    mode = site.attribute("mode", "nearest")
    if scales is None or mode == "cubic" or not _as_version_10(site, scales, mode):
        return resize_explicitly(site)
    for name in _NEW_IN_11:
        site.drop_attribute(name)
    rest = [site.input(index) for index in (1, 2, 3)]
    site.node.resize_inputs(2)
    site.set_input(1, site.constant("scales", scales, _FLOAT))
    site.editor.remove_orphans(rest)
    return "scales alone"


def _whole_scales(site: Site) -> NDArray[np.float32] | None:
    """Return one scale an axis if they are known: as given, or from sizes that are whole multiples or parts."""
    scales, sizes = site.constants.value(site.input(2)), site.constants.value(site.input(3))
    if scales is not None and scales.size:
        return scales.astype(np.float32)
    if sizes is None or site.operand(0).shape is None:
        return None
    result = []
    for size, wanted in zip(site.dims(), sizes, strict=True):
        if size is None or (wanted % size and size % wanted):
            return None
        result.append(wanted / size)
    return np.array(result, np.float32)


def _as_version_10(site: Site, scales: NDArray[np.float32], mode: str) -> bool:
    coordinates = str(site.attribute("coordinate_transformation_mode", "half_pixel"))
    rounding = str(site.attribute("nearest_mode", "round_prefer_floor"))
    if mode == "linear":
        return coordinates == "asymmetric" or bool(np.all(scales == 1))
    dims = [None] * len(scales) if site.operand(0).shape is None else site.dims()
    pairs = zip(scales, dims, strict=True)
    return all(scale == 1 or same_pixels(float(scale), size, coordinates, rounding) for scale, size in pairs)


def resize_13_up(site: Site) -> str:
    """Write out the coordinate mode that went."""
    if site.attribute("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        return resize_explicitly(site)
    return ""


def resize_13_down(site: Site) -> str:
    """Fill in roi and scales, empty where they are left out."""
    done = ""
    for index, what in ((1, "roi"), (2, "scales")):
        if site.input(index) is None:
            site.set_input(index, site.constant(what, np.zeros(0), _FLOAT))
            done = "empty roi or scales added"
    return done


def resize_18_down(site: Site) -> str:
    """Write scales or sizes for all axes where they are for some; write out what has no counterpart."""
    if site.attribute("antialias", 0) or site.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        return resize_explicitly(site)
    axes = site.attribute("axes")
    if axes is None:
        return ""
    rank, old = site.rank(), [site.input(2), site.input(3)]
    axes = [int(axis) % rank for axis in axes]
    scales = site.constants.value(site.input(2))
    if scales is not None and scales.size:
        every = np.ones(rank, np.float32)
        every[axes] = scales
        site.set_input(2, site.constant("scales", every, _FLOAT))
    else:
        sizes, dims = site.known(3, "sizes"), list(site.dims())
        for axis, size in zip(axes, () if sizes is None else sizes, strict=True):
            dims[axis] = int(size)
        if None in dims:
            return resize_explicitly(site)
        site.set_input(3, site.constant("sizes", dims))
    site.drop_attribute("axes")
    site.editor.remove_orphans(old)
    return "written for all axes"


def resize_19_down(site: Site) -> str:
    """Write out the coordinate mode that is new."""
    if site.attribute("coordinate_transformation_mode") == "half_pixel_symmetric":
        return resize_explicitly(site)
    return ""
