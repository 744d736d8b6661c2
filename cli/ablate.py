"""`pgc-graph ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgc_cli.ablate_costs import costs_of
from pgc_cli.ablate_engine import EngineRequest, engine_options
from pgc_cli.ablate_options import (
    MeasureRequest,
    Study,
    TopkRequest,
    intervention_options,
    measure_options,
    topk_options,
)
from pgc_cli.ablate_plan import explain, write_plan
from pgc_cli.ablate_removal import run_channels, run_curve
from pgc_cli.ablate_removal_options import RemovalRequest, removal_options
from pgc_cli.ablate_report import Printer, list_targets
from pgc_cli.errors import EXIT_INTERRUPTED
from pgc_cli.heatmap_report import saved_lines
from pgc_cli.image_options import ImageRequest, image_source_options
from pgc_cli.interrupt import interruptible
from pgc_cli.options import (
    VariadicCommand,
    check_output,
    json_option,
    model_option,
    preprocess_options,
    read_preprocess,
    runtime_options,
    target_options,
)
from pgc_cli.progress import note, show_warnings
from pgc_cli.save_options import SaveRequest, save_options

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import TargetQuery
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.sources import ImageSource
    from pgc_graph.studies.ablation import AblationResult, Intervention
    from pgc_graph.studies.ablation.cumulative import CumulativeResult

__all__ = ["command"]


@click.command("ablate", cls=VariadicCommand, short_help="Switch tensors off one by one and rank them.")
@model_option
@image_source_options
@preprocess_options
@target_options
@click.option("--list-targets", "only_list", is_flag=True, help="List the chosen tensors and stop; needs no image.")
@click.option("--explain", "only_explain", is_flag=True, help="Say what will be computed and stop; needs no image.")
@click.option("--save-plan", type=click.Path(path_type=Path), help="Write the plan as an .onnx file; needs no image.")
@intervention_options
@measure_options
@click.option("--stats", is_flag=True, help="Also print the spread of each Δ: 95 % interval of the mean, quantiles.")
@save_options
@click.option("--costs", is_flag=True, help="Also measure MACs, bytes and ms of the nodes that lead to each tensor.")
@removal_options
@topk_options
@click.option("--quiet", is_flag=True, help="Leave out the lines for each image.")
@json_option
@runtime_options
@engine_options
def command(
    model_path: Path,
    images: ImageRequest,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    query: TargetQuery,
    only_list: bool,
    only_explain: bool,
    save_plan: Path | None,
    intervention: Intervention,
    measure: MeasureRequest,
    stats: bool,
    save: SaveRequest,
    costs: bool,
    removal: RemovalRequest,
    topk: TopkRequest,
    quiet: bool,
    as_json: bool,
    runtime: RuntimeOptions,
    engine: EngineRequest,
) -> None:
    """Switch every Sigmoid→Mul tensor (or those you choose) off in turn and rank them by what the score loses.

    Δ is the score of the untouched model minus the score without the tensor: positive where the tensor speaks for the
    class. With several classes, the one that the model finds most likely is scored (or --target). The file itself is
    not changed.

    Example: pgc-graph ablate --model pgc_l_32x32.onnx --image-dir hands/ --max-images 1000
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import find_targets, select_targets

    show_warnings()
    inputs = (model_path, *images.files)
    planned = only_explain or save_plan is not None
    removal.check(save, engine, inputs, planned=planned, stats=stats, costs=costs)
    model = modelio.load(model_path)
    if only_list:
        click.echo(list_targets(select_targets(find_targets(model), query), as_json=as_json))
        return
    preprocess = read_preprocess(model, input_size, mean, std)
    targets = select_targets(find_targets(model), query)
    study = Study(model, model_path, targets, preprocess, intervention, runtime, as_json)
    if save_plan is not None:
        check_output(save_plan, (model_path,), force=False)
        click.echo(write_plan(study, images.open_or_none(), save_plan), err=as_json)
    if only_explain:
        click.echo(explain(study, images.open_or_none()))
    if only_explain or (save_plan is not None and images.is_empty):
        return
    source = images.open()
    save.check(inputs)
    engine.check(save)
    if removal.per_channel:
        if run_channels(study, source, measure, removal):
            click.get_current_context().exit(EXIT_INTERRUPTED)
        return
    topk.check()
    result, curve = _run(study, source, measure, save, engine, removal, quiet=quiet, stats=stats, costs=costs)
    if result.interrupted:
        more = "" if save.path is None else "; --resume goes on from there"
        note(f"interrupted: the figures cover {result.image_count} of {len(source)} images{more}")
        click.get_current_context().exit(EXIT_INTERRUPTED)
    _present(result, save, as_json=as_json)
    if curve is not None and curve.interrupted:
        click.get_current_context().exit(EXIT_INTERRUPTED)
    if topk.count:
        _render(study, result, topk, source)


def _run(
    study: Study,
    source: ImageSource,
    measure: MeasureRequest,
    save: SaveRequest,
    engine: EngineRequest,
    removal: RemovalRequest,
    *,
    quiet: bool,
    stats: bool,
    costs: bool,
) -> tuple[AblationResult, CumulativeResult | None]:
    """Ablate, go on with removals where they are asked for, print what is found, and return it."""
    from pgc_graph.runtime.providers import choose_provider

    provider = "ray" if engine.name == "ray" else choose_provider(study.runtime.provider)
    printer = Printer(study.model_path, provider, len(source), quiet=quiet, as_json=study.as_json, stats=stats)
    with interruptible() as stop:
        with printer.progress():
            result = engine.ablate(study, source, measure.read(study.model, source), save, printer, stop)
        if not result.image_count:
            raise KeyboardInterrupt
        curve = None if result.interrupted else run_curve(study, source, measure, removal, result, stop)
    printer.finish(result, costs_of(study, result, source) if costs else (), curve)
    return result, curve


def _present(result: AblationResult, save: SaveRequest, *, as_json: bool) -> None:
    """Draw the chart, and say what was written."""
    if save.path is not None:
        click.echo(
            f"[INFO] scores of {result.image_count} images and {len(result.gates)} tensors -> {save.path}", err=as_json
        )
    if save.chart is not None:
        from pgc_graph.render.impact_chart import save_impacts

        save_impacts(result, save.chart)
        click.echo(f"[INFO] chart -> {save.chart}", err=as_json)


def _render(study: Study, result: AblationResult, topk: TopkRequest, source: ImageSource) -> None:
    """Draw the highest ranking tensors, in that order."""
    from pgc_graph.images import load_image
    from pgc_graph.render.heatmaps import save_heatmaps
    from pgc_graph.sources import first_image, to_picture, to_row
    from pgc_graph.studies.heatmap import activation_maps

    targets = [impact.target for impact in result.gates[: topk.count]]
    captions = {impact.target.tensor: f"meanΔ={impact.delta.mean:+.4f}" for impact in result.gates}
    where = topk.folder / topk.composite
    click.echo(f"[INFO] Rendering heatmaps for top-{len(targets)} tensors -> {where}", err=study.as_json)
    pixels = load_image(topk.image) if topk.image is not None else first_image(source)
    picture = to_picture(pixels, study.preprocess)
    maps = activation_maps(study.model, to_row(pixels, study.preprocess), targets, runtime=study.runtime)
    saved = save_heatmaps(maps, picture, topk.folder, composite=topk.collage(captions))
    click.echo(saved_lines(maps, saved), err=study.as_json)
