"""What `pgc-graph prune` says about the model before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgc_graph.runtime.shrinkage import Shrinkage

__all__ = ["comparison_text"]


def comparison_text(found: Shrinkage) -> str:
    """Write parameters, MACs and latency of both versions as aligned lines."""
    from pgc_graph.render.table import align

    before, after = found.before, found.after
    rows = [
        ("", "before", "after", "left"),
        ("parameters", f"{before.parameters:,}", f"{after.parameters:,}", _share(after.parameters, before.parameters)),
        ("MACs", f"{before.macs:,}", f"{after.macs:,}", _share(after.macs, before.macs)),
    ]
    if before.milliseconds is not None and after.milliseconds is not None:
        times = (f"{before.milliseconds:.3f} ms", f"{after.milliseconds:.3f} ms")
        rows.append(("latency", *times, _share(after.milliseconds, before.milliseconds)))
    lines = align(rows, right=(1, 2, 3))
    if found.runs:
        lines.append(f"(latency: median of {found.runs} interleaved runs on one thread)")
    return "\n".join(lines)


def _share(after: float, before: float) -> str:
    return f"{after / before:.1%}" if before else "-"
