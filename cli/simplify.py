"""`pgc-graph simplify`."""

from __future__ import annotations

import dataclasses

import click

from pgc_cli.rewrite import RewriteRequest, parse_shape, rewrite_options, run_steps

__all__ = ["command"]


@click.command("simplify", short_help="Simplify with onnxsim, checked.")
@rewrite_options
@click.option("--fix-shape", multiple=True, metavar="NAME=D,D,...", help="Fix an input's shape: images=1,3,32,32.")
@click.option("--skip", multiple=True, metavar="NAME", help="Leave out an optimisation, by onnxsim's name of it.")
@click.option("--no-constant-folding", is_flag=True, help="Leave what depends on constants alone computed.")
@click.option("--subgraphs", is_flag=True, help="Let onnxsim work on the bodies of If, Loop and Scan, too.")
@click.option(
    "--max-constant",
    type=click.IntRange(0),
    default=65_536,
    show_default=True,
    metavar="BYTES",
    help="Where folding would make the model grow, leave larger constants computed.",
)
def command(
    request: RewriteRequest,
    fix_shape: tuple[str, ...],
    skip: tuple[str, ...],
    no_constant_folding: bool,
    subgraphs: bool,
    max_constant: int,
) -> None:
    """Simplify MODEL with onnxsim, remove what it leaves (idle, dead and duplicate nodes, in every scope), and check the
    result on random inputs of several batch sizes.

    If the check fails, OUT holds the original graph, and the exit code is 1. BatchNormalization is left to fold-bn;
    metadata, doc strings and initializers that can be overridden stay.

    Example: pgc-graph simplify model.onnx -o simple.onnx
    """
    from pgc_cli.steps import simplify_step

    fixed = dict(parse_shape(text) for text in fix_shape)
    # The result takes these shapes only, so the check must feed them.
    request = dataclasses.replace(request, shapes={**request.shapes, **fixed})
    step = simplify_step(
        fix_shapes=fixed,
        skip=skip,
        fold_constants=not no_constant_folding,
        subgraphs=subgraphs,
        max_constant=max_constant,
    )
    run_steps(request, [step])
