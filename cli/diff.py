"""`pgc-graph diff`."""

from __future__ import annotations

from pathlib import Path

import click

from pgc_cli.errors import EXIT_CHECK_FAILED
from pgc_cli.options import json_option
from pgc_cli.progress import show_warnings

__all__ = ["command"]


@click.command("diff", short_help="Show what differs between two models.")
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@json_option
@click.option("--all", "show_all", is_flag=True, help="Show every line of long sections.")
def command(first: Path, second: Path, as_json: bool, show_all: bool) -> None:
    """Show what differs between models A and B: nodes that were added (+), removed (-), changed (*) or renamed (~), weights
    with their largest |Δ|, inputs and outputs, stated shapes, metadata, opsets. Nodes are matched by name, then by what
    they compute.

    The exit code is 0 where nothing differs and 1 where something does.

    Example: pgc-graph diff model.onnx folded.onnx
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.diff import diff_models
    from pgc_graph.render.diff_table import diff_table
    from pgc_graph.results import to_json

    show_warnings()
    diff = diff_models(modelio.load(first), modelio.load(second))
    if as_json:
        click.echo(to_json(diff, first=first, second=second, equal=diff.equal))
    else:
        click.echo(diff_table(diff, limit=None if show_all else 40) or "No difference")
    if not diff.equal:
        click.get_current_context().exit(EXIT_CHECK_FAILED)
