"""Score a batch under every gate as planned (`plan.py`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput
from pgc_graph.errors import UnsupportedError
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session
from pgc_graph.studies.ablation.plan import Constant, ConstantsModel, Plan, Question, build_plan, constants_model
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
    plans: list[Plan] = []
    for start in range(0, len(question.tensors), gates):
        part = question.part(start, gates)
        plans.append(build_plan(part, _constants(part, source, sample, options)))
        logger.info("%d gates: %d nodes below them", len(part.tensors), plans[-1].copied_nodes)
    return tuple(plans)


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


def _constants(
    question: Question, source: ImageInput, sample: Images, options: RuntimeOptions
) -> list[dict[str, Constant]]:
    """Compute what a gate makes constant; nothing where its tensor goes on to depend on the image."""
    if not question.intervention.makes_constant:
        return [{} for _ in question.tensors]
    asked = constants_model(question)
    if not asked.model.graph.outputs:
        return [{} for _ in question.tensors]
    session = open_session(asked.model, options)
    counts = (1, 2) if source.fixed_batch is None else (source.fixed_batch,)
    runs: list[dict[str, Array]] = []
    for count in counts:
        rows = np.resize(sample[:2], (count, *sample.shape[1:])).astype(source.dtype.numpy())
        runs.append(dict(zip(session.output_names, session.run({source.name: rows}), strict=True)))
    return [_read_constants(names, asked, runs) for names in asked.names]


def _read_constants(names: dict[str, str], asked: ConstantsModel, runs: list[dict[str, Array]]) -> dict[str, Constant]:
    found: dict[str, Constant] = {}
    for original, name in names.items():
        # Adding 0 turns -0 into 0, so that equal constants have equal bytes.
        one = runs[0][name] + np.zeros((), runs[0][name].dtype)
        more = runs[-1][name]
        batched = one.shape != more.shape
        if batched and more.shape != (2, *one.shape[1:]):
            raise UnsupportedError(f"tensor {original!r} has not one row for each image")
        if not np.allclose(more, one, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise UnsupportedError(f"tensor {original!r} should be constant below a gate, but is not")
        found[original] = Constant(np.ascontiguousarray(one), batched)
    return found
