"""One tensor's picture: the image, the heatmap, and the heatmap over the image, side by side with titles."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pgc_graph.render.colormap import colourise
from pgc_graph.render.text import BACKGROUND, FAINT, RULE, draw_text, font
from pgc_graph.studies.heatmap import Heatmap

__all__ = [
    "PANEL_SIDE",
    "blend",
    "draw_panels",
    "fit_size",
    "heat_panel",
    "image_panel",
    "paste_framed",
]

PANEL_SIDE = 320
"""The longer side of a panel, in pixels."""

_NARROWEST_CELL = 150
_MARGIN = 18
_GAP = 14
_HEADER = 40
_TITLE = 30


def draw_panels(
    heatmap: Heatmap, original: NDArray[np.uint8], table: NDArray[np.uint8], *, alpha: float, header: str
) -> Image.Image:
    """Draw three titled panels, Original, Heatmap and Overlay, under a header line.

    Args:
        heatmap: The map; it is stretched over the whole image.
        original: `(height, width, 3)` uint8 RGB, the image at the panels' size, from `image_panel`.
        table: `(256, 3)` uint8, from `lookup_table`.
        alpha: Share of the heatmap in the overlay, in [0, 1].
        header: The line on top, shortened where it does not fit.
    """
    size = original.shape[1], original.shape[0]
    heat = heat_panel(heatmap, size, table)
    panels = {"Original": original, "Heatmap": heat, "Overlay": blend(original, heat, alpha)}
    cell = max(size[0], _NARROWEST_CELL)
    width = 2 * _MARGIN + 3 * cell + 2 * _GAP
    top = _HEADER + _TITLE
    picture = Image.new("RGB", (width, top + size[1] + _MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw_text(draw, (_MARGIN, _HEADER / 2 + 4), header, font(17, bold=True), width=width - 2 * _MARGIN)
    for index, (title, pixels) in enumerate(panels.items()):
        left = _MARGIN + index * (cell + _GAP) + (cell - size[0]) // 2
        used = draw_text(draw, (left, top - _TITLE / 2), title, font(15), width=cell)
        if title == "Heatmap":
            _draw_range(draw, heatmap, left + size[0], top - _TITLE / 2, size[0] - used - _GAP)
        paste_framed(picture, pixels, (left, top))
    return picture


def fit_size(image: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Return width and height of an image enlarged or shrunk so that its longer side is `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def image_panel(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring an image to a size: small crops keep sharp pixels, everything else is resampled smoothly.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        size: Width and height in pixels.

    Returns:
        `(height, width, 3)` uint8 RGB.
    """
    picture = Image.fromarray(image)
    scale = max(size) / max(picture.size)
    if scale < 2:
        return np.asarray(picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
    # Whole-number enlargement, then a slight reduction by area: every pixel becomes a square of the same width.
    factor = math.ceil(scale)
    enlarged = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return np.asarray(enlarged.resize(size, Image.Resampling.BOX))


def heat_panel(heatmap: Heatmap, size: tuple[int, int], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour a map at a size: places in an image are interpolated (bicubic), strips of features are not.

    Args:
        heatmap: The map.
        size: Width and height in pixels.
        table: `(256, 3)` uint8, from `lookup_table`.

    Returns:
        `(height, width, 3)` uint8 RGB.
    """
    method = Image.Resampling.BICUBIC if heatmap.spatial else Image.Resampling.NEAREST
    # Values are interpolated, not colours: halfway between blue and red a rainbow has other colours than a mixture.
    stretched = Image.fromarray(heatmap.normalised).resize(size, method)
    return colourise(np.asarray(stretched), table)


def blend(image: NDArray[np.uint8], heat: NDArray[np.uint8], alpha: float) -> NDArray[np.uint8]:
    """Mix two pictures of one size: `alpha * heat + (1 - alpha) * image`, rounded."""
    mixed = alpha * heat.astype(np.float32) + (1.0 - alpha) * image.astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


def paste_framed(picture: Image.Image, pixels: NDArray[np.uint8], position: tuple[int, int]) -> None:
    """Paste pixels with their upper left corner at a position, in a hairline frame that shows the edge of white images."""
    left, top = position
    height, width = pixels.shape[:2]
    ImageDraw.Draw(picture).rectangle((left - 1, top - 1, left + width, top + height), outline=RULE)
    picture.paste(Image.fromarray(pixels), position)


def _draw_range(draw: ImageDraw.ImageDraw, heatmap: Heatmap, right: float, middle: float, width: float) -> None:
    # Unless maps share a scale, each has its own; the numbers say which values the two ends of the colours stand for.
    face = font(12)
    finite = heatmap.values[np.isfinite(heatmap.values)]
    low, high = heatmap.limits or ((finite.min(), finite.max()) if finite.size else (0.0, 0.0))
    text = f"{low:.3g} … {high:.3g}" if finite.size else "not finite"
    if face.getlength(text) <= width:
        draw_text(draw, (right, middle), text, face, width=width, anchor="rm", colour=FAINT)
