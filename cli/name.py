"""`pgc-graph name`."""

from __future__ import annotations

import click

from pgc_cli.rewrite import RewriteRequest, rewrite_options, run_steps

__all__ = ["command"]


@click.command("name", short_help="Name unnamed nodes.")
@rewrite_options
def command(request: RewriteRequest) -> None:
    """Give every unnamed node of MODEL a name (sng4onnx's) that is unique in every scope; existing names stay.

    Example: pgc-graph name model.onnx -o named.onnx
    """
    from pgc_cli.steps import name_step

    run_steps(request, [name_step()])
