"""Pictures inside a page: images and overlays as data URIs, maps as packed numbers that the page colours itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pgc_graph.render.panels import blend, fit_size, heat_panel, image_panel
from pgc_graph.studies.heatmap import Heatmap

__all__ = ["PICTURE_SIDE", "image_uri", "overlay_uri", "pack_maps", "strongest_place"]

PICTURE_SIDE = 144
"""The longer side of a picture in the page, in pixels."""

_QUALITY = 86
_ALPHA = 0.55
_MOST_VALUES = 60_000


def image_uri(picture: NDArray[np.uint8]) -> str:
    """Return an image as a data URI at `PICTURE_SIDE`.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
    """
    return _jpeg(image_panel(picture, fit_size(picture, PICTURE_SIDE)))


def overlay_uri(picture: NDArray[np.uint8], heatmap: Heatmap, table: NDArray[np.uint8]) -> str:
    """Return a heatmap over its image as a data URI at `PICTURE_SIDE`.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        heatmap: What a tensor sees in it.
        table: `(256, 3)` uint8, from `lookup_table`.
    """
    size = fit_size(picture, PICTURE_SIDE)
    return _jpeg(blend(image_panel(picture, size), heat_panel(heatmap, size, table), _ALPHA))


def strongest_place(heatmap: Heatmap) -> str:
    """Say in words where a map is highest, for those who do not see it."""
    values = heatmap.normalised
    if not values.max() > 0:
        return "the same everywhere"
    if not heatmap.spatial:
        return f"strongest in feature {int(values.argmax())}"
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    down = ("top", "middle", "bottom")[min(2, int(3 * (row + 0.5) / values.shape[0]))]
    across = ("left", "centre", "right")[min(2, int(3 * (column + 0.5) / values.shape[1]))]
    return "strongest in the centre" if (down, across) == ("middle", "centre") else f"strongest at the {down} {across}"


def pack_maps(maps: Sequence[Heatmap]) -> list[dict[str, Any]]:
    """Return maps as width, height, lowest and highest value, and their values as base64 of little-endian float32.

    Where all of them together are large, each is made smaller by averaging; lowest and highest stay those of the whole.
    """
    side = 64
    while side > 4 and sum(min(m.values.shape[0], side) * min(m.values.shape[1], side) for m in maps) > _MOST_VALUES:
        side //= 2
    return [_pack(heatmap, side) for heatmap in maps]


def _pack(heatmap: Heatmap, side: int) -> dict[str, Any]:
    finite = heatmap.values[np.isfinite(heatmap.values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    shown = np.nan_to_num(heatmap.values, nan=low, posinf=high, neginf=low)
    height, width = (min(length, side) for length in shown.shape)
    if (height, width) != shown.shape:
        shown = np.asarray(Image.fromarray(shown).resize((width, height), Image.Resampling.BOX))
    data = base64.b64encode(np.ascontiguousarray(shown, "<f4").tobytes()).decode("ascii")
    return {"width": width, "height": height, "min": low, "max": high, "data": data}


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
