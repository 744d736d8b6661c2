"""`pgc-graph extract`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgc_cli.options import VariadicCommand
from pgc_cli.rewrite import RewriteRequest, Step, rewrite_options, run_steps

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.passes.rewrite import Rewrite

__all__ = ["command"]


@click.command("extract", cls=VariadicCommand, short_help="Cut a part out of a model.")
@rewrite_options
@click.option("--inputs", multiple=True, metavar="TENSOR ...", help="Where the part begins  [default: MODEL's inputs]")
@click.option("--outputs", multiple=True, metavar="TENSOR ...", help="Where the part ends  [default: MODEL's outputs]")
def command(request: RewriteRequest, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Write the part of MODEL that computes some tensors from others as a model of its own, with the weights, functions and
    metadata that it needs; tensors keep their names.

    MODEL runs on random inputs, what it has at the cuts is recorded and fed to the part, and the outputs are compared.

    Example: pgc-graph extract model.onnx --outputs /base_model/stem/stem.2/Mul_output_0 -o stem.onnx
    """
    run_steps(request, [_extract_step(inputs, outputs)])


def _extract_step(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Step:
    from pgc_graph.passes.extract import extract
    from pgc_graph.studies.rewrite_checks import check_part

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        (change,) = rewrite.changes
        return f"{change.subject}; {change.action}"

    return Step("extract", lambda model: extract(model, inputs, outputs), describe, check=check_part)
