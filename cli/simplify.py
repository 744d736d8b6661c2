"""`pgc-graph simplify`."""

from __future__ import annotations

import click

from pgc_cli.rewrite import RewriteRequest, parse_shape, rewrite_options, run_steps

__all__ = ["command"]


@click.command("simplify", short_help="Simplify with onnxsim, checked.")
@rewrite_options
@click.option("--fix-shape", multiple=True, metavar="NAME=D,D,...", help="Fix an input's shape: images=1,3,32,32.")
@click.option("--skip", multiple=True, metavar="NAME", help="Leave out one of onnxsim's optimisations, by its name.")
def command(request: RewriteRequest, fix_shape: tuple[str, ...], skip: tuple[str, ...]) -> None:
    """Simplify MODEL with onnxsim and check the result on random inputs of several batch sizes.

    If the check fails, OUT holds the original graph, and the exit code is 1. BatchNormalization is left to fold-bn;
    metadata, doc strings and initializers that can be overridden stay.

    Example: pgc-graph simplify model.onnx -o simple.onnx
    """
    from pgc_cli.steps import simplify_step

    run_steps(request, [simplify_step(fix_shapes=dict(parse_shape(text) for text in fix_shape), skip=skip)])
