"""`pgc-graph set-batch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgc_cli.rewrite import RewriteRequest, Step, rewrite_options, run_steps

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.passes.rewrite import Rewrite

__all__ = ["command"]


@click.command("set-batch", short_help="Make the batch dimension fixed or symbolic.")
@rewrite_options
@click.option("--to", "batch", required=True, metavar="SIZE|NAME", help="A number of images, or a name for any number.")
def command(request: RewriteRequest, batch: str) -> None:
    """Give MODEL's inputs and outputs another batch dimension: a fixed size, or a symbol that takes any size.

    Reshape targets that repeat the old size are rewritten to fit any; what cannot be is refused by name. MODEL and OUT
    both run, each at its own batch sizes, and are compared row by row.

    Example: pgc-graph set-batch model.onnx --to 8 -o model8.onnx
    """
    run_steps(request, [_batch_step(int(batch) if batch.lstrip("-").isdecimal() else batch)])


def _batch_step(batch: int | str) -> Step:
    from pgc_graph.passes.batch import set_batch
    from pgc_graph.studies.rewrite_checks import check_batch

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        interface = {value.name for value in (*before.graph.inputs, *before.graph.outputs)}
        shown = [f"{change.subject} {change.action}" for change in rewrite.changes if change.subject in interface]
        others = len(rewrite.changes) - len(shown)
        return ", ".join(shown or ["nothing to change"]) + (f", {others} operands rewritten" if others else "")

    return Step("set-batch", lambda model: set_batch(model, batch), describe, check=check_batch)
