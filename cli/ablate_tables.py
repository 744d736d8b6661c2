"""Tables that `pgc-graph ablate` prints below the ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgc_graph.studies.ablation import AblationResult
    from pgc_graph.studies.ablation.result import LabelBaseline, LabelImpact, Quality

__all__ = ["label_table", "stats_table"]


def label_table(result: AblationResult) -> list[str]:
    """Return what each tensor does to the images with each label, side by side; nothing without labels."""
    from pgc_graph.render.table import align

    if not result.labels:
        return []
    head, base = ["rank"], [""]
    for label in result.labels:
        head += [f"{label.label} meanΔ", *(["accuracy"] if label.accuracy is not None else [])]
        base += [f"n={label.images}", *_accuracy(label)]
    head += [] if result.quality is None else ["accuracy", "F1", "loss"]
    rows = [[*head, "tensor"], [*base, *_quality(result.quality), "(none switched off)"]]
    for impact in result.gates:
        row = [f"{impact.rank:02d}."]
        for part in impact.labels:
            row += [f"{part.delta.mean:+.4f}", *_accuracy(part)]
        rows.append([*row, *_quality(impact.quality), impact.target.tensor])
    return ["By label, without each tensor:", *align(rows, right=range(len(head)))]


def stats_table(result: AblationResult) -> list[str]:
    """Return how the Δ of each tensor spreads over the images."""
    from pgc_graph.render.table import align

    head = ("rank", "meanΔ", "95 % interval", "min", "5 %", "25 %", "50 %", "75 %", "95 %", "max", "tensor")
    rows: list[tuple[str, ...]] = [head]
    for impact in result.gates:
        delta, (low, high), shares = impact.delta, impact.delta.interval, impact.delta.quantiles
        spread = (delta.min, shares.q05, shares.q25, shares.q50, shares.q75, shares.q95, delta.max)
        figures = [f"{delta.mean:+.4f}", f"[{low:+.4f}, {high:+.4f}]", *(f"{value:+.4f}" for value in spread)]
        rows.append((f"{impact.rank:02d}.", *figures, impact.target.tensor))
    return [
        "Δ over the images (interval: of the mean, normal approximation):",
        *align(rows, right=range(len(head) - 1)),
    ]


def _accuracy(part: LabelBaseline | LabelImpact) -> list[str]:
    return [] if part.accuracy is None else [f"{part.accuracy:.4f}"]


def _quality(quality: Quality | None) -> list[str]:
    return [] if quality is None else [f"{value:.4f}" for value in (quality.accuracy, quality.f1, quality.loss)]
