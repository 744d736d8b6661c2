"""`pgc-graph ablate --costs`: what the block of each tensor costs, beside what the tensor is good for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgc_cli.ablate_options import Study
    from pgc_graph.sources import ImageSource
    from pgc_graph.studies.ablation import AblationResult
    from pgc_graph.studies.ablation.cost import BlockCost

__all__ = ["cost_table", "costs_of"]


def costs_of(study: Study, result: AblationResult, source: ImageSource) -> tuple[BlockCost, ...]:
    """Measure the block of every tensor that was ablated on the first image, in the order of the ranking."""
    from pgc_graph.sources import first_image, to_row
    from pgc_graph.studies.ablation.cost import measure_costs

    image = to_row(first_image(source), study.preprocess)
    targets = [impact.target for impact in result.gates]
    return measure_costs(study.model, targets, image, runtime=study.runtime)


def cost_table(result: AblationResult, costs: Sequence[BlockCost]) -> list[str]:
    """Return what each tensor is good for and what its block costs for one image."""
    from pgc_graph.render.table import align

    head = ("rank", "meanΔ", "nodes", "MACs", "weights", "activation", "ms", "tensor")
    rows: list[tuple[str, ...]] = [head]
    for impact, cost in zip(result.gates, costs, strict=True):
        counts = (cost.nodes, cost.macs, cost.parameter_bytes, cost.activation_bytes)
        figures = [f"{impact.delta.mean:+.4f}", *(f"{count:,}" for count in counts), f"{cost.milliseconds:.4f}"]
        rows.append((f"{impact.rank:02d}.", *figures, cost.tensor))
    return [
        "Cost of the nodes that lead to each tensor and to none before it, for one image (bytes; ms on one thread):",
        *align(rows, right=range(len(head) - 1)),
    ]
