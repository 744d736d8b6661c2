"""What an ablation will compute: for each gate what is left to run, and what that costs against the plain loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import own_preprocess
from pgc_graph.analysis.macs import UncountedNode, count_macs
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.images import ImageBatch, Preprocess
from pgc_graph.passes.rewrite import Skip
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.results import to_data
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation.again import Images, ReadAgain
from pgc_graph.studies.ablation.engine import build_plans
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.parts import PlanParts, Shapes
from pgc_graph.studies.ablation.plan import Outcome, Plan
from pgc_graph.studies.ablation.prepare import Prepared, choose_runner, prepare, with_statistics
from pgc_graph.studies.ablation.result import EngineReport
from pgc_graph.studies.ablation.scores import Wanted

__all__ = ["PLAN_KEY", "Explanation", "GatePlan", "explain_ablation", "plan_model"]

PLAN_KEY = "pgc.ablation"
"""Where the metadata of a plan's model say, as JSON, which of its outputs answers for which tensor."""

_SAMPLE = 3
_BATCH = 8


@dataclass(frozen=True)
class GatePlan:
    """What is left to run for one gate.

    Attributes:
        target: The tensor.
        cut: Whether the gate cuts the graph: one number, computed once, serves all images.
        shared_with: Tensors whose gates have the same result, so that one run serves all of them.
        nodes: Nodes that its result needs and the run without gates does not; some may serve other gates as well.
        macs: Multiply-accumulates of these nodes, for one image.
    """

    target: Target
    cut: bool
    shared_with: tuple[str, ...]
    nodes: int
    macs: int


@dataclass(frozen=True)
class Explanation:
    """What an ablation computes for one image.

    Attributes:
        gates: One a tensor, in the order of the targets.
        skipped_tensors: Tensors that cannot be gated.
        model_macs: Multiply-accumulates of the model.
        plain_macs: Of the plain loop: the model once, and once a gate.
        plan_macs: Of the plan: the model once, and each different remainder once.
        plan_nodes: Nodes of the plan.
        graphs: Over how many ONNX graphs, each with a run without gates, the plan is spread.
        uncounted: Nodes whose multiply-accumulates are unknown and missing from the counts.
        engine: How the images would be run; the self-check is on random images.
    """

    gates: tuple[GatePlan, ...]
    skipped_tensors: tuple[Skip, ...]
    model_macs: int
    plain_macs: int
    plan_macs: int
    plan_nodes: int
    graphs: int
    uncounted: tuple[UncountedNode, ...]
    engine: EngineReport


def explain_ablation(
    model: ir.Model,
    targets: Sequence[Target],
    *,
    intervention: Intervention | None = None,
    images: Images = (),
    preprocess: Preprocess | None = None,
    runtime: RuntimeOptions | None = None,
) -> Explanation:
    """Plan an ablation, check the plan on random images, and say what it computes.

    Args:
        model: A classifier with one image input; stays untouched.
        targets: The tensors, from `select_targets`.
        intervention: What is done to a tensor; by default it is switched off.
        images: Files, or any source, of images that the intervention takes means and spreads from, or random ones.
        preprocess: Decides the size of images; by default as the model's metadata say.
        runtime: Where to run the check.

    Raises:
        UnsupportedError: The model is no image classifier, or none of the tensors can be gated.
        ModelError: onnxruntime cannot run the model, or its shapes cannot be inferred.
    """
    prepared, sample = _prepare(model, targets, intervention, images, preprocess, runtime)
    wanted = Wanted(positions=np.arange(_SAMPLE, dtype=np.int64), donors=sample[::-1])
    choice = choose_runner(prepared, sample, wanted)
    shapes = {prepared.source.name: (prepared.source.fixed_batch or 1, *sample.shape[1:])}
    whole = count_macs(prepared.model, input_shapes=shapes)
    nodes, runs = prepared.model.graph.num_nodes(), len(prepared.targets) + 1
    if choice.plans:
        counts = [count_macs(plan.model, input_shapes=shapes) for plan in choice.plans]
        gates = _gates(choice.plans, prepared.targets, shapes)
    else:
        counts = [whole] * runs
        gates = [GatePlan(target, False, (), nodes, whole.total) for target in prepared.targets]
    return Explanation(
        gates=tuple(gates),
        skipped_tensors=prepared.skipped,
        model_macs=whole.total,
        plain_macs=whole.total * runs,
        plan_macs=sum(count.total for count in counts),
        plan_nodes=sum(plan.model.graph.num_nodes() for plan in choice.plans) or nodes * runs,
        graphs=len(choice.plans),
        uncounted=tuple(dict.fromkeys(node for count in counts for node in count.uncounted)),
        engine=choice.report,
    )


