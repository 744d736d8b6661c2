"""Parameters that moved from attributes to inputs, or became optional (ONNX operator pages).

Clip     11   min, max: attribute -> input
Dropout  12   ratio: attribute -> input; `training_mode` is an input, `seed` an attribute
TopK     10   k: attribute -> input
Gemm     11   the third input became optional
Split    13   split: attribute -> input; 18: `num_outputs` where there is none
Reshape  14   `allowzero`
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.interface import dimensions
from pgc_graph.passes.opset.site import CannotConvertError, Site

__all__ = [
    "clip_down",
    "clip_up",
    "dropout_7_up",
    "dropout_down",
    "dropout_up",
    "gemm_down",
    "reshape_14_down",
    "split_13_down",
    "split_13_up",
    "split_18_down",
    "split_18_up",
    "topk_down",
    "topk_up",
]


def clip_up(site: Site) -> str:
    """Take min and max to inputs."""
    done = ""
    for index, name in ((1, "min"), (2, "max")):
        bound = site.attribute(name)
        if bound is not None:
            site.set_input(index, site.constant(name, np.array(bound), site.dtype()))
            site.drop_attribute(name)
            done = "bounds became inputs"
    return done


def clip_down(site: Site) -> str:
    """Take constant min and max to attributes; bounds that are computed become Max and Min."""
    bounds = {name: site.input(index) for index, name in ((1, "min"), (2, "max"))}
    values = {name: site.constants.value(bound) for name, bound in bounds.items()}
    if any(bounds[name] is not None and values[name] is None for name in bounds):
        y = x = site.operand(0)
        y = y if bounds["min"] is None else site.emit("Max", [y, bounds["min"]], like=x)
        y = y if bounds["max"] is None else site.emit("Min", [y, bounds["max"]], like=x)
        site.replace(y)
        return "bounds are computed: Max, Min"
    for name, value in values.items():
        if value is not None:
            site.set_attribute(name, float(value.reshape(())))
    site.cut_inputs(1)
    return "bounds became attributes" if any(value is not None for value in values.values()) else ""


def dropout_7_up(site: Site) -> str:
    """Leave training mode to opsets that have it: `is_test` has to be set."""
    if not site.attribute("is_test", 0):
        raise CannotConvertError("it is in training mode (is_test = 0)", "export the model in inference mode")
    site.drop_attribute("is_test")
    return "inference"


def dropout_up(site: Site) -> str:
    """Take the ratio to an input."""
    ratio = site.attribute("ratio")
    if ratio is None:
        return ""
    site.set_input(1, site.constant("ratio", np.array(ratio), ir.DataType.FLOAT))
    site.drop_attribute("ratio")
    return "ratio became an input"


def dropout_down(site: Site) -> str:
    """Take the ratio to an attribute; in inference, which it has to be, neither ratio nor seed matters."""
    training = site.known(2, "training_mode")
    if training is not None and bool(training.reshape(())):
        raise CannotConvertError("it is in training mode", "export the model in inference mode")
    ratio = site.constants.value(site.input(1))
    if ratio is not None:
        site.set_attribute("ratio", float(ratio.reshape(())))
    site.drop_attribute("seed")
    had_inputs = len(site.node.inputs) > 1
    site.cut_inputs(1)
    if len(site.node.outputs) > 1 and not site.output_used(1):
        site.node.resize_outputs(1)
    return "ratio became an attribute" if had_inputs else ""


def topk_up(site: Site) -> str:
    """Take k to an input."""
    site.set_input(1, site.constant("k", [int(site.attribute("k"))]))
    site.drop_attribute("k")
    return "k became an input"


def topk_down(site: Site) -> str:
    """Take the constant k to an attribute."""
    count = site.known(1, "k")
    if count is None:
        raise CannotConvertError("its k is missing", "repair the model")
    site.set_attribute("k", int(count.reshape(())))
    site.cut_inputs(1)
    return "k became an attribute"


def gemm_down(site: Site) -> str:
    """Add zeros where there is no third input."""
    if site.input(2) is not None:
        return ""
    site.set_input(2, site.constant("zero", np.zeros(1), site.dtype()))
    return "zero added as third input"


def reshape_14_down(site: Site) -> str:
    """Drop `allowzero`, which says whether a 0 in the shape is a length or stands for the old one.

    It does not matter where the shape has no 0, or at most in front, where the old length is 0 as well: a batch of none.
    """
    if not site.attribute("allowzero", 0):
        site.drop_attribute("allowzero")
        return ""
    shape = site.constants.value(site.input(1))
    if shape is None and not _zero_only_in_front(site):
        site.known(1, "shape")
    if shape is not None and np.any(shape == 0):
        raise CannotConvertError("allowzero = 1 and its shape has a zero", "remove the empty tensor")
    site.drop_attribute("allowzero")
    return "allowzero dropped: it does not matter here"


def _zero_only_in_front(site: Site) -> bool:
    shapes = [dimensions(value) for value in (site.operand(0), site.node.outputs[0])]
    return all(shape is not None and len(shape) > 0 and all(shape[1:]) for shape in shapes)


def split_13_up(site: Site) -> str:
    """Take the lengths to an input."""
    lengths = site.attribute("split")
    if lengths is None:
        return ""
    site.set_input(1, site.constant("split", [int(length) for length in lengths]))
    site.drop_attribute("split")
    return "lengths became an input"


def split_13_down(site: Site) -> str:
    """Take constant lengths to an attribute."""
    lengths = site.known(1, "split")
    if lengths is None:
        return ""
    site.set_attribute("split", [int(length) for length in lengths])
    site.cut_inputs(1)
    return "lengths became an attribute"


def split_18_up(site: Site) -> str:
    """Say the number of outputs where no lengths are given."""
    if site.input(1) is not None:
        return ""
    site.cut_inputs(1)
    site.set_attribute("num_outputs", len(site.node.outputs))
    return "num_outputs added"


def split_18_down(site: Site) -> str:
    """Drop the number of outputs, with lengths for an input where the parts are not equal."""
    count: Any = site.attribute("num_outputs")
    if count is None:
        return ""
    size = site.dims()[site.attribute("axis", 0)]
    if size is None:
        raise CannotConvertError("its dimension is open, so that the parts may be unequal", "fix the input's shape")
    site.drop_attribute("num_outputs")
    if size % count == 0:
        return "num_outputs dropped: equal parts"
    part = -(-size // count)
    site.set_input(1, site.constant("split", [*[part] * (count - 1), size - part * (count - 1)]))
    return "num_outputs became lengths"
