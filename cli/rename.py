"""`pgc-graph rename`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgc_cli.rewrite import RewriteRequest, Step, rewrite_options, run_steps

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.passes.rewrite import Rewrite

__all__ = ["command"]


# A renamed model is the same function to the last bit.
@click.command("rename", short_help="Rename tensors and nodes.", context_settings={"default_map": {"tolerance": 0.0}})
@rewrite_options
@click.argument("pattern")
@click.argument("replacement")
@click.option("--tensors", is_flag=True, help="Rename tensors only: inputs, outputs, weights and all between.")
@click.option("--nodes", is_flag=True, help="Rename nodes only.")
def command(request: RewriteRequest, pattern: str, replacement: str, tensors: bool, nodes: bool) -> None:
    r"""Replace what the regular expression PATTERN finds in the names of MODEL's tensors and nodes by REPLACEMENT, in
    every scope; \1 stands for the first group. Uses, captures in subgraphs, inputs and outputs follow.

    Two names that would become one are refused.

    Example: pgc-graph rename model.onnx '^/base_model/' '/' -o renamed.onnx
    """
    run_steps(request, [_rename_step(pattern, replacement, tensors or not nodes, nodes or not tensors)])


def _rename_step(pattern: str, replacement: str, tensors: bool, nodes: bool) -> Step:
    from pgc_graph.passes.rename import rename

    def apply(model: ir.Model) -> Rewrite:
        return rename(model, pattern, replacement, tensors=tensors, nodes=nodes)

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        renamed = sum(change.action.startswith("tensor") for change in rewrite.changes)
        return f"{renamed} tensors and {len(rewrite.changes) - renamed} nodes renamed"

    return Step("rename", apply, describe)
