"""`pgc-graph gate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgc_cli.options import VariadicCommand, target_options
from pgc_cli.rewrite import RewriteRequest, Step, rewrite_options, run_steps

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.analysis.targets import TargetQuery
    from pgc_graph.passes.rewrite import Rewrite

__all__ = ["command"]


@click.command("gate", cls=VariadicCommand, short_help="Put a gate behind every chosen tensor.")
@rewrite_options
@target_options
@click.option("--per-channel", is_flag=True, help="One gate value a channel instead of one a tensor.")
def command(request: RewriteRequest, query: TargetQuery, per_channel: bool) -> None:
    """Write MODEL with a gate behind every Sigmoid→Mul tensor, or behind those you choose.

    A gate multiplies its tensor by a graph input that is 1 unless it is fed, so OUT runs like MODEL wherever MODEL ran;
    feed 0 to switch a tensor off, or train the gates. Simplifiers remove gates: gate last.

    Example: pgc-graph gate model.onnx -o gated.onnx --name-contains stem features.0
    """
    run_steps(request, [_gate_step(query, per_channel)])


def _gate_step(query: TargetQuery, per_channel: bool) -> Step:
    from pgc_graph.analysis.targets import find_targets, select_targets
    from pgc_graph.errors import UnsupportedError
    from pgc_graph.passes.gates import insert_gates

    def apply(model: ir.Model) -> Rewrite:
        targets = select_targets(find_targets(model), query)
        gated = insert_gates(model, [target.tensor for target in targets], per_channel=per_channel)
        if not gated.gates:
            first = gated.skipped[0]
            raise UnsupportedError(f"none of {len(targets)} tensors can be gated: {first.subject} {first.reason}")
        return gated

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        count = sum(change.action.startswith("gated by") for change in rewrite.changes)
        kind = "per-channel" if per_channel else "scalar"
        return f"{count} {kind} gates, each a graph input that is 1 by default"

    return Step("gate", apply, describe)
