"""`pgc-graph opset`."""

from __future__ import annotations

import click

from pgc_cli.rewrite import RewriteRequest, rewrite_options, run_steps

__all__ = ["command"]


@click.command("opset", short_help="Convert to another opset.")
@rewrite_options
@click.option("--to", "target", type=int, required=True, help="Opset to convert to (default domain).")
def command(request: RewriteRequest, target: int) -> None:
    """Convert MODEL to another opset, up or down; the IR version follows.

    A node that cannot be converted exactly is named, and nothing is written.

    Example: pgc-graph opset model.onnx -o model13.onnx --to 13
    """
    from pgc_cli.steps import opset_step

    run_steps(request, [opset_step(target)])
