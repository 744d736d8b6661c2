"""A chart of an ablation: for each tensor what the score loses without it, side by side for the images with each label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from pgc_graph.errors import OptionError
from pgc_graph.files import atomic_path
from pgc_graph.render.charts import PALETTE, check_chart_path, tick_step
from pgc_graph.render.text import BACKGROUND, FAINT, INK, RULE, draw_text, font
from pgc_graph.studies.ablation.result import AblationResult, GateImpact, Summary

__all__ = ["MOST_TENSORS", "Scale", "draw_impacts", "impact_scale", "save_impacts"]

MOST_TENSORS = 60
"""Tensors that a chart shows, from the most important one."""

_WIDTH = 1000
_MARGIN = 28
_HEADER = 92
_LEGEND = 30
_BAR = 14
_BAR_GAP = 2
_ROW_GAP = 10
_AXIS = 40
_LABEL_WIDTH = 330
_RANK_WIDTH = 40
_NOTE_WIDTH = 90
_MOST_SPREAD = 2.0


@dataclass(frozen=True)
class Scale:
    """The values at the left and the right end of the plot; 0 is not outside."""

    low: float
    high: float

    def place(self, value: float) -> int:
        """Return the x of a value in pixels; beyond the ends, that of the end."""
        left, right = _MARGIN + _LABEL_WIDTH, _WIDTH - _MARGIN - _NOTE_WIDTH
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return left + round((right - left) * share)


def save_impacts(result: AblationResult, path: Path) -> None:
    """Draw an ablation to a PNG file, all or nothing; as for `draw_impacts`.

    Raises:
        OptionError: The file cannot be written or does not end in `.png`.
    """
    check_chart_path(path)
    picture = draw_impacts(result)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def draw_impacts(result: AblationResult) -> Image.Image:
    """Draw the mean Δ of each tensor as a bar, with a line for its 95 % interval, one bar for each label.

    Tensors come in the order of the ranking, the first `MOST_TENSORS` of them. A line that leaves the plot ends in a tip.

    Args:
        result: What an ablation has found.

    Raises:
        OptionError: There is no tensor.
    """
    if not result.gates:
        raise OptionError("no tensor to draw; expected at least one")
    gates = result.gates[:MOST_TENSORS]
    rows = [_summaries(gate) for gate in gates]
    scale = impact_scale([summary for row in rows for summary in row])
    top = _HEADER + (_LEGEND if result.labels else 0)
    heights = [len(row) * (_BAR + _BAR_GAP) + _ROW_GAP for row in rows]
    page = Image.new("RGB", (_WIDTH, top + sum(heights) + _AXIS), BACKGROUND)
    draw = ImageDraw.Draw(page)
    _draw_head(draw, result, len(gates))
    _draw_axis(draw, scale, top, top + sum(heights))
    for gate, row, height in zip(gates, rows, heights, strict=True):
        middle = top + (height - _ROW_GAP) / 2
        draw_text(draw, (_MARGIN, middle), f"{gate.rank}.", font(13), width=_RANK_WIDTH, colour=FAINT)
        name, room = gate.target.node or gate.target.tensor, _LABEL_WIDTH - _RANK_WIDTH - 12
        draw_text(draw, (_MARGIN + _LABEL_WIDTH - 12, middle), name, font(13), width=room, anchor="rm")
        for index, summary in enumerate(row):
            _draw_bar(draw, summary, top + index * (_BAR + _BAR_GAP), scale, PALETTE[index % len(PALETTE)])
        top += height
    return page


def impact_scale(summaries: Sequence[Summary]) -> Scale:
    """Return a scale that holds all means, and all intervals unless they are so wide that the bars would shrink."""
    known = [summary for summary in summaries if math.isfinite(summary.mean)]
    means = [0.0, *(summary.mean for summary in known)]
    ends = [end for summary in known for end in summary.interval if math.isfinite(end)]
    room = _MOST_SPREAD * max(map(abs, means))
    low, high = min([*means, *(max(end, -room) for end in ends)]), max([*means, *(min(end, room) for end in ends)])
    return Scale(low, high) if low < high else Scale(0.0, 1.0)


def _summaries(gate: GateImpact) -> list[Summary]:
    return [part.delta for part in gate.labels] or [gate.delta]


def _draw_head(draw: ImageDraw.ImageDraw, result: AblationResult, shown: int) -> None:
    room = _WIDTH - 2 * _MARGIN
    title = "What the score loses without each tensor"
    draw_text(draw, (_MARGIN, 36), title, font(24, bold=True), width=room)
    some = "" if shown == len(result.gates) else f", the first {shown} of {len(result.gates)} tensors"
    text = f"mean Δ over {result.image_count:,} images, with its 95 % interval{some}; ranked by {result.rank_by}"
    draw_text(draw, (_MARGIN, 68), text, font(15), width=room, colour=FAINT)
    x, middle = float(_MARGIN), _HEADER + _LEGEND // 2 - 4
    for index, label in enumerate(result.labels):
        draw.rectangle((x, middle - 6, x + 12, middle + 6), fill=PALETTE[index % len(PALETTE)])
        left = room + _MARGIN - x - 20
        if left <= 0:
            break
        x += 20 + draw_text(draw, (x + 18, middle), f"{label.label} ({label.images:,})", font(14), width=left) + 16


def _draw_axis(draw: ImageDraw.ImageDraw, scale: Scale, top: int, bottom: int) -> None:
    step = tick_step(scale.high - scale.low)
    for index in range(math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9) + 1):
        x = scale.place(index * step)
        draw.line((x, top - 6, x, bottom), fill=INK if index == 0 else RULE)
        draw_text(draw, (x, bottom + 16), f"{index * step:.4g}", font(14), width=80, anchor="mm", colour=FAINT)


def _draw_bar(
    draw: ImageDraw.ImageDraw, summary: Summary, top: int, scale: Scale, colour: tuple[int, int, int]
) -> None:
    middle, note = top + _BAR // 2, _WIDTH - _MARGIN - _NOTE_WIDTH + 14
    if not math.isfinite(summary.mean):
        draw_text(draw, (note, middle), "no number", font(13), width=_NOTE_WIDTH - 14, colour=FAINT)
        return
    zero, tip = scale.place(0), scale.place(summary.mean)
    draw.rectangle((min(zero, tip), top, max(zero, tip), top + _BAR - 1), fill=colour)
    for end in summary.interval:
        if math.isfinite(end) and end != summary.mean:
            reach = scale.place(end)
            draw.line((tip, middle, reach, middle), fill=INK, width=2)
            if scale.low <= end <= scale.high:
                draw.line((reach, middle - 4, reach, middle + 4), fill=INK, width=2)
            else:  # the line leaves the plot
                out = 7 if end > scale.high else -7
                draw.polygon(((reach + out, middle), (reach, middle - 4), (reach, middle + 4)), fill=INK)
    draw_text(draw, (note, middle), f"{summary.mean:+.4f}", font(13), width=_NOTE_WIDTH - 14)
