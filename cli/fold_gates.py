"""`pgc-graph fold-gates`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgc_cli.rewrite import RewriteRequest, Step, rewrite_options, run_steps

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.passes.rewrite import Rewrite

__all__ = ["command"]


@click.command("fold-gates", short_help="Multiply gates into the weights.")
@rewrite_options
def command(request: RewriteRequest) -> None:
    """Multiply the gates of MODEL, which `pgc-graph gate` put in, into the weights before or after them.

    A gate counts by its default value. What cannot fold exactly keeps its gate and is listed with the reason.

    Example: pgc-graph fold-gates gated.onnx -o folded.onnx
    """
    run_steps(request, [_fold_step()])


def _fold_step() -> Step:
    from pgc_graph.passes.fold_gates import fold_gates

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        count, left = len(rewrite.changes), len(rewrite.skipped)
        return f"{count} of {count + left} gates folded" + (f", {left} left" if left else "")

    return Step("fold-gates", fold_gates, describe)
