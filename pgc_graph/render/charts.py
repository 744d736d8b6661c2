"""Bar charts: groups of horizontal bars on one scale, with a line for how far values spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from pgc_graph.errors import OptionError
from pgc_graph.files import atomic_path
from pgc_graph.render.text import BACKGROUND, FAINT, INK, RULE, draw_text, font

__all__ = ["PALETTE", "Bar", "BarGroup", "check_chart_path", "draw_bars", "save_bars", "scale_end", "tick_step"]

PALETTE = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0))
"""Colours that also the colour-blind tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/)."""

_WIDTH = 1000
_MARGIN = 28
_HEADER = 92
_GROUP_TITLE = 34
_BAR = 22
_BAR_GAP = 7
_GROUP_GAP = 18
_AXIS = 40
_LABEL_WIDTH = 300
_NOTE_WIDTH = 210
_TICKS = 6
_MOST_SPREAD = 2.0


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: What stands left of it.
        value: Its length, from 0.
        spread: Where the line that shows the spread ends; not before the value.
        note: What stands right of the plot.
    """

    label: str
    value: float
    spread: float
    note: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.value <= self.spread < math.inf):
            raise OptionError(f"bar {self.label!r} from 0 to {self.value} and {self.spread} cannot be drawn")


@dataclass(frozen=True)
class BarGroup:
    """Bars under one heading; the same place in every group has the same colour."""

    title: str
    bars: tuple[Bar, ...]


def check_chart_path(path: Path) -> None:
    """See that a chart can be written to a file, before time is spent on its numbers.

    Raises:
        OptionError: It does not end in `.png`, its folder does not exist, or it is a folder.
    """
    if path.suffix.lower() != ".png":
        raise OptionError(f"chart file {path} is no PNG; choose a name that ends in .png")
    if path.is_dir() or not path.parent.is_dir():
        raise OptionError(f"cannot write chart {path}; choose a file in an existing folder")


def save_bars(groups: Sequence[BarGroup], path: Path, *, title: str, subtitle: str = "") -> None:
    """Draw groups of bars to a PNG file, all or nothing; as for `draw_bars`.

    Raises:
        OptionError: The file cannot be written or does not end in `.png`; there is nothing to draw.
    """
    check_chart_path(path)
    picture = draw_bars(groups, title=title, subtitle=subtitle)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def draw_bars(groups: Sequence[BarGroup], *, title: str, subtitle: str = "") -> Image.Image:
    """Draw groups of horizontal bars on one common scale that begins at 0.

    Args:
        groups: From top to bottom.
        title: The headline.
        subtitle: The line below it: what bars and lines mean, in which unit.

    Raises:
        OptionError: There is no bar to draw.
    """
    bars = [bar for group in groups for bar in group.bars]
    if not bars:
        raise OptionError("no bar to draw; expected at least one")
    body = sum(_GROUP_TITLE + len(group.bars) * (_BAR + _BAR_GAP) for group in groups) + _GROUP_GAP * len(groups)
    page = Image.new("RGB", (_WIDTH, _HEADER + body + _AXIS), BACKGROUND)
    draw = ImageDraw.Draw(page)
    room = _WIDTH - 2 * _MARGIN
    draw_text(draw, (_MARGIN, 36), title, font(24, bold=True), width=room)
    draw_text(draw, (_MARGIN, 68), subtitle, font(15), width=room, colour=FAINT)
    end = scale_end(bars)
    _draw_axis(draw, end, bottom=_HEADER + body)
    top = _HEADER
    for group in groups:
        draw_text(draw, (_MARGIN, top + _GROUP_TITLE / 2), group.title, font(16, bold=True), width=room)
        top += _GROUP_TITLE
        for index, bar in enumerate(group.bars):
            _draw_bar(draw, bar, top, end, PALETTE[index % len(PALETTE)])
            top += _BAR + _BAR_GAP
        top += _GROUP_GAP
    return page


def scale_end(bars: Sequence[Bar]) -> float:
    """Return the value at the right end: the largest spread, unless it is so far out that the bars would shrink."""
    longest = max(bar.value for bar in bars)
    return min(max(bar.spread for bar in bars), _MOST_SPREAD * longest) or 1.0


def tick_step(end: float) -> float:
    """Return the distance of the ticks, 1, 2 or 5 times a power of ten, so that at most six lie in (0, end]."""
    power = 10.0 ** math.floor(math.log10(end / _TICKS))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * _TICKS >= end)


def _plot() -> tuple[int, int]:
    return _MARGIN + _LABEL_WIDTH, _WIDTH - _MARGIN - _NOTE_WIDTH


def _place(value: float, end: float) -> int:
    left, right = _plot()
    return left + round((right - left) * min(1.0, value / end))


def _draw_axis(draw: ImageDraw.ImageDraw, end: float, *, bottom: int) -> None:
    step = tick_step(end)
    for index in range(int(end / step + 1e-9) + 1):
        x = _place(index * step, end)
        draw.line((x, _HEADER, x, bottom), fill=RULE)
        draw_text(draw, (x, bottom + 16), f"{index * step:.4g}", font(14), width=80, anchor="mm", colour=FAINT)


def _draw_bar(draw: ImageDraw.ImageDraw, bar: Bar, top: int, end: float, colour: tuple[int, int, int]) -> None:
    left, right = _plot()
    middle, tip, reach = top + _BAR // 2, _place(bar.value, end), _place(bar.spread, end)
    draw_text(draw, (left - 12, middle), bar.label, font(15), width=_LABEL_WIDTH - 12, anchor="rm")
    draw.rectangle((left, top, max(left, tip), top + _BAR - 1), fill=colour)
    if bar.spread > bar.value:
        draw.line((tip, middle, reach, middle), fill=INK, width=2)
        if bar.spread <= end:
            draw.line((reach, middle - 5, reach, middle + 5), fill=INK, width=2)
        else:  # the line leaves the plot
            draw.polygon(((reach + 7, middle), (reach, middle - 5), (reach, middle + 5)), fill=INK)
    draw_text(draw, (right + 16, middle), bar.note, font(15), width=_NOTE_WIDTH - 16)
