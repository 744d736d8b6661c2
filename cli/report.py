"""`pgc-graph report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgc_cli.ablate_options import MeasureRequest, measure_options
from pgc_cli.image_options import ImageRequest, image_source_options
from pgc_cli.options import (
    VariadicCommand,
    check_output,
    force_option,
    model_option,
    preprocess_options,
    read_preprocess,
    runtime_options,
    target_options,
)
from pgc_cli.progress import note, progress_bar, show_warnings

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import TargetQuery
    from pgc_graph.runtime.session import RuntimeOptions

__all__ = ["command"]


@click.command("report", cls=VariadicCommand, short_help="Write one page on what a model is and looks at.")
@model_option
@image_source_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="report.html",
    show_default=True,
    help="The .html file to write.",
)
@force_option
@click.option(
    "--examples", type=click.IntRange(1), default=12, show_default=True, help="Images shown with heatmaps, all in all."
)
@click.option(
    "--topk", type=click.IntRange(1), default=6, show_default=True, help="Tensors that each of them is shown with."
)
@click.option(
    "--errors", type=click.IntRange(0), default=12, show_default=True, help="Images among the worst errors; 0 = none."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="How long latency is measured, in seconds.",
)
@preprocess_options
@target_options
@measure_options
@runtime_options
def command(
    model_path: Path,
    images: ImageRequest,
    output: Path,
    force: bool,
    examples: int,
    topk: int,
    errors: int,
    seconds: float,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    query: TargetQuery,
    measure: MeasureRequest,
    runtime: RuntimeOptions,
) -> None:
    """Write one HTML page on a model: what it is, what each tensor does for the score, what it looks at in some images,
    its worst errors, and its graph as a drawing.

    The page needs no network and no other file. Its tables sort and filter, and all of it can be saved as PNG and CSV.

    Example: pgc-graph report --model pgc_l_32x32.onnx --image-dir hands/ -o report.html
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import find_targets, select_targets
    from pgc_graph.render.report.page import check_report_path, save_report
    from pgc_graph.studies.report import ReportRequest, gather_report

    show_warnings()
    check_report_path(output)
    check_output(output, (model_path, *images.files), force=force)
    model = modelio.load(model_path)
    targets = select_targets(find_targets(model), query)
    preprocess = read_preprocess(model, input_size, mean, std)
    source = images.open()
    with progress_bar("report") as advance:
        data = gather_report(
            model,
            source,
            targets,
            name=model_path.name,
            preprocess=preprocess,
            request=ReportRequest(examples, topk, errors, seconds),
            measure=measure.read(model, source),
            runtime=runtime,
            file_bytes=model_path.stat().st_size,
            on_progress=advance,
        )
    size = save_report(data, output)
    note(f"[INFO] provider: {data.timing.provider}")
    if data.ablation.skipped_count:
        note(f"Skipped {data.ablation.skipped_count} unreadable images")
    click.echo(f"[OK] Saved {output} ({size / 1e6:.2f} MB; {data.ablation.image_count} images)")
