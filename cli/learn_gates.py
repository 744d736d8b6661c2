"""`pgc-graph learn-gates`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_cli.ablate_options import MeasureRequest
from pgc_cli.errors import EXIT_INTERRUPTED
from pgc_cli.image_options import ImageRequest, image_source_options
from pgc_cli.interrupt import interruptible
from pgc_cli.options import (
    VariadicCommand,
    check_output,
    json_option,
    model_option,
    output_option,
    preprocess_options,
    read_preprocess,
    runtime_options,
    target_options,
)
from pgc_cli.progress import note, progress_bar, show_warnings

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import TargetQuery
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.studies.learning import Learned, LearnSettings

__all__ = ["command"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Outputs:
    """The files that are written."""

    model: Path
    curve: Path | None
    chart: Path | None

    def check(self, inputs: tuple[Path, ...], *, force: bool) -> None:
        """Find out before the work that a file cannot be written.

        Raises:
            OptionError: It is an input, or its folder or name does not fit.
        """
        from pgc_graph.errors import OptionError
        from pgc_graph.render.charts import check_chart_path

        check_output(self.model, inputs, force=force)
        for path in (self.curve, self.chart):
            if path is not None:
                check_output(path, inputs, force=False)
        for path in (self.model, self.curve):
            if path is not None and (path.is_dir() or not path.parent.is_dir()):
                raise OptionError(f"cannot write {path}; choose a file in an existing folder")
        if self.chart is not None:
            check_chart_path(self.chart)


_SETTINGS = (
    click.option("--sparsity", type=click.FloatRange(0), default=0.01, show_default=True, help="λ, in nats a gate."),
    click.option(
        "--penalty",
        type=click.Choice(["l1", "l0"]),
        default="l1",
        show_default=True,
        help="λ·Σ|g|, or hard-concrete gates, which cost λ by their chance to be open.",
    ),
    click.option("--per-channel", is_flag=True, help="One gate a channel instead of one a tensor."),
    click.option("--steps", type=click.IntRange(1), default=500, show_default=True, help="Most steps."),
    click.option(
        "--lr",
        "learning_rate",
        type=float,
        default=0.01,
        show_default=True,
        help="Adam's step, in units of a gate.",
    ),
    click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images a step."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of order and noise."),
    click.option(
        "--patience",
        type=click.IntRange(0),
        default=100,
        show_default=True,
        help="Stop after so many steps without a better objective; 0 = never.",
    ),
    click.option(
        "--cost",
        type=click.Choice(["none", "macs"]),
        default="none",
        show_default=True,
        help="Weigh gates by the MACs of the nodes that lead to their tensor.",
    ),
)


def settings_options(function: Function) -> Function:
    """The options of `LearnSettings`, handed over as `settings`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from dataclasses import fields

        from pgc_graph.studies.learning import LearnSettings

        taken = {field.name: kwargs.pop(field.name) for field in fields(LearnSettings)}
        return function(*args, settings=LearnSettings(**taken), **kwargs)

    decorated: Any = wrapper
    for option in reversed(_SETTINGS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


@click.command("learn-gates", cls=VariadicCommand, short_help="Learn which tensors or channels a model needs.")
@model_option
@output_option
@image_source_options
@preprocess_options
@target_options
@settings_options
@click.option(
    "--labels",
    default="auto",
    show_default=True,
    metavar="auto|folders|none|CSV",
    help="What images show, as for ablate; without labels, what the model without gates says is to be kept.",
)
@click.option("--resume", is_flag=True, help="Go on with a run to the same output that was interrupted or killed.")
@click.option("--curve", type=click.Path(path_type=Path), help="Write score against gates kept to a .csv file.")
@click.option("--chart", type=click.Path(path_type=Path), help="Draw gates and curve to a .png file.")
@json_option
@runtime_options
def command(
    model_path: Path,
    output: Path,
    force: bool,
    images: ImageRequest,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    query: TargetQuery,
    settings: LearnSettings,
    labels: str,
    resume: bool,
    curve: Path | None,
    chart: Path | None,
    as_json: bool,
    runtime: RuntimeOptions,
) -> None:
    """Learn a gate in [0, 1] for every Sigmoid→Mul tensor (or those you choose), and write the gated model.

    What is minimised is the task loss (cross entropy with the labels, else the divergence from the model without gates)
    plus λ for every open gate. No weight changes. Ctrl-C keeps what is learned.

    Example: pgc-graph learn-gates --model pgc_l_32x32.onnx --image-dir hands/ --per-channel --sparsity 0.001 -o gated.onnx
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import find_targets, select_targets
    from pgc_graph.studies.learning import learn_gates
    from pgc_graph.studies.learning.state import checkpoint_path

    show_warnings()
    outputs = Outputs(output, curve, chart)
    outputs.check((model_path, *images.files), force=force)
    model = modelio.load(model_path)
    source = images.open()
    with interruptible() as stop, progress_bar("learn") as advance:
        learned = learn_gates(
            *(model, source, select_targets(find_targets(model), query), settings),
            measure=MeasureRequest("argmax", labels, "delta").read(model, source),
            preprocess=read_preprocess(model, input_size, mean, std),
            runtime=runtime,
            checkpoint=checkpoint_path(output),
            resume=resume,
            on_step=lambda step, objective: advance(step, settings.steps),
            stop=stop,
        )
    _write(learned, outputs, model_path, as_json=as_json)
    if learned.result.ended == "interrupted":
        note(f"interrupted after {learned.result.steps} steps; --resume goes on from there")
        click.get_current_context().exit(EXIT_INTERRUPTED)


def _write(learned: Learned, outputs: Outputs, model_path: Path, *, as_json: bool) -> None:
    from pgc_graph import modelio
    from pgc_graph.render.gate_chart import save_gates
    from pgc_graph.render.gate_table import gate_tables
    from pgc_graph.results import to_json
    from pgc_graph.studies.learning.curve import save_curve

    result = learned.result
    if result.skipped_count:
        note(f"Skipped {result.skipped_count} unreadable images")
    for skip in result.skipped_tensors[:1]:
        note(f"Skipped {len(result.skipped_tensors)} tensors (first: {skip.subject} {skip.reason})")
    modelio.save(learned.model, outputs.model)
    if outputs.curve is not None:
        save_curve(result, outputs.curve)
    if outputs.chart is not None:
        save_gates(result, outputs.chart)
    for path in (outputs.model, outputs.curve, outputs.chart):
        if path is not None:
            note(f"[INFO] -> {path}")
    click.echo(to_json(result, model=model_path) if as_json else "\n".join(gate_tables(result)))
