"""Gradients of resizing (ONNX operators Resize and Upsample, modes nearest, linear and cubic).

Resizing acts on each axis by itself and is linear in the pixels: y[o] = sum over i of weight[o, i] x[i]. So

1. repeating pixels a whole number of times is undone by sums over blocks (an AveragePool, which knows no sizes),
2. `nearest` by handing each pixel the sum of its copies,
3. `linear` and `cubic` by a product with the weights.

Coordinates are computed in float32, as onnxruntime does, since `nearest` turns where they are whole or half numbers.
Version 10 (and Upsample) knows one way alone: asymmetric, rounding down to enlarge and up to shrink.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.cuts import spread_back, weigh_back
from pgc_graph.autodiff.forms import scalar

__all__ = ["resize"]

Floats = NDArray[np.float32]

_RICH_OPSET = 11  # from here on Resize says how it computes coordinates
_POOLED_RANKS = (3, 4, 5)


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized."""

    axis: int
    size: int
    resized: int
    scale: float


def resize(context: Context) -> Gradients:
    """y = x, resampled.

    Raises:
        UnsupportedError: The sizes of a resized axis or the scales only show at run time, or the mode is one that crops,
            keeps the aspect ratio or smooths (antialias).
    """
    _check(context)
    x, g = context.operand(), context.gradient
    scales = _scales(context)
    times = [] if scales is None else _whole_repeats(context, scales)
    if times:
        blocks = context.emit("AveragePool", g, kernel_shape=times, strides=times)
        return [context.emit("Mul", blocks, scalar(context, math.prod(times), g))]
    for found in _axes(context, x, scales):
        source = _coordinates(context, found)
        if _mode(context) == "nearest":
            taken = np.clip(_rounded(source, _rounding(context, found)), 0, found.size - 1)
            g = spread_back(context, g, taken.astype(int).tolist(), found.axis, found.size)
        else:
            g = weigh_back(context, g, _weights(context, source, found), found.axis)
    return [g]


def _check(context: Context) -> None:
    if context.attribute("antialias", 0):
        context.refuse("it smooths what it shrinks (antialias=1), expected antialias=0")
    if _way(context) == "tf_crop_and_resize":
        context.refuse("it crops (tf_crop_and_resize), expected another coordinate_transformation_mode; crop by Slice")
    if context.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        context.refuse("its sizes follow the aspect ratio; state the sizes themselves")


def _mode(context: Context) -> str:
    return str(context.attribute("mode", "nearest"))


def _way(context: Context) -> str:
    default = "half_pixel" if context.opset >= _RICH_OPSET else "asymmetric"
    return str(context.attribute("coordinate_transformation_mode", default))


def _rounding(context: Context, found: _Axis) -> str:
    if context.opset < _RICH_OPSET:
        return "ceil" if found.scale < 1 and context.node.op_type == "Resize" else "floor"
    return str(context.attribute("nearest_mode", "round_prefer_floor"))


def _scales(context: Context) -> dict[int, float] | None:
    """Return the scale of each axis that has one, None where sizes are given."""
    index = 2 if context.opset >= _RICH_OPSET else 1
    known = context.known_input(index, "scales")
    if known is None or not known.size:
        return None
    axes = _listed_axes(context, known.size)
    return {axis: float(scale) for axis, scale in zip(axes, known.reshape(-1), strict=True)}


def _listed_axes(context: Context, count: int) -> list[int]:
    rank = context.rank(context.operand())
    axes = context.attribute("axes")
    return list(range(count)) if axes is None else [int(axis) % rank for axis in axes]


def _axes(context: Context, x: ir.Value, scales: dict[int, float] | None) -> list[_Axis]:
    """List the axes that change."""
    before, after = context.dims(x), context.dims(context.y)
    found = []
    for axis, (old, new) in enumerate(zip(before, after, strict=True)):
        if scales is not None and scales.get(axis, 1.0) == 1.0:
            continue
        if scales is None and old == new and old is not None:
            continue
        (size,), (resized,) = context.static_dims(x, (axis,)), context.static_dims(context.y, (axis,))
        found.append(_Axis(axis, size, resized, resized / size if scales is None else scales[axis]))
    return found


