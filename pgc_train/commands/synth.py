"""`pgc-train synth`: draw labelled hand crops."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pgc_train.commands.options import FOLDER

__all__ = ["command"]


@click.command("synth", short_help="Draw labelled hand crops.")
@click.argument("output", metavar="OUT", type=FOLDER)
@click.option("--count", type=click.IntRange(1), default=4000, show_default=True, help="Crops to draw.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all randomness.")
@click.option("--size", type=click.IntRange(8), default=96, show_default=True, help="Side in pixels.")
@click.option(
    "--pointing-fraction", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share pointing."
)
@click.option("--overwrite", is_flag=True, help="Replace crops that are already there.")
def command(output: Path, count: int, seed: int, size: int, pointing_fraction: float, overwrite: bool) -> None:
    """Draw crops into OUT/pointing and OUT/not_pointing; pointing = only the index finger is extended.

    \b
    Example:
      pgc-train synth drawn --count 4000 --seed 0
    """
    from pgc_train.show import count_progress
    from pgc_train.synth import write_crops

    with count_progress("drawing crops", sys.stderr) as progress:
        report = write_crops(
            output,
            count=count,
            seed=seed,
            size=size,
            pointing_fraction=pointing_fraction,
            progress=progress,
            overwrite=overwrite,
        )
    click.echo(f"wrote {report.pointing} pointing and {report.not_pointing} not_pointing crops to {output}")
