"""Colour fronts: what the network sees instead of RGB, computed inside the graph.

Sources: luma, ITU-R BT.601; sRGB linearisation, IEC 61966-2-1; the sRGB to XYZ matrix for D65 (Lindbloom,
"RGB/XYZ Matrices", sRGB); CIE L*a*b* and L*u*v* with the exact rational constants of CIE 15:2004.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from pgc_graph.build.layers import Net, apply, apply_many, constant, reduce, scalar

__all__ = [
    "D65_WHITE",
    "LAB_EPSILON",
    "LAB_KAPPA",
    "LUMA_WEIGHTS",
    "LUV_DENOMINATOR_EPSILON",
    "LUV_WHITE",
    "RGB_TO_XYZ",
    "colour_front",
]

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
D65_WHITE = (0.95047, 1.0, 1.08883)
LAB_EPSILON = 216 / 24389
LAB_KAPPA = 24389 / 27
LUV_DENOMINATOR_EPSILON = 1e-7
"""Keeps black finite (0 / 0 otherwise); a ten-thousandth of the denominator of the darkest 8-bit colour."""
_WHITE_DENOMINATOR = D65_WHITE[0] + 15 * D65_WHITE[1] + 3 * D65_WHITE[2]
LUV_WHITE = (4 * D65_WHITE[0] / _WHITE_DENOMINATOR, 9 * D65_WHITE[1] / _WHITE_DENOMINATOR)
"""The white point's u' and v'."""


def colour_front(net: Net, scope: str, rgb: gs.Tensor, colour: str) -> gs.Tensor:
    """Convert sRGB in [0, 1].

    Args:
        net: The graph.
        scope: Where the nodes live.
        rgb: `(N, 3, H, W)`.
        colour: `rgb` (nothing to do), `luma`, `lab` or `luv`.

    Returns:
        `(N, 1, H, W)` luma in [0, 1], or `(N, 3, H, W)`: RGB as it came, or CIE L* in [0, 100] with a*, b* or u*, v*.
    """
    fronts = {"luma": _luma, "lab": _lab, "luv": _luv}
    return fronts[colour](net, scope, rgb) if colour in fronts else rgb


def _luma(net: Net, scope: str, rgb: gs.Tensor) -> gs.Tensor:
    weights = constant(net, scope, np.array(LUMA_WEIGHTS, np.float32).reshape(1, 3, 1, 1))
    return reduce(net, scope, "ReduceSum", apply(net, scope, "Mul", rgb, weights), [1], keep=True)


def _lab(net: Net, scope: str, rgb: gs.Tensor) -> gs.Tensor:
    white = constant(net, scope, np.array(D65_WHITE, np.float32).reshape(1, 3, 1, 1))
    relative = apply(net, scope, "Div", _xyz(net, scope, rgb), white)
    x, y, z = _channels(net, scope, _lightness(net, scope, relative))
    light = _minus(net, scope, _times(net, scope, y, 116.0), 16.0)
    a = _times(net, scope, apply(net, scope, "Sub", x, y), 500.0)
    b = _times(net, scope, apply(net, scope, "Sub", y, z), 200.0)
    return apply(net, scope, "Concat", light, a, b, axis=1)


def _luv(net: Net, scope: str, rgb: gs.Tensor) -> gs.Tensor:
    x, y, z = _channels(net, scope, _xyz(net, scope, rgb))
    light = _minus(net, scope, _times(net, scope, _lightness(net, scope, y), 116.0), 16.0)
    total = apply(net, scope, "Add", x, _times(net, scope, y, 15.0))
    total = apply(net, scope, "Add", total, _times(net, scope, z, 3.0))
    total = apply(net, scope, "Add", total, scalar(net, scope, LUV_DENOMINATOR_EPSILON))
    reach = _times(net, scope, light, 13.0)
    chroma = []
    for value, factor, white in ((x, 4.0, LUV_WHITE[0]), (y, 9.0, LUV_WHITE[1])):
        ratio = apply(net, scope, "Div", _times(net, scope, value, factor), total)
        chroma.append(apply(net, scope, "Mul", reach, _minus(net, scope, ratio, white)))
    return apply(net, scope, "Concat", light, *chroma, axis=1)


def _xyz(net: Net, scope: str, rgb: gs.Tensor) -> gs.Variable:
    """sRGB to CIE XYZ, Y of white being 1."""
    rgb = apply(net, scope, "Clip", rgb, scalar(net, scope, 0.0), scalar(net, scope, 1.0))
    is_dark = apply(net, scope, "LessOrEqual", rgb, scalar(net, scope, 0.04045))
    line = apply(net, scope, "Div", rgb, scalar(net, scope, 12.92))
    base = apply(net, scope, "Div", apply(net, scope, "Add", rgb, scalar(net, scope, 0.055)), scalar(net, scope, 1.055))
    curve = apply(net, scope, "Pow", base, scalar(net, scope, 2.4))
    linear = apply(net, scope, "Where", is_dark, line, curve)
    spread = apply(net, scope, "Unsqueeze", linear, constant(net, scope, np.array([1], np.int64)))
    matrix = constant(net, scope, np.array(RGB_TO_XYZ, np.float32).reshape(1, 3, 3, 1, 1))
    # (N, 1, 3, H, W) * (1, 3, 3, 1, 1), summed over the source channels
    return reduce(net, scope, "ReduceSum", apply(net, scope, "Mul", spread, matrix), [2])


def _lightness(net: Net, scope: str, ratio: gs.Tensor) -> gs.Variable:
    """Return the function f of L* = 116 f(Y) - 16: a cube root, but a straight line near black."""
    # Max changes no value that is chosen; like the twin, it keeps the slope of the other branch finite at 0.
    base = apply(net, scope, "Max", ratio, scalar(net, scope, LAB_EPSILON))
    root = apply(net, scope, "Pow", base, scalar(net, scope, 1 / 3))
    is_bright = apply(net, scope, "Greater", ratio, scalar(net, scope, LAB_EPSILON))
    line = apply(net, scope, "Add", _times(net, scope, ratio, LAB_KAPPA / 116), scalar(net, scope, 16 / 116))
    return apply(net, scope, "Where", is_bright, root, line)


def _channels(net: Net, scope: str, x: gs.Tensor) -> list[gs.Variable]:
    return apply_many(net, scope, "Split", [x, constant(net, scope, np.array([1, 1, 1], np.int64))], 3, axis=1)


def _times(net: Net, scope: str, x: gs.Tensor, factor: float) -> gs.Variable:
    return apply(net, scope, "Mul", x, scalar(net, scope, factor))


def _minus(net: Net, scope: str, x: gs.Tensor, subtrahend: float) -> gs.Variable:
    return apply(net, scope, "Sub", x, scalar(net, scope, subtrahend))
