"""`pgc-graph ablate --per-channel` and `--cumulative`: channels one by one, and removals that add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pgc_cli.ablate_options import MeasureRequest, Study
    from pgc_cli.ablate_removal_options import RemovalRequest
    from pgc_graph.sources import ImageSource
    from pgc_graph.studies.ablation import AblationResult
    from pgc_graph.studies.ablation.channels import ChannelResult
    from pgc_graph.studies.ablation.cumulative import CumulativePoint, CumulativeResult

__all__ = ["curve_lines", "run_channels", "run_curve"]

Stop = Callable[[], bool]


def run_channels(study: Study, source: ImageSource, measure: MeasureRequest, removal: RemovalRequest) -> bool:
    """Change channels one by one, print what is found, and say whether that was interrupted."""
    from pgc_cli.ablate_channel_tables import channel_lines
    from pgc_cli.interrupt import interruptible
    from pgc_cli.progress import note
    from pgc_graph.results import to_json

    with interruptible() as stop:
        result = _channels(study, source, measure, removal, stop)
        curve = None if result.interrupted else run_curve(study, source, measure, removal, result, stop)
    if result.skipped_count:
        note(f"Skipped {result.skipped_count} unreadable images")
    for skip in result.skipped_tensors:
        note(f"Skipped {skip.subject}: it {skip.reason}")
    if study.as_json:
        extra = {} if curve is None else {"cumulative": curve}
        click.echo(to_json(result, model=study.model_path, **extra))
    else:
        click.echo("\n".join([*channel_lines(result, removal.top), *curve_lines(curve)]))
    if result.interrupted:
        note(f"interrupted: the figures cover {result.image_count} of {len(source)} images")
    return result.interrupted or (curve is not None and curve.interrupted)


def _channels(
    study: Study, source: ImageSource, measure: MeasureRequest, removal: RemovalRequest, stop: Stop
) -> ChannelResult:
    from pgc_cli.progress import note, progress_bar
    from pgc_graph.runtime.providers import choose_provider
    from pgc_graph.studies.ablation.channels import ablate_channels

    provider, begun = choose_provider(study.runtime.provider), list[int]()
    with progress_bar("images") as advance:

        def tell(done: int) -> None:
            if not begun:
                note(f"[INFO] provider: {provider}")
            begun.append(done)
            advance(done, len(source))

        result = ablate_channels(
            study.model,
            source,
            study.targets,
            preprocess=study.preprocess,
            intervention=study.intervention,
            measure=measure.read(study.model, source),
            runtime=study.runtime,
            threshold=removal.threshold,
            on_images=tell,
            stop=stop,
        )
    if not result.image_count:
        raise KeyboardInterrupt
    return result


def run_curve(
    study: Study,
    source: ImageSource,
    measure: MeasureRequest,
    removal: RemovalRequest,
    result: AblationResult | ChannelResult,
    stop: Stop,
) -> CumulativeResult | None:
    """Remove what was ranked one after another, where that is asked for, and draw the curve."""
    from pgc_cli.progress import note, progress_bar
    from pgc_graph.studies.ablation.cumulative import removal_order, remove_cumulatively

    if not removal.cumulative:
        return None
    with progress_bar("removals") as advance:
        curve = remove_cumulatively(
            study.model,
            source,
            removal_order(result),
            study.targets,
            preprocess=study.preprocess,
            intervention=study.intervention,
            measure=measure.read(study.model, source),
            runtime=study.runtime,
            steps=removal.steps,
            on_images=lambda done: advance(done, len(source)),
            stop=stop,
        )
    if curve.interrupted:
        note(f"interrupted: the removals cover {curve.images} of {len(source)} images")
    if removal.chart is not None and curve.images:
        _draw(curve, study.model_path, removal.chart)
        note(f"[INFO] curve: {removal.chart}")
    return curve


def curve_lines(curve: CumulativeResult | None) -> list[str]:
    """Return the table of a curve and the area under it; nothing where there is none."""
    from pgc_graph.render.table import align

    if curve is None or not curve.images:
        return []
    head: list[str] = ["removed", "mean score", "meanΔ"]
    head += ["accuracy", "F1", "loss"] if curve.points[0].quality is not None else []
    rows = [[*head, "last removed"], *map(_row, curve.points)]
    area = f"Area under the mean score: {curve.area:.4f}"
    area += "" if curve.accuracy_area is None else f", under accuracy: {curve.accuracy_area:.4f}"
    title = "Removed one after another, the least important first:"
    return ["", title, *align(rows, right=range(len(head))), area]


def _row(point: CumulativePoint) -> list[str]:
    quality, last = point.quality, point.last
    figures = [] if quality is None else [quality.accuracy, quality.f1, quality.loss]
    name = "(nothing)" if last is None else last.tensor
    name += "" if last is None or last.channel is None else f" channel {last.channel}"
    row = [f"{point.removed}", f"{point.prob.mean:.4f}", f"{point.delta.mean:+.4f}"]
    return [*row, *(f"{figure:.4f}" for figure in figures), name]


def _draw(curve: CumulativeResult, model_path: Path, chart: Path) -> None:
    from pgc_graph.render.curves import save_curves

    kind = "tensors" if curve.order[0].channel is None else "channels"
    save_curves(
        tuple(_curves(curve.points)),
        chart,
        title=f"{model_path.name}: {kind} removed, the least important first",
        subtitle=f"{curve.images} images; area under the mean score {curve.area:.4f}",
        axis=f"{kind} removed",
    )


def _curves(points: Sequence[CumulativePoint]) -> Iterator[Any]:
    from pgc_graph.render.curves import Curve

    yield Curve("mean score", tuple((point.removed, point.prob.mean) for point in points))
    for label in ("accuracy", "f1"):
        known = [(point.removed, getattr(point.quality, label)) for point in points if point.quality is not None]
        if known:
            yield Curve("F1" if label == "f1" else label, tuple(known))
