"""`pgc-train evaluate`: score a checkpoint or an ONNX model on labelled crops."""

from __future__ import annotations

from pathlib import Path

import click

from pgc_cli.progress import show_warnings
from pgc_train.commands.options import FOLDER

__all__ = ["command"]


@click.command("evaluate", short_help="Score a checkpoint or an ONNX model on labelled crops.")
@click.argument("model_path", metavar="MODEL", type=FOLDER)
@click.option(
    "--data",
    "roots",
    type=FOLDER,
    multiple=True,
    help="Folder with pointing/ and not_pointing/ in it, or a .parquet file.",
)
@click.option("--splits", type=FOLDER, help="CSV: image_path,label,source,group,split.")
@click.option("--split", default="val", show_default=True, help="Which rows of the CSV and of .parquet files.")
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.5, show_default=True)
@click.option("--by-source", is_flag=True, help="A row for each source as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def command(
    model_path: Path,
    roots: tuple[Path, ...],
    splits: Path | None,
    split: str,
    threshold: float,
    by_source: bool,
    as_json: bool,
) -> None:
    """Score MODEL on labelled crops: a .pt file, the folder of a run (its best.pt), or an .onnx file.

    \b
    Example:
      pgc-train evaluate runs/s --data more-photographs --by-source
    """
    from pgc_graph.results import to_json
    from pgc_train.evaluate import evaluate, open_scorer
    from pgc_train.prepare import crops_to_judge
    from pgc_train.show import score_table

    show_warnings()
    crops = crops_to_judge(roots, splits, split)
    result = evaluate(open_scorer(model_path), crops, threshold)
    if as_json:
        click.echo(to_json(result))
        return
    rows = {"all": result.scores, **(result.by_source if by_source else {})}
    click.echo("\n".join(score_table(rows)))
    area = "none, one class is missing" if result.roc_auc is None else f"{result.roc_auc:.4f}"
    click.echo(f"ROC-AUC {area}  calibration error {result.calibration.error:.4f}", err=True)
