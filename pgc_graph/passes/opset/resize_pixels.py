"""Which pixel `nearest` takes: do two ways to write a Resize take the same ones? (ONNX operator page, Resize)"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["same_pixels"]

Floats = NDArray[np.float64]
_TIE = 0.5
_MARGIN = 1e-3


def same_pixels(scale: float, size: int | None, coordinates: str, rounding: str) -> bool:
    """Say whether `nearest` takes the pixels of version 10: x / scale, rounded down to enlarge and up to shrink.

    Args:
        scale: Of one axis.
        size: Pixels before, None where open: then only whole scales and halves, quarters, ... can be told, whose pattern
            repeats.
        coordinates: The attribute coordinate_transformation_mode.
        rounding: The attribute nearest_mode.
    """
    if coordinates == "asymmetric" and rounding == ("ceil" if scale < 1 else "floor"):
        return True
    repeats = scale == round(scale) or math.frexp(scale)[0] == _TIE
    if size is None:
        if not repeats or coordinates not in ("half_pixel", "asymmetric"):
            return False
        size = 2 * math.ceil(max(scale, 1 / scale))
    x = np.arange(math.floor(size * scale), dtype=np.float64)
    source = _source(x, size, scale, coordinates)
    if source is None:
        return False
    plain = x / scale
    taken, expected = _rounded(source, rounding), np.ceil(plain) if scale < 1 else np.floor(plain)
    same = np.array_equal(np.clip(taken, 0, size - 1), np.clip(expected, 0, size - 1))
    # Whole and half numbers are where rounding turns; in float32 a coordinate may land on either side of them.
    return bool(same) and (repeats or not (_near_turn(source) or _near_turn(plain[1:])))


def _near_turn(source: Floats) -> bool:
    twice = 2 * source
    return bool(np.any(np.abs(twice - np.round(twice)) < _MARGIN))


def _source(x: Floats, size: int, scale: float, coordinates: str) -> Floats | None:
    if coordinates == "asymmetric":
        return x / scale
    if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and len(x) > 1):
        return (x + 0.5) / scale - 0.5
    if coordinates == "align_corners" and len(x) > 1:
        return x * (size - 1) / (len(x) - 1)
    return None


def _rounded(source: Floats, rounding: str) -> Floats:
    if rounding == "floor":
        return np.floor(source)
    if rounding == "ceil":
        return np.ceil(source)
    return np.ceil(source - _TIE) if rounding == "round_prefer_floor" else np.floor(source + _TIE)
