"""`pgc-graph opset`."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import click

from pgc_cli.errors import EXIT_CHECK_FAILED
from pgc_cli.rewrite import RewriteRequest, rewrite_options, run_steps

if TYPE_CHECKING:
    from pgc_graph.passes.opset import Verdict

__all__ = ["command"]


class PlanNeedsNoOutput(click.Command):
    """A command that requires -o, but not with --plan."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Name an output that is never opened where only a plan is asked for."""
        return super().parse_args(ctx, ["--output", os.devnull, *args] if "--plan" in args else args)


@click.command("opset", cls=PlanNeedsNoOutput, short_help="Convert to another opset.")
@rewrite_options
@click.option("--to", "target", type=int, required=True, help="Opset to convert to (default domain).")
@click.option("--ir-version", type=int, default=None, help="IR version to write  [default: the lowest that suffices]")
@click.option(
    "--plan", is_flag=True, help="Only list what happens to each node; write nothing. Exit code 1 if refused."
)
def command(request: RewriteRequest, target: int, ir_version: int | None, plan: bool) -> None:
    """Convert MODEL to another opset, up or down; the IR version follows.

    A node that cannot be converted exactly is named, and nothing is written.

    Example: pgc-graph opset model.onnx -o model13.onnx --to 13
    """
    from pgc_cli.steps import opset_step

    if plan:
        _show_plan(request, target)
        return
    run_steps(request, [opset_step(target, ir_version=ir_version)])


def _show_plan(request: RewriteRequest, target: int) -> None:
    from pgc_graph import modelio
    from pgc_graph.passes.opset import plan_conversion
    from pgc_graph.results import to_json
    from pgc_graph.runtime.opsets import newest_opset

    model = modelio.load(request.source)
    verdicts = plan_conversion(model, target, newest=newest_opset())
    counts = Counter(verdict.action for verdict in verdicts)
    if request.as_json:
        click.echo(to_json({"input": request.source, "target": target, "counts": counts, "nodes": verdicts}))
    else:
        click.echo("\n".join([*_lines(verdicts), _summary(counts, target)]))
    if counts["refused"]:
        click.get_current_context().exit(EXIT_CHECK_FAILED)


def _lines(verdicts: tuple[Verdict, ...]) -> list[str]:
    shown = [verdict for verdict in verdicts if verdict.action != "same"]
    width = max((len(verdict.node) for verdict in shown), default=0)
    return [
        f"{verdict.node:<{width}}  {verdict.action:<9}  {verdict.detail}"
        + (f"; remedy: {verdict.remedy}" if verdict.remedy else "")
        for verdict in shown
    ]


def _summary(counts: Counter[str], target: int) -> str:
    words = ", ".join(f"{count} {action}" for action, count in sorted(counts.items())) or "no nodes"
    return f"Opset {target}: {words}; nothing was written"
