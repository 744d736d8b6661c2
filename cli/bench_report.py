"""What `pgc-graph bench` shows: a table, profiles and a chart, all from one report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgc_graph.runtime.profile import OperatorProfile
    from pgc_graph.runtime.timing import Latency, TimingReport

__all__ = ["latency_table", "profile_table", "report_text", "save_chart"]

_SHOWN_NODES = 10


def report_text(report: TimingReport) -> str:
    """Write a report as text: how it was measured, the latencies, then the profiles."""
    machine = f"{report.provider}, onnxruntime {report.onnxruntime}, {report.cores} cores"
    head = f"{machine}; milliseconds a run, interleaved, after {report.warmup} rounds to warm up"
    sections = [f"{head}\n\n{latency_table(report.latencies)}", *map(profile_table, report.profiles)]
    return "\n\n".join(sections)


def latency_table(latencies: Sequence[Latency]) -> str:
    """Write latencies as an aligned table; the last column is the median over that of the first model."""
    from pgc_graph.render.table import align

    head = ("threads", "batch", "model", "runs", "p50", "p90", "p99", "mean", "min", "rows/s", "against first")
    rows = [head, *map(_row, latencies)]
    return "\n".join(align(rows, right=(0, 1, *range(3, len(head)))))


def profile_table(profile: OperatorProfile) -> str:
    """Write where the time of one model goes: by operator, then the slowest nodes."""
    from pgc_graph.render.table import align

    inside = f"{profile.operator_milliseconds:.3f} of {profile.run_milliseconds:.3f} ms a run inside operators"
    title = (
        f"{profile.model}, {_setting(profile.threads, profile.batch_size)}: {inside}, profiled over {profile.runs} runs"
    )
    operators = [("operator", "nodes", "ms", "share")] + [
        (item.op_type, str(item.nodes), f"{item.milliseconds:.3f}", f"{item.share:.1%}") for item in profile.operators
    ]
    slowest = profile.nodes[:_SHOWN_NODES]
    nodes = [("node", "operator", "ms", "share")] + [
        (item.node, item.op_type, f"{item.milliseconds:.3f}", f"{item.share:.1%}") for item in slowest
    ]
    rest = len(profile.nodes) - len(slowest)
    more = [f"... and {rest} more nodes (--json lists all)"] if rest else []
    lines = [*align(operators, right=(1, 2, 3)), "", *align(nodes, right=(2, 3)), *more]
    return "\n".join([title, *(f"  {line}".rstrip() for line in lines)])


def save_chart(report: TimingReport, path: Path) -> None:
    """Draw the latencies as bars, one group a setting.

    Raises:
        OptionError: The file cannot be written.
    """
    from pgc_graph.render.charts import Bar, BarGroup, save_bars

    def bar(latency: Latency) -> Bar:
        note = f"{latency.p50:.3g} ms  ({latency.ratio:.2f}x)"
        return Bar(latency.model, latency.p50, max(latency.p50, latency.p90), note)

    settings = groupby(report.latencies, key=lambda latency: (latency.threads, latency.batch_size))
    groups = [BarGroup(_setting(*setting), tuple(map(bar, found))) for setting, found in settings]
    where = f"{report.provider}, onnxruntime {report.onnxruntime}"
    subtitle = f"bars: median in milliseconds; lines: up to the 90th percentile; {where}"
    save_bars(groups, path, title="Latency", subtitle=subtitle)


def _row(latency: Latency) -> tuple[str, ...]:
    times = (latency.p50, latency.p90, latency.p99, latency.mean, latency.min)
    return (
        _threads(latency.threads),
        str(latency.batch_size),
        latency.model,
        str(latency.runs),
        *(f"{value:.3f}" for value in times),
        f"{latency.rows_per_second:,.0f}",
        f"{latency.ratio:.2f}x",
    )


def _setting(threads: int, batch_size: int) -> str:
    noun = "thread" if threads == 1 else "threads"
    return f"{_threads(threads)} {noun}, batch {batch_size}"


def _threads(threads: int) -> str:
    return str(threads) if threads else "all"
