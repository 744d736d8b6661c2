"""A chart of learned gates: a bar a tensor, and below it the score against the share of gates kept."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from pgc_graph.files import atomic_path
from pgc_graph.render.charts import PALETTE, Bar, BarGroup, check_chart_path, draw_bars
from pgc_graph.render.text import BACKGROUND, FAINT, INK, RULE, draw_text, font
from pgc_graph.studies.learning.result import CurvePoint, LearningResult

__all__ = ["MOST_TENSORS", "draw_gates", "save_gates"]

MOST_TENSORS = 60
"""Tensors that a chart shows, from the most open one."""

_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 110, 60, 70, 60


def save_gates(result: LearningResult, path: Path) -> None:
    """Draw learned gates to a PNG file, all or nothing.

    Raises:
        OptionError: The file cannot be written or does not end in `.png`.
    """
    check_chart_path(path)
    picture = draw_gates(result)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def draw_gates(result: LearningResult) -> Image.Image:
    """Draw the mean of each tensor's gates as a bar, and the trade-off curve below the bars."""
    bars = tuple(
        Bar(gate.target.node or gate.target.tensor, gate.mean, gate.mean, f"{gate.kept} of {len(gate.values)} open")
        for gate in result.gates[:MOST_TENSORS]
    )
    subtitle = (
        f"mean of each tensor's gates; {result.kept} of {result.total} above 0, {result.settings.penalty} penalty"
    )
    above = draw_bars([BarGroup(f"λ = {result.settings.sparsity:g}", bars)], title="Learned gates", subtitle=subtitle)
    below = _draw_curve(result, above.width)
    page = Image.new("RGB", (above.width, above.height + below.height), BACKGROUND)
    page.paste(above, (0, 0))
    page.paste(below, (0, above.height))
    return page


def _score(point: CurvePoint) -> float:
    if point.f1 is not None:
        return point.f1
    return point.agreement if point.accuracy is None else point.accuracy


def _draw_curve(result: LearningResult, width: int) -> Image.Image:
    page = Image.new("RGB", (width, _HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(page)
    ungated = result.ungated
    name = "F1" if ungated.f1 is not None else "accuracy" if ungated.accuracy is not None else "agreement"
    draw_text(draw, (28, 28), f"{name} against the share of gates kept", font(18, bold=True), width=width - 56)

    def place(share: float, score: float) -> tuple[int, int]:
        x = _LEFT + round((width - _LEFT - _RIGHT) * share)
        return x, _HEIGHT - _BOTTOM - round((_HEIGHT - _TOP - _BOTTOM) * score)

    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.line((*place(0, tick), *place(1, tick)), fill=RULE)
        draw.line((*place(tick, 0), *place(tick, 1)), fill=RULE)
        x, y = place(0, tick)
        draw_text(draw, (x - 12, y), f"{tick:g}", font(14), width=60, anchor="rm", colour=FAINT)
        x, y = place(tick, 0)
        draw_text(draw, (x, y + 18), f"{tick:g}", font(14), width=60, anchor="mm", colour=FAINT)
    level = place(0, _score(ungated))[1]
    draw.line((_LEFT, level, width - _RIGHT, level), fill=INK)
    draw_text(draw, (_LEFT + 8, level - 10), "no gates", font(13), width=120, colour=INK)
    points = [place(point.kept / result.total, _score(point)) for point in result.curve]
    draw.line(points, fill=PALETTE[0], width=3)
    for x, y in points:
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=PALETTE[0])
    return page
