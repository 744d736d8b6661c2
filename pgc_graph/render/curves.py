"""Line charts: curves over one horizontal axis, drawn to a PNG file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from pgc_graph.errors import OptionError
from pgc_graph.files import atomic_path
from pgc_graph.render.charts import PALETTE, check_chart_path, tick_step
from pgc_graph.render.text import BACKGROUND, FAINT, INK, RULE, draw_text, font

__all__ = ["Curve", "draw_curves", "save_curves"]

_WIDTH, _HEIGHT = 1000, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 200, 100, 68
_MARKED = 40  # points up to which each is marked


@dataclass(frozen=True)
class Curve:
    """A line through points `(x, y)`, in order of x; a y that is no number interrupts it."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Scale:
    """Where values are on the page: x from 0 to `right`, y from `low` to `high`."""

    right: float
    low: float
    high: float

    def place(self, x: float, y: float) -> tuple[int, int]:
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + round(width * x / self.right), _TOP + round(height * (self.high - y) / (self.high - self.low))


def save_curves(curves: Sequence[Curve], path: Path, *, title: str, subtitle: str = "", axis: str = "") -> None:
    """Draw curves to a PNG file, all or nothing; as for `draw_curves`.

    Raises:
        OptionError: The file cannot be written or does not end in `.png`; there is nothing to draw.
    """
    check_chart_path(path)
    picture = draw_curves(curves, title=title, subtitle=subtitle, axis=axis)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def draw_curves(curves: Sequence[Curve], *, title: str, subtitle: str = "", axis: str = "") -> Image.Image:
    """Draw curves on one scale; what lies in [0, 1] is drawn from 0 to 1.

    Args:
        curves: Each has a colour of its own, up to six.
        title: The headline.
        subtitle: The line below it.
        axis: What x is.

    Raises:
        OptionError: There is no point to draw.
    """
    finite = [point for curve in curves for point in curve.points if all(map(math.isfinite, point))]
    if not finite:
        raise OptionError("no point to draw; expected at least one with finite values")
    values = [y for _, y in finite]
    scale = _Scale(max(x for x, _ in finite) or 1.0, min(0.0, *values), max(1.0, *values))
    page = Image.new("RGB", (_WIDTH, _HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(page)
    draw_text(draw, (28, 36), title, font(24, bold=True), width=_WIDTH - 56)
    draw_text(draw, (28, 68), subtitle, font(15), width=_WIDTH - 56, colour=FAINT)
    _draw_axes(draw, scale, axis)
    for index, curve in enumerate(curves):
        colour = PALETTE[index % len(PALETTE)]
        _draw_curve(draw, curve, scale, colour)
        place = (_WIDTH - _RIGHT + 20, _TOP + 14 + 26 * index)
        draw.rectangle((place[0], place[1] - 6, place[0] + 12, place[1] + 6), fill=colour)
        draw_text(draw, (place[0] + 20, place[1]), curve.label, font(15), width=_RIGHT - 48)
    return page


def _draw_axes(draw: ImageDraw.ImageDraw, scale: _Scale, axis: str) -> None:
    step = tick_step(scale.high - scale.low)
    for index in range(math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9) + 1):
        left, y = scale.place(0, index * step)
        draw.line((left, y, scale.place(scale.right, 0)[0], y), fill=INK if not index else RULE)
        draw_text(draw, (left - 10, y), f"{index * step:.4g}", font(14), width=70, anchor="rm", colour=FAINT)
    step = tick_step(scale.right)
    for index in range(int(scale.right / step + 1e-9) + 1):
        x, bottom = scale.place(index * step, scale.low)
        draw.line((x, bottom, x, bottom + 5), fill=RULE)
        draw_text(draw, (x, bottom + 18), f"{index * step:.4g}", font(14), width=80, anchor="mm", colour=FAINT)
    middle = (_LEFT + _WIDTH - _RIGHT) // 2
    draw_text(draw, (middle, _HEIGHT - 20), axis, font(15), width=_WIDTH - _LEFT - _RIGHT, anchor="mm")


def _draw_curve(draw: ImageDraw.ImageDraw, curve: Curve, scale: _Scale, colour: tuple[int, int, int]) -> None:
    places = [scale.place(x, y) if math.isfinite(y) else None for x, y in curve.points]
    for first, second in itertools.pairwise(places):
        if first is not None and second is not None:
            draw.line((*first, *second), fill=colour, width=3)
    for place in places if len(places) <= _MARKED else ():
        if place is not None:
            draw.ellipse((place[0] - 4, place[1] - 4, place[0] + 4, place[1] + 4), fill=colour)
