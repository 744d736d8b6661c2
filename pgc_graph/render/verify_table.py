"""The verdict on two models, as text."""

from __future__ import annotations

from pgc_graph.render.table import align
from pgc_graph.studies.divergence import Divergence
from pgc_graph.studies.verify import Verification

__all__ = ["verify_table"]

_SHOWN_SOURCES = 4
_SHOWN_NODES = 8


def verify_table(verification: Verification) -> str:
    """Write one line an output, the verdict, and where the models part."""
    rows: list[tuple[str, ...]] = [("output", "max |Δ|", "allowed", "max |value|", "verdict")]
    for output in verification.outputs:
        verdict = "ok" if output.passed else f"DIFFERS{': ' if output.note else ''}{output.note}"
        numbers = (output.max_difference, output.tolerance, output.max_magnitude)
        rows.append((output.name, *(f"{number:.3g}" for number in numbers), verdict))
    failed = sum(not output.passed for output in verification.outputs)
    total = len(verification.outputs)
    inputs = "1 input" if verification.runs == 1 else f"{verification.runs} inputs"
    verdict = f"{failed} of {total} outputs differ" if failed else f"all {total} outputs agree"
    lines = [*align(rows, right=(1, 2, 3)), f"{verdict}, over {inputs}"]
    if verification.divergence is not None:
        lines += ["", *_divergence(verification.divergence)]
    return "\n".join(lines)


def _divergence(found: Divergence) -> list[str]:
    size = found.note or f"max |Δ| = {found.max_difference:.3g} at max |value| = {found.max_magnitude:.3g}"
    node = f"{found.operator} {found.node}" if found.node else "no node of the first model"
    lines = [f"First tensor that differs: {found.tensor} ({size})", f"  computed by {node}"]
    if (found.candidate_node, found.candidate_operator) != (found.node, found.operator) and found.candidate_node:
        lines.append(f"  in the second model by {found.candidate_operator} {found.candidate_node}")
    if found.agreeing:
        more = len(found.agreeing) - _SHOWN_SOURCES
        shown = ", ".join(found.agreeing[:_SHOWN_SOURCES]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"  from tensors that agree: {shown}")
    else:
        lines.append("  from inputs and weights, with no tensor before it that both models have")
    if len(found.between) > 1:
        more = len(found.between) - _SHOWN_NODES
        shown = ", ".join(found.between[:_SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"  by way of: {shown}")
    return [*lines, f"  ({found.compared} of {found.matched} tensors that both models have were compared)"]
