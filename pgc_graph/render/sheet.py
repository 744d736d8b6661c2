"""The contact sheet: a line an image, a column a tensor, each cell the map over the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pgc_graph.errors import OptionError
from pgc_graph.render.colormap import lookup_table
from pgc_graph.render.panels import blend, fit_size, heat_panel, image_panel, paste_framed
from pgc_graph.render.style import HeatmapStyle
from pgc_graph.render.text import BACKGROUND, FAINT, draw_text, font
from pgc_graph.studies.heatmap import HeatmapResult

__all__ = ["SheetRow", "draw_sheet", "sheet_row"]

_CELL = 112
_GAP = 8
_MARGIN = 20
_CAPTION = 20
_HEADER = 34
_MOST_PIXELS = 1 << 27


@dataclass(frozen=True, eq=False)
class SheetRow:
    """A line of the sheet: its two captions, `cells` as `(h, w, 3)` uint8, the image itself first, and their titles."""

    caption: str
    score: str
    cells: tuple[NDArray[np.uint8], ...]
    titles: tuple[str, ...]


def sheet_row(result: HeatmapResult, picture: NDArray[np.uint8], caption: str, style: HeatmapStyle) -> SheetRow:
    """Draw the cells of one image, `(H, W, 3)` uint8 RGB of any size."""
    table = lookup_table(style.cmap, invert=style.invert)
    size = fit_size(picture, _CELL)
    original = image_panel(picture, size)
    overlays = (blend(original, heat_panel(heatmap, size, table), style.alpha) for heatmap in result.heatmaps)
    titles = ("", *(heatmap.target.node for heatmap in result.heatmaps))
    return SheetRow(caption, result.score_text, (original, *overlays), titles)


def draw_sheet(rows: tuple[SheetRow, ...]) -> Image.Image:
    """Put lines together, with the tensors' names on top and each image's name and score above its line.

    Raises:
        OptionError: The sheet would be larger than 134 million pixels.
    """
    columns = max(len(row.cells) for row in rows)
    width = 2 * _MARGIN + columns * _CELL + (columns - 1) * _GAP
    line = _CAPTION + _CELL + _GAP
    height = _MARGIN + _HEADER + len(rows) * line + _MARGIN
    if width * height > _MOST_PIXELS:
        raise OptionError(
            f"a sheet of {len(rows)} images and {columns - 1} tensors would be {width}x{height} pixels; expected at most "
            f"{_MOST_PIXELS}: choose fewer with --max-images or --limit"
        )
    page = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(rows[0].titles):
        left = _MARGIN + column * (_CELL + _GAP)
        draw_text(draw, (left, _MARGIN + _HEADER / 2), title, font(12), width=_CELL)
    for index, row in enumerate(rows):
        top = _MARGIN + _HEADER + index * line
        used = draw_text(draw, (_MARGIN, top + _CAPTION / 2), row.caption, font(12, bold=True), width=width / 2)
        room = width - 2 * _MARGIN - used - 12
        draw_text(
            draw, (_MARGIN + used + 12, top + _CAPTION / 2), row.score, font(12), width=max(1, room), colour=FAINT
        )
        for column, cell in enumerate(row.cells):
            left = _MARGIN + column * (_CELL + _GAP) + (_CELL - cell.shape[1]) // 2
            paste_framed(page, cell, (left, top + _CAPTION + (_CELL - cell.shape[0]) // 2))
    return page
