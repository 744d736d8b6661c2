"""`pgc-train train`: fit a model on folders of crops."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgc_cli.errors import EXIT_INTERRUPTED, fail
from pgc_cli.progress import show_warnings
from pgc_train.commands.options import FOLDER, data_options, recipe_options, spec_options
from pgc_train.options import TrainOptions

if TYPE_CHECKING:
    from pgc_graph.build.spec import ModelSpec
    from pgc_train.prepare import DataQuery

__all__ = ["command"]


@click.command("train", short_help="Fit a model on folders of crops.")
@spec_options
@recipe_options
@data_options
@click.option("--output-dir", type=FOLDER, required=True, help="Where checkpoints and history.json go.")
@click.option("--resume", is_flag=True, help="Go on from last.pt in the output folder.")
@click.option(
    "--keep",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Last and best epochs kept as pgc_epoch_*.pt and pgc_best_*.pt, with .safetensors; 0 = best.pt and last.pt alone.",
)
@click.option("--overwrite", is_flag=True, help="Replace the run in the output folder.")
def command(
    spec: ModelSpec,
    query: DataQuery,
    recipe: TrainOptions,
    output_dir: Path,
    resume: bool,
    overwrite: bool,
) -> None:
    """Fit a preset on folders `pointing/` and `not_pointing/`; Ctrl-C keeps all whole epochs.

    \b
    Example:
      pgc-train train --preset s --data photographs --synth-data synth --output-dir runs/s
    """
    from pgc_train.run import train_model
    from pgc_train.show import show_progress, summary_lines

    show_warnings()
    # Training crops are kept at no less than what the network sees.
    recipe = dataclasses.replace(recipe, cache_size=max(recipe.cache_size, *spec.image_size))
    with show_progress(recipe.epochs, sys.stderr) as report:
        summary = train_model(spec, query, recipe, output_dir, resume=resume, overwrite=overwrite, report=report)
    for line in summary_lines(summary, output_dir):
        click.echo(line)
    if summary.result.interrupted:
        fail(
            f"interrupted; {summary.result.epochs} epochs are in {output_dir / 'last.pt'}, go on with --resume",
            EXIT_INTERRUPTED,
        )
