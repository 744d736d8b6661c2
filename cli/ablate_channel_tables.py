"""Tables that `pgc-graph ablate --per-channel` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgc_graph.studies.ablation.channels import ChannelImpact, ChannelResult

__all__ = ["channel_lines"]


def channel_lines(result: ChannelResult, top: int) -> list[str]:
    """Return what an ablation of channels found: tensor by tensor, and the highest ranking channels."""
    from pgc_graph.render.table import align

    base, count = result.baseline, len(result.channels)
    lines = [
        f"Processed {result.image_count} images, {count} channels of {len(result.tensors)} tensors. "
        f"Baseline prob: mean={base.mean:.4f} std={base.std:.4f} min={base.min:.4f} max={base.max:.4f}",
        "",
        f"By tensor (a channel matters from |meanΔ| = {result.threshold:g} on; idle ones change no score):",
    ]
    head = ("channels", "matter", "idle", "mean meanΔ", "largest meanΔ", "run", "tensor")
    rows: list[tuple[str, ...]] = [head]
    for item in result.tensors:
        figures = (f"{item.mean_delta:+.4f}", f"{item.largest:+.4f}")
        rows.append((*map(str, (item.channels, item.matter, item.idle)), *figures, item.way.method, item.target.tensor))
    lines += align(rows, right=range(5))
    shown = result.channels[:top]
    if shown:
        by = "mean Δ" if result.rank_by == "delta" else result.rank_by
        lines += ["", f"The first {len(shown)} of {count} channels (ranked by {by}; interval: 95 %, of the mean):"]
        lines += align([_head(shown[0]), *map(_row, shown)], right=range(len(_head(shown[0])) - 1))
    return lines


def _head(channel: ChannelImpact) -> list[str]:
    logit = [] if channel.logit_delta is None else ["meanΔlogit"]
    quality = [] if channel.quality is None else ["accuracy", "F1", "loss"]
    labels = [f"{part.label} meanΔ" for part in channel.labels]
    return ["rank", "meanΔ", "interval", "stdΔ", "meanProb", *logit, *labels, *quality, "channel", "tensor"]


def _row(channel: ChannelImpact) -> list[str]:
    delta, (low, high), quality = channel.delta, channel.delta.interval, channel.quality
    row = [f"{channel.rank}.", f"{delta.mean:+.4f}", f"[{low:+.4f}, {high:+.4f}]", f"{delta.std:.4f}"]
    row.append(f"{channel.prob.mean:.4f}")
    row += [] if channel.logit_delta is None else [f"{channel.logit_delta.mean:+.4f}"]
    row += [f"{part.delta.mean:+.4f}" for part in channel.labels]
    row += [] if quality is None else [f"{value:.4f}" for value in (quality.accuracy, quality.f1, quality.loss)]
    return [*row, f"{channel.channel}", channel.tensor]
