"""`pgc-graph ablate --explain` and `--save-plan`: what will be computed, in words and as a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgc_cli.ablate_options import Study
    from pgc_graph.sources import ImageSource
    from pgc_graph.studies.ablation.explain import Explanation

__all__ = ["explain", "write_plan"]


def explain(study: Study, images: ImageSource | None) -> str:
    """Return what an ablation computes, as text or JSON; images are looked at where the intervention has to."""
    from pgc_graph.results import to_json
    from pgc_graph.studies.ablation.explain import explain_ablation

    explanation = explain_ablation(
        study.model,
        study.targets,
        intervention=study.intervention,
        images=images or (),
        preprocess=study.preprocess,
        runtime=study.runtime,
    )
    return to_json(explanation) if study.as_json else "\n".join(_lines(explanation))


def write_plan(study: Study, images: ImageSource | None, path: Path) -> str:
    """Write the plan to a file and return a line that says so."""
    from pgc_graph import modelio
    from pgc_graph.studies.ablation.explain import plan_model

    plan = plan_model(
        study.model,
        study.targets,
        intervention=study.intervention,
        images=images or (),
        preprocess=study.preprocess,
        runtime=study.runtime,
    )
    modelio.check(plan)
    modelio.save(plan, path)
    return f"[INFO] plan: {plan.graph.num_nodes()} nodes, {len(plan.graph.outputs)} outputs -> {path}"


def _lines(explanation: Explanation) -> Iterator[str]:
    from pgc_graph.render.table import align

    numbers = {gate.target.tensor: f"[{index:03d}]" for index, gate in enumerate(explanation.gates)}
    rows: list[tuple[str, ...]] = [("gate", "left to run", "nodes", "MACs", "shared with", "tensor")]
    for gate in explanation.gates:
        tensor = gate.target.tensor
        left = "cut: a number" if gate.cut else "suffix"
        shared = " ".join(numbers[name] for name in gate.shared_with)
        rows.append((numbers[tensor], left, f"{gate.nodes:,}", f"{gate.macs:,}", shared or "-", tensor))
    yield from align(rows, right=(2, 3))
    yield ""
    yield from align(_totals(explanation))


def _totals(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    engine, gates = explanation.engine, len(explanation.gates)
    saved = f", {explanation.plain_macs / explanation.plan_macs:.1f}x fewer" if explanation.plan_macs else ""
    yield "plain loop", f"{explanation.plain_macs:,} MACs an image: {explanation.model_macs:,} x {gates + 1} runs"
    if engine.method == "planned":
        where = "one graph" if explanation.graphs == 1 else f"{explanation.graphs} graphs"
        yield "plan", f"{explanation.plan_macs:,} MACs an image{saved}: {explanation.plan_nodes:,} nodes in {where}"
        yield "gates", f"{gates}: {engine.constant_gates} cut the graph, {engine.suffix_runs} suffixes for the others"
        yield "check", f"max |Δ| = {engine.self_check:.1e} against the plain loop on two random images"
    else:
        yield "plan", f"none, the plain loop is run: {engine.note}"
    if explanation.uncounted:
        yield "not counted", f"MACs of {len(explanation.uncounted)} nodes, first: {explanation.uncounted[0].node}"
    for skip in explanation.skipped_tensors:
        yield "no gate", f"{skip.subject} {skip.reason}"
