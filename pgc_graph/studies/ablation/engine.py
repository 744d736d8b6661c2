"""Score a batch under every gate as planned (`plan.py`)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session
from pgc_graph.studies.ablation.constants import find_constants
from pgc_graph.studies.ablation.plan import Plan, Question, build_plan
from pgc_graph.studies.ablation.reference import Noise
from pgc_graph.studies.ablation.scores import Runner, Scores, Wanted, join_scores, pick_scores

__all__ = ["PlannedRunner", "build_plans", "planned_runner"]

logger = logging.getLogger(__name__)

CHUNK = 96
"""Gates a plan: the graph of a plan grows with each, and onnxruntime takes long to open huge graphs."""

Array = NDArray[Any]
Images = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PlannedRunner:
    """Scores batches by plans.

    Attributes:
        run: The runner; safe to call from several threads.
        suffix_runs: How many different results depend on the image.
        constant_gates: How many gates cut the graph, so that one number serves all images.
        plans: The plans, each for the next so many gates.
    """

    run: Runner
    suffix_runs: int
    constant_gates: int
    plans: tuple[Plan, ...]


def planned_runner(question: Question, source: ImageInput, sample: Images, options: RuntimeOptions) -> PlannedRunner:
    """Plan an ablation and open the sessions for it.

    Args:
        question: What is asked.
        source: The model's image input.
        sample: Any images `(N, ...)`; the first two are used to compute constants.
        options: How to run.

    Raises:
        UnsupportedError: A tensor that should be constant is not, or has no row for each image.
        ModelError: onnxruntime refuses or cannot run a model.
    """
    plans = build_plans(question, source, sample, options)
    parts = [(open_session(plan.model, options), plan) for plan in plans]
    scores = [(part, outcome.sources[0]) for part, plan in enumerate(plans) for outcome in plan.outcomes]
    live = {(part, source) for part, source in scores if isinstance(source, str)}
    fixed = sum(not isinstance(source, str) for _, source in scores)

    noise = Noise(question.intervention, question.statistics)

    def run(images: Images, wanted: Wanted) -> Scores:
        return _run_plans(parts, source, noise, images, wanted)

    return PlannedRunner(_batched(run, source), len(live), fixed, plans)


def build_plans(
    question: Question, source: ImageInput, sample: Images, options: RuntimeOptions, *, gates: int = CHUNK
) -> tuple[Plan, ...]:
    """Compute the constants and write the plans, each for the next so many gates.

    Args:
        question: What is asked.
        source: The model's image input.
        sample: Any images `(N, ...)`; the first two are used to compute constants.
        options: How to run.
        gates: Most gates that a plan may have.

    Raises:
        UnsupportedError: A tensor that should be constant is not, or has no row for each image.
        ModelError: onnxruntime refuses or cannot run a model.
    """
    question = _without_batchnorm(question)
    plans: list[Plan] = []
    for start in range(0, len(question.tensors), gates):
        part = question.part(start, gates)
        plans.append(build_plan(part, find_constants(part, source, sample, options)))
        logger.info("%d gates: %d nodes below them", len(part.tensors), plans[-1].copied_nodes)
    return tuple(plans)


def _without_batchnorm(question: Question) -> Question:
    """Fold BatchNormalization, once for all copies, except where that would change a tensor that is asked for.

    onnxruntime would fold every copy by itself: that takes long, and copies would not share their weights.
    """
    if not any(node.op_type == "BatchNormalization" for node in question.model.graph):
        return question
    pinned = question.model.clone()
    values = {value.name: value for node in pinned.graph for value in node.outputs}
    # What is an output of the model stays what it is.
    pinned.graph.outputs[:] = [values[name] for name in dict.fromkeys((*question.outputs, *question.tensors))]
    return dataclasses.replace(question, model=fold_batchnorm(pinned).model)


def _run_plans(
    parts: Sequence[tuple[Session, Plan]], source: ImageInput, noise: Noise, images: Images, wanted: Wanted
) -> Scores:
    feed = {source.name: images.astype(source.dtype.numpy())}
    baseline: list[Array] = []
    ablated: list[list[Array]] = []
    for session, plan in parts:
        if plan.donors:
            feed[plan.donors] = np.asarray(wanted.donors, source.dtype.numpy())
        for tensor, statistics, name in zip(plan.question.tensors, plan.question.statistics, plan.noise, strict=False):
            feed[name] = noise.of(tensor, statistics, wanted.positions)
        outputs = dict(zip(session.output_names, session.run(feed), strict=True))
        baseline = [outputs[name] for name in plan.baseline]
        for outcome in plan.outcomes:
            ablated.append([outputs[item] if isinstance(item, str) else item for item in outcome.sources])
    return pick_scores(baseline, ablated, len(images), wanted)


def _batched(run: Runner, source: ImageInput) -> Runner:
    """Cut batches into those that a model with a fixed batch size takes; the last one is filled up."""
    size = source.fixed_batch
    if size is None:
        return run

    def run_pieces(images: Images, wanted: Wanted) -> Scores:
        pieces: list[Scores] = []
        for start in range(0, len(images), size):
            rows = np.minimum(np.arange(start, start + size), len(images) - 1)
            count = min(size, len(images) - start)
            pieces.append(run(images[rows], wanted.rows(rows.tolist())).rows(range(count)))
        return join_scores(pieces)

    return run_pieces
