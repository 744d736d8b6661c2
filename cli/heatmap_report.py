"""What `pgc-graph heatmap` says: lists of tensors, lines on what was saved, and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pgc_cli.heatmap_method import method_fields

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import Target
    from pgc_graph.render.heatmaps import SavedHeatmaps
    from pgc_graph.studies.heatmap import HeatmapResult

__all__ = ["document", "image_line", "listing", "saved_lines"]


def listing(targets: Sequence[Target], as_json: bool) -> str:
    """List tensors, as text or JSON."""
    if as_json:
        from pgc_graph.results import to_json

        return to_json({"targets": tuple(targets)})
    return "\n".join(f"[{i:03d}] {t.kind or t.op_type} {t.node} -> {t.tensor}" for i, t in enumerate(targets))


def saved_lines(result: HeatmapResult, saved: SavedHeatmaps) -> str:
    """Say what was saved, and the score of the image."""
    pairs = zip(result.heatmaps, saved.paths, strict=True)
    lines = [f"[OK] Saved {heatmap.target.node} -> {path}" for heatmap, path in pairs]
    lines.append(f"Model {result.score_text}")
    if saved.composite_path is not None:
        lines.append(f"[COMPOSITE] Saved top-{saved.composite_count} heatmaps -> {saved.composite_path}")
    return "\n".join(lines)


def image_line(image: Path, result: HeatmapResult, saved: SavedHeatmaps, folder: Path) -> str:
    """Say in one line what was saved of one of several images."""
    collage = "" if saved.composite_path is None else f" and a composite of {saved.composite_count}"
    return f"[OK] {image}: {len(saved.paths)} tensors{collage}, {result.score_text} -> {folder}"


def document(model_path: Path, image: Path, result: HeatmapResult, saved: SavedHeatmaps) -> dict[str, object]:
    """Return what was drawn of one image, for JSON."""
    heatmaps = [
        {
            **dataclasses.asdict(heatmap.target),
            "path": path,
            "shape": heatmap.values.shape,
            "intensity": heatmap.intensity,
            "minimum": float(heatmap.values.min()),
            "maximum": float(heatmap.values.max()),
        }
        for heatmap, path in zip(result.heatmaps, saved.paths, strict=True)
    ]
    return {
        "model": model_path,
        "image": image,
        "provider": result.provider,
        **method_fields(result),
        "score_name": result.score_name,
        "scores": result.scores,
        "labels": result.labels,
        "composite": saved.composite_path,
        "heatmaps": heatmaps,
        "skipped": result.skipped,
    }
