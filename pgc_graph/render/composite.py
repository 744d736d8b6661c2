"""The collage: the strongest tensors of one image on one page, with a legend of the colours."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pgc_graph.render.panels import blend, fit_size, heat_panel, image_panel, paste_framed
from pgc_graph.render.style import CompositeOptions
from pgc_graph.render.text import BACKGROUND, FAINT, INK, RULE, draw_text, font
from pgc_graph.studies.heatmap import Heatmap, HeatmapResult

__all__ = ["COLUMNS", "draw_composite", "tile_cell", "top_heatmaps"]

COLUMNS = 2
_MARGIN = 28
_GUTTER = 28
_PANEL = 272
_PANEL_GAP = 12
_TILE_WIDTH = 2 * _PANEL + _PANEL_GAP
_CAPTION = 54
_HEADER = 120
_THUMBNAIL = 88
_LEGEND = 74
_BADGE = 30


@dataclass(frozen=True, eq=False)
class _Tile:
    """One tensor's place on the page: its rank from 1, its map, and the line under its name."""

    rank: int
    heatmap: Heatmap
    caption: str


def draw_composite(
    result: HeatmapResult,
    image: NDArray[np.uint8],
    table: NDArray[np.uint8],
    *,
    alpha: float,
    options: CompositeOptions,
) -> Image.Image:
    """Draw a header with the image and its score, a tile (heatmap and overlay) for each of the top tensors, a legend.

    Args:
        result: The maps.
        image: `(H, W, 3)` uint8 RGB.
        table: `(256, 3)` uint8, from `lookup_table`.
        alpha: Share of the heatmap in the overlays, in [0, 1].
        options: How many tensors, in which order and arrangement.
    """
    chosen = top_heatmaps(result, options)
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    size = fit_size(image, _PANEL)
    tile_height = _CAPTION + size[1]
    width = 2 * _MARGIN + columns * _TILE_WIDTH + (columns - 1) * _GUTTER
    height = _HEADER + rows * (tile_height + _GUTTER) + _LEGEND
    page = Image.new("RGB", (width, height), BACKGROUND)
    _draw_header(page, result, image, options.title or _standard_title(len(chosen)))
    original = image_panel(image, size)
    for index, heatmap in enumerate(chosen):
        row, column = tile_cell(index, len(chosen), options.layout)
        place = _MARGIN + column * (_TILE_WIDTH + _GUTTER), _HEADER + row * (tile_height + _GUTTER)
        caption = options.captions.get(heatmap.target.tensor, f"intensity {heatmap.intensity:.3f}")
        heat = heat_panel(heatmap, size, table)
        _draw_tile(page, place, _Tile(index + 1, heatmap, caption), (heat, blend(original, heat, alpha)))
    _draw_legend(page, table, _legend_ends(chosen))
    return page


def top_heatmaps(result: HeatmapResult, options: CompositeOptions) -> tuple[Heatmap, ...]:
    """Choose the maps of a collage: the strongest first, or the first in the order given (ties keep that order)."""
    ranked = list(result.heatmaps)
    if options.sort == "intensity":
        ranked.sort(key=lambda heatmap: -heatmap.intensity)
    return tuple(ranked[: options.topk])


def tile_cell(index: int, count: int, layout: str) -> tuple[int, int]:
    """Return row and column of a tile, from 0: line by line (`row`), or one column after the other (`col`)."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    if layout == "col":
        return index % rows, index // rows
    return index // columns, index % columns


def _standard_title(count: int) -> str:
    return "Top feature map" if count == 1 else f"Top {count} feature maps"


def _draw_header(page: Image.Image, result: HeatmapResult, image: NDArray[np.uint8], title: str) -> None:
    size = fit_size(image, _THUMBNAIL)
    top = (_HEADER - _THUMBNAIL) // 2
    paste_framed(page, image_panel(image, size), (_MARGIN, top + (_THUMBNAIL - size[1]) // 2))
    left = _MARGIN + size[0] + 20
    room = page.width - left - _MARGIN
    draw = ImageDraw.Draw(page)
    draw_text(draw, (left, top + 28), title, font(26, bold=True), width=room)
    face = font(16)
    shared = _common_limits(result.heatmaps) is not None
    scale = (
        "all maps share one scale" if shared else "each map is coloured from its own lowest to its own highest value"
    )
    line = f"{result.score_text}  ·  {scale}"
    line = line if face.getlength(line) <= room else result.score_text
    draw_text(draw, (left, top + 62), line, face, width=room, colour=FAINT)


def _draw_tile(
    page: Image.Image, place: tuple[int, int], tile: _Tile, panels: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    left, top = place
    draw = ImageDraw.Draw(page)
    page.paste(INK, (left, top + 4), _badge_mask())
    centre = left + _BADGE / 2, top + 4 + _BADGE / 2
    draw_text(draw, centre, str(tile.rank), font(16, bold=True), width=_BADGE, anchor="mm", colour=BACKGROUND)
    text_left, room = left + _BADGE + 10, _TILE_WIDTH - _BADGE - 10
    draw_text(draw, (text_left, top + 9), tile.heatmap.target.node, font(17), width=room)
    draw_text(draw, (text_left, top + 32), tile.caption, font(15), width=room, colour=FAINT)
    for index, pixels in enumerate(panels):
        paste_framed(page, pixels, (left + index * (pixels.shape[1] + _PANEL_GAP), top + _CAPTION))


@functools.cache
def _badge_mask() -> Image.Image:
    # Pillow draws shapes without smoothing; drawn four times too large and shrunk, the corners are smooth.
    mask = Image.new("L", (4 * _BADGE, 4 * _BADGE), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * _BADGE - 1, 4 * _BADGE - 1), radius=28, fill=255)
    return mask.resize((_BADGE, _BADGE), Image.Resampling.BOX)


def _common_limits(heatmaps: Sequence[Heatmap]) -> tuple[float, float] | None:
    """Return the limits that all maps share, or None."""
    found = {heatmap.limits for heatmap in heatmaps}
    return found.pop() if len(found) == 1 else None


def _legend_ends(heatmaps: Sequence[Heatmap]) -> tuple[str, str]:
    limits = _common_limits(heatmaps)
    return ("Low impact", "High impact") if limits is None else (f"{limits[0]:.4g}", f"{limits[1]:.4g}")


def _draw_legend(page: Image.Image, table: NDArray[np.uint8], ends: tuple[str, str]) -> None:
    width, height = min(480, page.width // 2), 20
    left, top = (page.width - width) // 2, page.height - _LEGEND + 22
    steps = np.rint(np.linspace(0, len(table) - 1, width)).astype(np.intp)
    bar = np.ascontiguousarray(np.broadcast_to(table[steps], (height, width, 3)))
    paste_framed(page, bar, (left, top))
    draw = ImageDraw.Draw(page)
    middle, room = top + height / 2, left - _MARGIN
    draw_text(draw, (left - 14, middle), ends[0], font(17), width=room, anchor="rm")
    draw_text(draw, (left + width + 14, middle), ends[1], font(17), width=room, anchor="lm")
    draw.line((_MARGIN, top - 24, page.width - _MARGIN, top - 24), fill=RULE)
