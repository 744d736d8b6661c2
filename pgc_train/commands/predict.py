"""`pgc-train predict`: write the probability of pointing of images to a CSV."""

from __future__ import annotations

from pathlib import Path

import click

from pgc_cli.progress import show_warnings
from pgc_train.commands.options import FOLDER

__all__ = ["command"]


@click.command("predict", short_help="Write the probability of pointing of images to a CSV.")
@click.argument("model_path", metavar="MODEL", type=FOLDER)
@click.argument("inputs", metavar="IMAGE...", type=FOLDER, nargs=-1, required=True)
@click.option("-o", "--output", type=FOLDER, required=True, help="The .csv file to write.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Probability from which an image is called pointing.",
)
def command(model_path: Path, inputs: tuple[Path, ...], output: Path, threshold: float) -> None:
    """Score images, and all images below folders, with MODEL: a .pt file, the folder of a run, or an .onnx file.

    \b
    Example:
      pgc-train predict runs/s photographs -o predictions.csv
    """
    from pgc_train.evaluate import open_scorer
    from pgc_train.predictions import find_inputs, write_predictions

    show_warnings()
    count = write_predictions(open_scorer(model_path), find_inputs(inputs), output, threshold)
    click.echo(f"wrote {count} predictions to {output}")
