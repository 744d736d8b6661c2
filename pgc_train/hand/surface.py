"""Tapered capsules to a depth map: the visible surface of a hand, seen along z.

Each capsule is a sphere swept along a line with a radius that changes linearly. The visible point of a pixel is the sphere
along the line that reaches highest there, which has a closed form for a constant radius and is close for a slight taper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Capsules", "Surface", "render_capsules"]

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

_FAR = np.float32(-1e5)


@dataclass(frozen=True, eq=False)
class Capsules:
    """Parts of a hand.

    Attributes:
        start, end: Ends of the axes, (N, 3); x right, y down, z towards the viewer; pixels once framed.
        radius_start, radius_end: (N,).
        kind: What each part is, (N,), see `pgc_train.hand.body`.
        palmar: Direction that the inner side of the part faces, (N, 3).
        blend: How softly a part melts into those before it, (N,), same unit as the radii.
    """

    start: Array
    end: Array
    radius_start: Array
    radius_end: Array
    kind: npt.NDArray[np.int64]
    palmar: Array
    blend: Array


@dataclass(frozen=True, eq=False)
class Surface:
    """What is visible in each pixel of a square picture, all (S, S).

    Attributes:
        depth: Height towards the viewer in pixels; meaningless outside of `mask`.
        part: Index of the visible capsule, -1 where there is none.
        along: Position on that capsule's axis, 0 at its start, 1 at its end.
        mask: Where there is any part.
    """

    depth: Floats
    part: npt.NDArray[np.int16]
    along: Floats
    mask: npt.NDArray[np.bool_]


def render_capsules(capsules: Capsules, size: int) -> Surface:
    """Find the visible surface of capsules given in pixels of a size x size picture."""
    depth = np.full((size, size), _FAR, np.float32)
    part = np.full((size, size), -1, np.int16)
    along = np.zeros((size, size), np.float32)
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    for index in range(len(capsules.kind)):
        window = _window(capsules, index, size)
        if window is not None:
            rows, columns = window
            height, where = _capsule_height(capsules, index, centres[columns][None, :], centres[rows][:, None])
            old = depth[rows, columns]
            visible = height > old
            part[rows, columns][visible] = index
            along[rows, columns][visible] = where[visible]
            depth[rows, columns] = _soft_maximum(old, height, np.float32(capsules.blend[index]))
    return Surface(depth, part, along, part >= 0)


def _window(capsules: Capsules, index: int, size: int) -> tuple[slice, slice] | None:
    """Rows and columns that a capsule can touch, or None where it lies outside."""
    radius = max(capsules.radius_start[index], capsules.radius_end[index])
    ends = np.stack([capsules.start[index, :2], capsules.end[index, :2]])
    low = np.clip(np.floor(ends.min(axis=0) - radius), 0, size).astype(int)
    high = np.clip(np.ceil(ends.max(axis=0) + radius), 0, size).astype(int)
    if (high <= low).any():
        return None
    return slice(low[1], high[1]), slice(low[0], high[0])


def _capsule_height(capsules: Capsules, index: int, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Height of one capsule over each pixel (very low outside of it), and the position on its axis."""
    (start_x, start_y, start_z), (end_x, end_y, end_z) = capsules.start[index], capsules.end[index]
    first = np.float32(capsules.radius_start[index])
    change = np.float32(capsules.radius_end[index]) - first
    length = max(float(np.hypot(end_x - start_x, end_y - start_y)), 1e-3)
    cosine, sine = np.float32((end_x - start_x) / length), np.float32((end_y - start_y) / length)
    rise = (end_z - start_z) / length
    lean, inverse = np.float32(rise / np.hypot(1.0, rise)), np.float32(1.0 / length)
    across_x, across_y = x - np.float32(start_x), y - np.float32(start_y)
    forward = across_x * cosine + across_y * sine
    aside = across_x * -sine + across_y * cosine
    aside *= aside
    radius = first + change * np.clip(forward * inverse, 0.0, 1.0)
    reach = np.sqrt(np.maximum(radius * radius - aside, 0.0))
    where = np.clip((forward + reach * lean) * inverse, 0.0, 1.0)
    radius = first + change * where
    off = forward - where * np.float32(length)
    square = radius * radius - aside - off * off
    height = np.float32(start_z) + where * np.float32(end_z - start_z) + np.sqrt(np.maximum(square, 0.0))
    return np.where(square > 0, height, _FAR), where


def _soft_maximum(first: Floats, second: Floats, width: np.float32) -> Floats:
    """Maximum with a rounded corner of the given width (polynomial smooth maximum)."""
    corner = np.maximum(width - np.abs(first - second), 0.0)
    return np.asarray(np.maximum(first, second) + corner * corner / (4 * width), np.float32)
