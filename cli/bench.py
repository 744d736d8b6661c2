"""`pgc-graph bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgc_cli.errors import EXIT_INTERRUPTED
from pgc_cli.interrupt import interruptible
from pgc_cli.options import json_option
from pgc_cli.progress import note, show_warnings
from pgc_cli.rewrite import parse_shape
from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    from pgc_graph.runtime.timing import TimingReport

__all__ = ["command"]

_STANDARD_RUNS = 100
_LISTS = ("--threads", "--batch-size")


class _BenchCommand(click.Command):
    """A command in which numbers may follow an option that takes several: `--threads 1 2 A.onnx`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option's name before each further number, then parse as usual."""
        expanded: list[str] = []
        current = ""
        for before, arg in zip(["", *args], args, strict=False):
            current = arg if arg in _LISTS else current if arg.isdigit() or before in _LISTS else ""
            is_further = bool(current) and arg not in _LISTS and before not in _LISTS
            expanded += [current, arg] if is_further else [arg]
        return super().parse_args(ctx, expanded)


@click.command("bench", cls=_BenchCommand, short_help="Time models side by side.")
@click.argument("paths", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(0),
    metavar="N ...",
    default=(0,),
    help="Threads inside one operator, one setting each; 0 = all cores  [default: 0]",
)
@click.option(
    "--batch-size",
    "batch_sizes",
    multiple=True,
    type=click.IntRange(1),
    metavar="N ...",
    help="Rows fed at once, one setting each  [default: what the models say, else 1]",
)
@click.option("--runs", type=click.IntRange(1), help=f"Rounds a setting  [default: {_STANDARD_RUNS}, or no limit]")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Time a setting  [default: no limit]")
@click.option("--warmup", type=click.IntRange(0), default=10, show_default=True, help="Rounds that do not count.")
@click.option(
    "--input-shape", multiple=True, metavar="NAME=D,D,...", help="Shape of an input, for instance images=1,3,32,32."
)
@click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Where the models run; auto takes CUDA where it really works.",
)
@click.option("--ops", "profile", is_flag=True, help="Also show where the time goes, by operator and by node.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random inputs and the order."
)
@click.option("--chart", type=click.Path(path_type=Path), help="Draw the medians as bars into this .png file.")
@json_option
def command(
    paths: tuple[Path, ...],
    threads: tuple[int, ...],
    batch_sizes: tuple[int, ...],
    runs: int | None,
    seconds: float | None,
    warmup: int,
    input_shape: tuple[str, ...],
    provider: str,
    profile: bool,
    seed: int,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Time models side by side: in each round every MODEL runs once, in an order drawn anew, on random inputs.

    The last column is the median over that of the first MODEL, so that below 1 is faster. Give a MODEL twice to see how
    much of a difference is noise. Ctrl-C prints what was measured so far.

    Example: pgc-graph bench before.onnx after.onnx --threads 1 2 --batch-size 1 8
    """
    from pgc_graph import modelio
    from pgc_graph.runtime.timing import TimingOptions, time_models

    show_warnings()
    shapes = dict(parse_shape(text) for text in input_shape)
    rounds = runs if runs is not None or seconds is not None else _STANDARD_RUNS
    options = TimingOptions(provider, threads, batch_sizes, rounds, seconds, warmup, profile, seed)
    _check_chart(chart, paths)
    models = [(str(path), modelio.load(path)) for path in paths]
    noun = "1 model" if len(models) == 1 else f"{len(models)} models"

    def tell(threads: int, batch: int) -> None:
        note(f"[INFO] timing {noun}, threads {threads or 'all'}, batch {batch}")

    with interruptible() as stop:
        report = time_models(models, options, shapes=shapes, stop=stop, on_setting=tell)
    if not report.latencies:
        raise KeyboardInterrupt
    _present(report, chart, as_json=as_json)
    if report.interrupted:
        note("interrupted: the figures cover the runs that were done")
        click.get_current_context().exit(EXIT_INTERRUPTED)


def _check_chart(chart: Path | None, paths: tuple[Path, ...]) -> None:
    from pgc_graph.render.charts import check_chart_path

    if chart is None:
        return
    check_chart_path(chart)
    if chart in paths:
        raise OptionError(f"chart file {chart} is one of the models; choose another name")


def _present(report: TimingReport, chart: Path | None, *, as_json: bool) -> None:
    from pgc_cli.bench_report import report_text, save_chart
    from pgc_graph.results import to_json

    click.echo(to_json(report) if as_json else report_text(report))
    if chart is not None:
        save_chart(report, chart)
        note(f"[OK] Saved {chart}")
