"""`pgc-train to-parquet`: put labelled crops into one Parquet file, split by group."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pgc_cli.progress import show_warnings
from pgc_train.commands.options import FOLDER

__all__ = ["command"]

_SHARE = click.FloatRange(0, 1, max_open=True)


@click.command("to-parquet", short_help="Put labelled crops into one Parquet file, split by group.")
@click.argument("inputs", metavar="INPUT...", type=FOLDER, nargs=-1, required=True)
@click.option("-o", "--output", type=FOLDER, default=Path("dataset.parquet"), show_default=True, help="File to write.")
@click.option("--val-fraction", type=_SHARE, default=0.1, show_default=True, help="Share of the split val.")
@click.option("--test-fraction", type=_SHARE, default=0.1, show_default=True, help="Share of the split test.")
@click.option(
    "--group",
    help="Regular expression on the path: what it captures, or matches, is the subject, who lies in one split alone.  "
    "[default: a table's column group, or the file name before the first _]",
)
@click.option("--embed-images", is_flag=True, help="Put the image files themselves into the table (image_bytes).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which groups go where.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def command(
    inputs: tuple[Path, ...],
    output: Path,
    val_fraction: float,
    test_fraction: float,
    group: str | None,
    embed_images: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Write the crops of each INPUT, a folder or an annotation.csv, with columns image_path and label, to a table.

    Both classes are spread over train, val and test as asked, and a group never lies in two of them. Rows of a table
    with a column split keep it. `pgc-graph ablate --parquet` and `pgc-train train --data` read the result.

    \b
    Example:
      pgc-train to-parquet photographs -o dataset.parquet --group 's[0-9]+' --embed-images
    """
    from pgc_graph.results import to_json
    from pgc_train.dataset import DatasetQuery, write_dataset
    from pgc_train.show import count_progress, dataset_lines

    show_warnings()
    query = DatasetQuery(inputs, val_fraction, test_fraction, group, embed_images, seed)
    with count_progress("writing crops", sys.stderr) as progress:
        report = write_dataset(query, output, progress)
    click.echo(to_json(report) if as_json else "\n".join(dataset_lines(report, output)))