def plan_model(
    model: ir.Model,
    targets: Sequence[Target],
    *,
    intervention: Intervention | None = None,
    images: Images = (),
    preprocess: Preprocess | None = None,
    runtime: RuntimeOptions | None = None,
) -> ir.Model:
    """Plan an ablation as one model, whose metadata say which output answers for which tensor.

    `pgc.ablation` in its `metadata_props` is JSON: `baseline` names the outputs without gates (the score, then the logit
    where there is one); `gates` has for each tensor its `results` in the same order, each the name of an output or, where
    it is the same for all images, a list of numbers (one row). `resample` adds the input `donors`, images to take tensors
    from; `noise` adds one input a gate, what is added to its tensor.

    Args:
        model: A classifier with one image input; stays untouched.
        targets: The tensors, from `select_targets`.
        intervention: What is done to a tensor; by default it is switched off.
        images: Files, or any source, of images that the intervention takes means and spreads from, or random ones.
        preprocess: Decides the size of images; by default as the model's metadata say.
        runtime: Where constants are computed.

    Raises:
        OptionError: The intervention needs images, and there are none.
        UnsupportedError: The model is no image classifier, none of the tensors can be gated, or a tensor that should be
            constant is not.
        ModelError: onnxruntime cannot run the model.
    """
    chosen = intervention or Intervention()
    if chosen.needs_statistics and not images:
        raise OptionError(f"a plan for {chosen.mode} holds numbers taken from images; give images")
    prepared, sample = _prepare(model, targets, chosen, images, preprocess, runtime)
    tensors = prepared.question.tensors
    (plan,) = build_plans(prepared.question, prepared.source, sample, prepared.options, gates=len(tensors))
    described = {
        "baseline": plan.baseline,
        "intervention": chosen,
        "donors": plan.donors,
        "noise": plan.noise,
        "gates": [
            {"tensor": tensor, "results": [s if isinstance(s, str) else np.ravel(s) for s in outcome.sources]}
            for tensor, outcome in zip(tensors, plan.outcomes, strict=True)
        ],
    }
    typed = infer_shapes(plan.model)
    typed.metadata_props[PLAN_KEY] = json.dumps(to_data(described), ensure_ascii=False)
    return typed


def _prepare(
    model: ir.Model,
    targets: Sequence[Target],
    intervention: Intervention | None,
    images: Images,
    preprocess: Preprocess | None,
    runtime: RuntimeOptions | None,
) -> tuple[Prepared, NDArray[np.float32]]:
    """Return what is to be planned, and random images."""
    given = preprocess or own_preprocess(model)
    prepared = prepare(model, targets, intervention or Intervention(), runtime or RuntimeOptions())
    sample = _random_images(given)
    noise = [ImageBatch((Path(),) * _SAMPLE, sample, ())]
    return with_statistics(prepared, ReadAgain(images, given, _BATCH) if len(images) else noise), sample


def _random_images(given: Preprocess) -> NDArray[np.float32]:
    """Return images of noise: what is constant below a gate is so for any image."""
    shape = (3, *given.size) if given.layout == "NCHW" else (*given.size, 3)
    images = np.random.default_rng(0).random((_SAMPLE, *shape), np.float32)
    return np.round(images * np.float32(255)) if given.pixels else images


def _gates(plans: Sequence[Plan], targets: Sequence[Target], shapes: Shapes) -> list[GatePlan]:
    found: list[GatePlan] = []
    for plan in plans:
        mine = targets[len(found) : len(found) + len(plan.outcomes)]
        keys = [_key(outcome) for outcome in plan.outcomes]
        parts = PlanParts(plan, shapes)
        costs = {key: parts.beyond_baseline([source for source in key if isinstance(source, str)]) for key in set(keys)}
        for target, key in zip(mine, keys, strict=True):
            twins = (other.tensor for other, theirs in zip(mine, keys, strict=True) if theirs == key)
            cut = not any(isinstance(source, str) for source in key)
            found.append(GatePlan(target, cut, tuple(name for name in twins if name != target.tensor), *costs[key]))
    return found


def _key(outcome: Outcome) -> tuple[str | bytes, ...]:
    """Equal for equal results."""
    return tuple(source if isinstance(source, str) else source.tobytes() for source in outcome.sources)
