"""Importance as text: tables of tensors and channels, and how the ranking compares with the ablation's."""

from __future__ import annotations

from pgc_graph.render.table import align
from pgc_graph.studies.importance.result import ImportanceResult

__all__ = ["channel_table", "comparison_lines", "tensor_table"]


def tensor_table(result: ImportanceResult) -> list[str]:
    """Return the ranking of the tensors, with the ablation's mean Δ where there is one."""
    method = f"integrated over the gate at {result.steps} points" if result.steps else "first order"
    compared = result.comparison is not None
    head = ["rank", "estimate", "95 % interval", "mean |.|", *(["true Δ"] if compared else []), "channels", "tensor"]
    rows = [head]
    for index, item in enumerate(result.tensors):
        low, high = item.estimate.interval
        true = [] if result.comparison is None else [f"{result.comparison.deltas[index]:+.4f}"]
        figures = [f"{item.estimate.mean:+.4f}", f"{low:+.4f} .. {high:+.4f}", f"{item.absolute.mean:.4f}", *true]
        channels = "?" if item.channels is None else str(item.channels)
        rows.append([f"{item.rank:02d}.", *figures, channels, item.target.tensor])
    title = f"Estimated Δ of the {result.score} without each tensor, {method}, over {result.image_count} images:"
    return [title, *align(rows, right=range(len(head) - 1))]


def channel_table(result: ImportanceResult, top: int) -> list[str]:
    """Return the first so many channels of the ranking."""
    head = ["rank", "estimate", "mean |.|", "channel", "tensor"]
    rows = [
        [f"{item.rank}.", f"{item.estimate:+.5f}", f"{item.absolute:.5f}", str(item.channel), item.tensor]
        for item in result.channels[:top]
    ]
    title = f"Channels, {min(top, len(result.channels))} of {len(result.channels)}:"
    return [title, *align([head, *rows], right=range(4))]


def comparison_lines(result: ImportanceResult) -> list[str]:
    """Return how the estimates rank beside the ablation; nothing where none was run."""
    found = result.comparison
    if found is None:
        return []
    lines = [f"Rank correlation with the ablation (Spearman): {found.tensors:+.3f} over {len(result.tensors)} tensors"]
    if found.channels is not None:
        where = f"{found.channel_count} channels switched off one by one, on {found.channel_images} images"
        lines.append(f"First order against truth: {found.channels:+.3f} over {where}")
    times = f"{found.estimate_seconds:.2f} s against {found.ablation_seconds:.2f} s"
    return [*lines, f"Time: {times}, a ratio of {found.speed_ratio:.2f} (opening sessions included)"]
