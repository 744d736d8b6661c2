"""`pgc-graph optimize`."""

from __future__ import annotations

import click

from pgc_cli.rewrite import RewriteRequest, rewrite_options, run_steps

__all__ = ["command"]


@click.command("optimize", short_help="name, simplify, fold-bn and opset in one go.")
@rewrite_options
@click.option("--opset", "target", type=int, default=None, help="Opset to convert to  [default: the model's own]")
def command(request: RewriteRequest, target: int | None) -> None:
    """Clean MODEL in one go: name, simplify, fold-bn, and opset where asked for, each checked.

    Example: pgc-graph optimize model.onnx -o clean.onnx
    """
    from pgc_cli.steps import fold_step, name_step, opset_step, simplify_step

    steps = [name_step(), simplify_step(), fold_step()]
    if target is not None:
        steps.append(opset_step(target))
    run_steps(request, steps)