def _whole_repeats(context: Context, scales: dict[int, float]) -> list[int]:
    """Return how often pixels of spatial axes are repeated if that is all there is to it (case 1), else nothing."""
    rank = context.rank(context.operand())
    whole = all(scale == round(scale) and scale >= 1 for scale in scales.values())
    plain = scales.get(0, 1.0) == scales.get(1, 1.0) == 1.0
    if rank not in _POOLED_RANKS or not (whole and plain) or _mode(context) != "nearest":
        return []
    x = context.operand()
    fixed = all(isinstance(dim, int) for dim in context.dims(x)[2:])
    if max(scales.values()) == 1.0 or (
        fixed and context.dtype(x) != ir.DataType.FLOAT
    ):  # others may have no AveragePool
        return []
    for scale in {*scales.values()} - {1.0}:
        probe = _Axis(0, 4, 4 * round(scale), scale)
        if _way(context) not in ("asymmetric", "half_pixel", "half_pixel_symmetric"):
            return []
        taken = _rounded(_coordinates(context, probe), _rounding(context, probe))
        if not np.array_equal(np.clip(taken, 0, 3), np.arange(probe.resized) // round(scale)):
            return []
    return [round(scales.get(axis, 1.0)) for axis in range(2, rank)]


def _coordinates(context: Context, found: _Axis) -> Floats:
    """Return where in the old axis each new pixel lies (ONNX operator page of Resize)."""
    x = np.arange(found.resized, dtype=np.float32)
    scale, half, way = np.float32(found.scale), np.float32(0.5), _way(context)
    if way == "align_corners":
        return x * np.float32(found.size - 1) / np.float32(max(found.resized - 1, 1))
    if way == "asymmetric":
        return x / scale
    if way == "tf_half_pixel_for_nn":
        return (x + half) / scale
    if way == "pytorch_half_pixel" and found.resized == 1:
        return np.zeros(1, np.float32)
    centred = (x + half) / scale - half
    if way != "half_pixel_symmetric":
        return centred
    # The middle stays the middle although the new size was rounded.
    shift = found.size / 2 * (1 - found.resized / (found.scale * found.size))
    return centred + np.float32(shift)


def _rounded(source: Floats, rounding: str) -> Floats:
    if rounding == "floor":
        return np.floor(source)
    if rounding == "ceil":
        return np.ceil(source)
    half = np.float32(0.5)
    nearest: Floats = np.ceil(source - half) if rounding == "round_prefer_floor" else np.floor(source + half)
    return nearest


def _weights(context: Context, source: Floats, found: _Axis) -> NDArray[np.float64]:
    """Return the weight of each old pixel in each new one, (new size, old size)."""
    matrix = np.zeros((found.resized, found.size))
    cubic = _mode(context) == "cubic"
    # Linear is the same kernel with two taps; places beyond the ends count as the last pixel.
    for offset in range(-1, 3) if cubic else range(2):
        taps = np.floor(source) + offset
        distance = np.abs(source.astype(np.float64) - taps)
        weight = _cubic(distance, context.attribute("cubic_coeff_a", -0.75)) if cubic else np.maximum(1 - distance, 0)
        if context.attribute("exclude_outside", 0):
            weight = np.where((taps < 0) | (taps >= found.size), 0.0, weight)
        np.add.at(matrix, (np.arange(found.resized), np.clip(taps, 0, found.size - 1).astype(int)), weight)
    total = matrix.sum(axis=1, keepdims=True)
    return matrix / total if context.attribute("exclude_outside", 0) else matrix


def _cubic(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys, "Cubic convolution interpolation for digital image processing" (1981)."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
