"""Constants, shapes and casts (ONNX operator pages).

Constant      12   value_float, value_ints, ...: further ways to write the value
Shape         15   `start`, `end`
CastLike      15   new: the type of another tensor
Scatter       11   became ScatterElements; Upsample, at 10, Resize
GridSample    20   its modes got new names; more dimensions
Quantization  13   `axis`: one scale a channel
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pgc_graph.passes.opset.site import Adapter, CannotConvertError, Site

__all__ = [
    "cast_like_down",
    "constant_down",
    "grid_sample_down",
    "grid_sample_up",
    "quantization_13_down",
    "renamed",
    "shape_down",
]

_VALUE_TYPES = {
    "value_float": ir.DataType.FLOAT,
    "value_floats": ir.DataType.FLOAT,
    "value_int": ir.DataType.INT64,
    "value_ints": ir.DataType.INT64,
}
_STRINGS = ("value_string", "value_strings")
_MODES = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}


def constant_down(site: Site) -> str:
    """Write the value as a tensor, whatever form it has."""
    for name, dtype in _VALUE_TYPES.items():
        value = site.attribute(name)
        if value is not None:
            return _set_value(site, name, ir.tensor(np.asarray(value, dtype.numpy()), dtype=dtype))
    for name in _STRINGS:
        value = site.attribute(name)
        if value is not None:
            texts: Any = [str(text).encode() for text in value] if name == "value_strings" else str(value).encode()
            array = np.asarray(texts, object)
            return _set_value(site, name, ir.StringTensor(array, shape=ir.Shape(array.shape)))
    return ""


def _set_value(site: Site, name: str, tensor: ir.TensorProtocol) -> str:
    site.drop_attribute(name)
    site.node.attributes["value"] = ir.AttrTensor("value", tensor)
    return f"{name} became a tensor"


def shape_down(site: Site) -> str:
    """Take a part of the shape by Slice."""
    start, end = int(site.attribute("start", 0)), site.attribute("end")
    if start == 0 and end is None:
        site.drop_attribute("start")
        return ""
    x = site.operand(0)
    whole = site.emit("Shape", [x], dtype=ir.DataType.INT64, dims=None if x.shape is None else [len(x.shape)])
    stop = np.iinfo(np.int64).max if end is None else int(end)
    bounds = [site.constant(name, [number]) for name, number in (("starts", start), ("ends", stop), ("axes", 0))]
    site.replace(site.emit("Slice", [whole, *bounds], dtype=ir.DataType.INT64))
    return "Shape, Slice"


def cast_like_down(site: Site) -> str:
    """Write the type that is meant as an attribute."""
    dtype = site.dtype(1)
    y = site.emit("Cast", [site.operand(0)], {"to": int(dtype)}, like=site.operand(0), dtype=dtype)
    site.replace(y)
    return "Cast"


def renamed(op_type: str) -> Adapter:
    """Return an adapter for an operator that went on under another name."""

    def rename(site: Site) -> str:
        site.node.op_type = op_type
        return f"renamed to {op_type}"

    return rename


def grid_sample_up(site: Site) -> str:
    """Give the mode its new name."""
    site.set_attribute("mode", _MODES[site.attribute("mode", "bilinear")])
    return "mode renamed"


def grid_sample_down(site: Site) -> str:
    """Give the mode its old name; only images have one."""
    if site.rank() != 4:
        raise CannotConvertError("its input is no image (N, C, H, W)")
    old = {new: name for name, new in _MODES.items()}
    site.set_attribute("mode", old[site.attribute("mode", "linear")])
    return "mode renamed"


def quantization_13_down(site: Site) -> str:
    """Drop `axis`, which does not matter where there is one scale for all."""
    scale = site.operand(1)
    if scale.shape is None or len(scale.shape) > 0:
        raise CannotConvertError("it has a scale for every channel", "quantize it with one scale")
    site.drop_attribute("axis")
    return ""
