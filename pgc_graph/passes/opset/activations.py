"""Activations that older opsets lack, written in operators that they have (ONNX operator pages).

    Celu       12   alpha · Elu(x / alpha)
    HardSwish  14   x · HardSigmoid(x; 1/6, 1/2)
    Mish       18   x · tanh(Softplus(x))
    Gelu       20   x · (1 + erf(x / √2)) / 2, or its tanh form
    Swish      24   x · Sigmoid(alpha · x)

Going up they stay as they are, but for Swish: onnxruntime 1.31 has its kernel for opset 24 only.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from pgc_graph.passes.opset.site import Site

__all__ = ["celu_down", "gelu_down", "hard_swish_down", "mish_down", "swish_out"]


def celu_down(site: Site) -> str:
    """Write Celu as Elu between a division and a multiplication."""
    x, alpha = site.operand(0), _scalar(site, "alpha", site.attribute("alpha", 1.0))
    inner = site.emit("Elu", [site.emit("Div", [x, alpha], like=x)], {"alpha": 1.0}, like=x)
    site.replace(site.emit("Mul", [inner, alpha], like=x))
    return "Div, Elu, Mul"


def hard_swish_down(site: Site) -> str:
    """Write HardSwish as HardSigmoid and Mul."""
    x = site.operand(0)
    gate = site.emit("HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5}, like=x)
    site.replace(site.emit("Mul", [x, gate], like=x))
    return "HardSigmoid, Mul"


def mish_down(site: Site) -> str:
    """Write Mish as Softplus, Tanh and Mul."""
    x = site.operand(0)
    gate = site.emit("Tanh", [site.emit("Softplus", [x], like=x)], like=x)
    site.replace(site.emit("Mul", [x, gate], like=x))
    return "Softplus, Tanh, Mul"


def swish_out(site: Site) -> str:
    """Write Swish as Sigmoid and Mul."""
    x, alpha = site.operand(0), float(site.attribute("alpha", 1.0))
    inner = x if alpha == 1.0 else site.emit("Mul", [x, _scalar(site, "alpha", alpha)], like=x)
    site.replace(site.emit("Mul", [x, site.emit("Sigmoid", [inner], like=x)], like=x))
    return "Sigmoid, Mul"


def gelu_down(site: Site) -> str:
    """Write Gelu by erf, or by tanh where it is the approximate form."""
    x = site.operand(0)
    half, one = _scalar(site, "half", 0.5), _scalar(site, "one", 1.0)
    approximate = site.attribute("approximate", "none") == "tanh"
    curve = _tanh_curve(site, x) if approximate else _erf_curve(site, x)
    gate = site.emit("Mul", [site.emit("Add", [curve, one], like=x), half], like=x)
    site.replace(site.emit("Mul", [x, gate], like=x))
    return "by Tanh" if approximate else "by Erf"


def _erf_curve(site: Site, x: ir.Value) -> ir.Value:
    return site.emit("Erf", [site.emit("Mul", [x, _scalar(site, "root_half", math.sqrt(0.5))], like=x)], like=x)


def _tanh_curve(site: Site, x: ir.Value) -> ir.Value:
    square = site.emit("Mul", [x, x], like=x)
    cubic = site.emit("Mul", [site.emit("Mul", [square, x], like=x), _scalar(site, "cubic", 0.044715)], like=x)
    scale = _scalar(site, "scale", math.sqrt(2 / math.pi))
    return site.emit("Tanh", [site.emit("Mul", [site.emit("Add", [x, cubic], like=x), scale], like=x)], like=x)


def _scalar(site: Site, what: str, value: float) -> ir.Value:
    return site.constant(what, np.array(value), site.dtype())
