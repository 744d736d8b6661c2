"""The ranking of an ablation as an SVG chart: means and their 95 % intervals, over all images and for each label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from pgc_graph.render.charts import tick_step
from pgc_graph.render.report.tables import interval_text
from pgc_graph.studies.ablation.result import AblationResult, GateImpact, Summary

__all__ = ["MOST_LABELS", "impact_plot", "short_names"]

MOST_LABELS = 6
"""Labels that charts and tables tell apart."""

_MOST_ROWS = 40
_LEFT, _RIGHT, _WIDTH = 12.0, 20.0, 640.0
_TOP, _BOTTOM, _LINE, _NAME = 36.0, 34.0, 9.0, 22.0


def short_names(names: Sequence[str]) -> list[str]:
    """Return names without the parts that all of them begin with, and without doubled ones (`block/block.2`)."""
    parts = [name.strip("/").split("/") for name in names]
    shared = 0
    while parts and all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return ["/".join(part[shared:]) for part in parts]


def impact_plot(result: AblationResult) -> str:
    """Return the chart as an `<svg>` element: a row a tensor, at most 40, a mark for all images and one for each label."""
    gates = result.gates[:_MOST_ROWS]
    labels = [label.label for label in result.labels[:MOST_LABELS]]
    shown = [[impact.delta, *(item.delta for item in impact.labels[:MOST_LABELS])] for impact in gates]
    step = _NAME + _LINE * (len(labels) + 1) + 8
    height = _TOP + step * len(gates) + _BOTTOM
    low, high = _range([summary for row in shown for summary in row])
    scale = (_WIDTH - _LEFT - _RIGHT) / (high - low)

    def across(value: float) -> float:
        return _LEFT + (value - low) * scale

    parts = [_axis(low, high, across_zero=across(0.0), scale=scale, height=height)]
    names = short_names([impact.target.node for impact in gates])
    for index, (impact, row) in enumerate(zip(gates, shown, strict=True)):
        top = _TOP + step * index
        parts.append(_row_head(impact, names[index], top, step, is_odd=index % 2 == 1))
        for series, summary in enumerate(row):
            y = top + _NAME + (series + 0.5) * _LINE
            name = "all images" if series == 0 else labels[series - 1]
            parts.append(_mark(summary, (y, across(summary.mean), scale), series, name))
    parts.append(_legend(["all images", *labels] if labels else ["all images"]))
    label = f"Mean Δ and 95 % interval of {len(gates)} tensors; the table below holds the numbers"
    return (
        f'<svg id="impact-svg" class="chart" role="img" aria-label="{escape(label)}" data-name="ablation" '
        f'viewBox="0 0 {_WIDTH:.0f} {height:.0f}" data-width="{_WIDTH:.0f}" data-height="{height:.0f}">'
        f"{''.join(parts)}</svg>"
    )


def _range(summaries: Sequence[Summary]) -> tuple[float, float]:
    ends = [0.0]
    for summary in summaries:
        ends += [value for value in (summary.mean, *summary.interval) if math.isfinite(value)]
    low, high = min(ends), max(ends)
    room = 0.04 * (high - low) or 0.5
    return low - (room if low < 0 else 0), high + room


def _axis(low: float, high: float, *, across_zero: float, scale: float, height: float) -> str:
    step = tick_step((high - low) / 2)
    parts = []
    for index in range(math.ceil(low / step), math.floor(high / step) + 1):
        x = across_zero + index * step * scale
        tick = f"{index * step:g}".replace("-", "−")
        kind = "zero" if index == 0 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP:.1f}" y2="{height - _BOTTOM:.1f}"/>'
            f'<text class="tick" x="{x:.1f}" y="{height - _BOTTOM + 18:.1f}" text-anchor="middle">{tick}</text>'
        )
    return "".join(parts)


def _row_head(impact: GateImpact, name: str, top: float, step: float, *, is_odd: bool) -> str:
    stripe = f'<rect class="stripe" x="0" y="{top:.1f}" width="{_WIDTH:.0f}" height="{step:.1f}"/>'
    shown = name if len(name) <= 44 else "…" + name[-43:]
    return (stripe if is_odd else "") + (
        f'<text class="name" x="{_LEFT:.1f}" y="{top + 17:.1f}">{impact.rank}. {escape(shown)}'
        f"<title>{escape(impact.target.tensor)}</title></text>"
    )


def _mark(summary: Summary, place: tuple[float, float, float], series: int, name: str) -> str:
    y, x, scale = place
    if not math.isfinite(summary.mean):
        return ""
    low, high = (end if math.isfinite(end) else summary.mean for end in summary.interval)
    start, end = x + (low - summary.mean) * scale, x + (high - summary.mean) * scale
    title = f"{name}: {summary.mean:+.4f} {interval_text(summary)}".strip()
    return (
        f'<g class="series-{series}"><title>{escape(title)}</title>'
        f'<line class="interval" x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>{_symbol(series, x, y)}</g>'
    )


def _symbol(series: int, x: float, y: float) -> str:
    # Form tells series apart where colour does not.
    if series == 0:
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if series % 3 == 1:
        return f'<rect class="mark" x="{x - 3.4:.1f}" y="{y - 3.4:.1f}" width="6.8" height="6.8"/>'
    if series % 3 == 2:
        return f'<path class="mark" d="M{x:.1f} {y - 4.4:.1f}l4.4 4.4l-4.4 4.4l-4.4 -4.4z"/>'
    return f'<path class="mark" d="M{x:.1f} {y - 4.2:.1f}l4.4 7.4h-8.8z"/>'


def _legend(names: Sequence[str]) -> str:
    parts, x = [], _LEFT
    for series, name in enumerate(names):
        shown = name if len(name) <= 18 else name[:17] + "…"
        parts.append(
            f'<g class="series-{series}">{_symbol(series, x + 6, 18)}'
            f'<text class="name" x="{x + 16:.1f}" y="23">{escape(shown)}</text></g>'
        )
        x += 40 + 9.5 * len(shown)
    return "".join(parts)
