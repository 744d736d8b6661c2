"""`pgc-graph inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from pgc_cli.options import json_option, model_argument
from pgc_cli.progress import show_warnings
from pgc_cli.rewrite import parse_shape

__all__ = ["command"]


@click.command("inspect", short_help="Show what a model is.")
@model_argument
@json_option
@click.option(
    "--input-shape",
    multiple=True,
    metavar="NAME=D,D,...",
    help="Shape of an input for counting MACs, for instance images=1,3,32,32.",
)
def command(model_path: Path, as_json: bool, input_shape: tuple[str, ...]) -> None:
    """Show MODEL: opset, inputs and outputs, nodes by operator, parameters, MACs for one image, metadata, and the
    Sigmoid→Mul tensors that ablate and heatmap look at.

    One MAC is a multiplication with its addition, in Conv, ConvTranspose, Gemm and MatMul; nothing else is counted.

    Example: pgc-graph inspect model.onnx
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.summary import summarise
    from pgc_graph.render.table import summary_table
    from pgc_graph.results import to_json

    show_warnings()
    shapes = dict(parse_shape(text) for text in input_shape)
    model = modelio.load(model_path)
    summary = summarise(model, input_shapes=shapes, file_bytes=model_path.stat().st_size)
    click.echo(to_json(summary, file=model_path) if as_json else summary_table(summary))
