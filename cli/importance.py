"""`pgc-graph importance`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgc_cli.errors import EXIT_INTERRUPTED
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
from pgc_cli.progress import note, progress_bar, show_warnings

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import TargetQuery
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.studies.importance import ImportanceResult

__all__ = ["command"]


@click.command("importance", cls=VariadicCommand, short_help="Estimate from gradients what each tensor is good for.")
@model_option
@image_source_options
@preprocess_options
@target_options
@click.option(
    "--steps", type=click.IntRange(0), default=0, show_default=True, help="Points along each gate; 0 = first order."
)
@click.option(
    "--score",
    type=click.Choice(["auto", "logit", "prob"]),
    default="auto",
    show_default=True,
    help="What is differentiated; auto = the logit where there is one.",
)
@click.option("--target", default="argmax", show_default=True, help="The class to score: argmax, name or index.")
@click.option(
    "--rank-by",
    type=click.Choice(["delta", "absolute"]),
    default="delta",
    show_default=True,
    help="The mean of the estimates, or of their absolute values.",
)
@click.option("--per-channel", is_flag=True, help="Also print the channels that matter most.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Channels to print.")
@click.option(
    "--save", "save_path", type=click.Path(path_type=Path), help="Write all channels to a .csv or .json file."
)
@click.option("--compare", is_flag=True, help="Also run the exhaustive ablation and correlate the rankings.")
@click.option(
    "--compare-channels",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="With --compare: channels, drawn at random, that are switched off on 16 images.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of that draw.")
@json_option
@runtime_options
def command(
    model_path: Path,
    images: ImageRequest,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    query: TargetQuery,
    steps: int,
    score: str,
    target: str,
    rank_by: str,
    per_channel: bool,
    top: int,
    save_path: Path | None,
    compare: bool,
    compare_channels: int,
    seed: int,
    as_json: bool,
    runtime: RuntimeOptions,
) -> None:
    """Estimate for every Sigmoid→Mul tensor (or those you choose), and each channel, what the score loses without it.

    The estimate is gradient x activation: one forward and one backward pass a batch for all tensors and channels. With
    --steps it is integrated along each gate from 1 to 0, which adds up to what an ablation finds, at so many passes a
    tensor.

    Example: pgc-graph importance --model pgc_l_32x32.onnx --image-dir hands/ --per-channel --save scores.csv
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import find_targets, select_targets
    from pgc_graph.studies.ablation.classes import read_target
    from pgc_graph.studies.importance.compare import compare_with_ablation
    from pgc_graph.studies.importance.estimate import estimate_importance
    from pgc_graph.studies.importance.save import check_scores_path, save_scores

    show_warnings()
    model = modelio.load(model_path)
    targets = select_targets(find_targets(model), query)
    preprocess = read_preprocess(model, input_size, mean, std)
    scored = read_target(model, target)
    source = images.open()
    if save_path is not None:
        check_scores_path(save_path)
        check_output(save_path, (model_path, *images.files), force=False)
    options: dict[str, Any] = {"preprocess": preprocess, "runtime": runtime}
    settings: dict[str, Any] = {"steps": steps, "score": score, "target": scored, "rank_by": rank_by}
    with interruptible() as stop, progress_bar("importance") as advance:
        result = estimate_importance(
            model, source, targets, on_batch=lambda done: advance(done, len(source)), stop=stop, **options, **settings
        )
    if compare and not result.interrupted:
        sample: dict[str, Any] = {"channels": compare_channels, "seed": seed, "target": target, "scored": scored}
        result = compare_with_ablation(result, model, source, targets, **options, **sample)
    if save_path is not None:
        note(f"[INFO] scores of {save_scores(result, save_path)} channels -> {save_path}")
    _present(result, model_path, top if per_channel else 0, as_json=as_json)
    if result.interrupted:
        note(f"interrupted: the figures cover {result.image_count} of {len(source)} images")
        click.get_current_context().exit(EXIT_INTERRUPTED)


def _present(result: ImportanceResult, model_path: Path, top: int, *, as_json: bool) -> None:
    """Print the tables, or one JSON document; `top` channels."""
    from pgc_graph.render.importance_table import channel_table, comparison_lines, tensor_table
    from pgc_graph.results import to_json

    if result.skipped_count:
        note(f"Skipped {result.skipped_count} unreadable images")
    for skip in result.skipped_tensors[:1]:
        note(f"Skipped {len(result.skipped_tensors)} tensors (first: {skip.subject} {skip.reason})")
    if as_json:
        shown = dataclasses.replace(result, channels=result.channels[:top])
        extra = {} if result.comparison is None else {"speed_ratio": result.comparison.speed_ratio}
        click.echo(to_json(shown, model=model_path, **extra))
        return
    click.echo("\n".join(tensor_table(result)))
    for lines in (channel_table(result, top) if top else [], comparison_lines(result)):
        if lines:
            click.echo("\n".join(["", *lines]))
