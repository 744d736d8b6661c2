"""Text in pictures: one font family, the same pixels on every machine."""

from __future__ import annotations

import functools
from pathlib import Path

import matplotlib
from PIL import ImageDraw, ImageFont

__all__ = ["BACKGROUND", "FAINT", "INK", "RULE", "draw_text", "font", "shorten"]

BACKGROUND = (255, 255, 255)
INK = (28, 30, 34)
FAINT = (104, 109, 118)
RULE = (206, 209, 214)


@functools.cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which comes with matplotlib, at a height in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    # The basic engine: whether the other one is installed must not change the pixels.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def shorten(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut a text from the left, behind an ellipsis, until it fits; the end of a node's name tells most."""
    if face.getlength(text) <= width:
        return text
    for start in range(1, len(text)):
        cut = f"…{text[start:]}"
        if face.getlength(cut) <= width:
            return cut
    return "…"


def draw_text(
    draw: ImageDraw.ImageDraw,
    position: tuple[float, float],
    text: str,
    face: ImageFont.FreeTypeFont,
    *,
    width: float,
    anchor: str = "lm",
    colour: tuple[int, int, int] = INK,
) -> float:
    """Write one line, shortened to a width, and return how wide it is.

    Args:
        draw: What to draw on.
        position: x and y of the anchor.
        text: The line.
        face: From `font`.
        width: Most pixels that the line may take.
        anchor: Pillow's code for where the position is in the line: `lm` left middle, `mm` centre, `rm` right middle.
        colour: RGB.
    """
    shown = shorten(text, face, width)
    draw.text(position, shown, fill=colour, font=face, anchor=anchor)
    return float(face.getlength(shown))
