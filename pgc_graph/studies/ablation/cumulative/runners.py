"""Score images with one thing after another removed: planned for tensors, as rows of the whole model for channels."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput
from pgc_graph.errors import ModelError
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session
from pgc_graph.studies.ablation.channels.engine import BATCHED_ROWS, Way
from pgc_graph.studies.ablation.channels.masked import ChannelAxis, Masked, open_masked
from pgc_graph.studies.ablation.channels.reading import read_rows
from pgc_graph.studies.ablation.channels.scoring import run_unchanged
from pgc_graph.studies.ablation.cumulative.plan import StepPlan, plan_steps
from pgc_graph.studies.ablation.plan import Question
from pgc_graph.studies.ablation.reference import Noise
from pgc_graph.studies.ablation.scores import Runner, Scores, Wanted, join_scores, largest_difference, pick_scores
from pgc_graph.studies.ablation.tolerance import allowed_difference

__all__ = ["Steps", "choose_step_runner"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]
Images = NDArray[np.float32]
Tick = Callable[[int], None]

_CHECKED_STEPS = 24
_PLANNED_STEPS = 32


@dataclass(frozen=True, eq=False)
class Steps:
    """What is removed, step by step.

    Attributes:
        question: What is done to which tensors.
        axes: Where the channels of each are; axis 0 for tensors that are removed as a whole.
        chosen: For each tensor `(S, C)` of bool: the channels that are removed in each of S steps.
        source: The model's image input.
        options: How to run.
        baseline: A session on the model that returns the outputs wanted.
    """

    question: Question
    axes: tuple[ChannelAxis, ...]
    chosen: tuple[NDArray[np.bool_], ...]
    source: ImageInput
    options: RuntimeOptions
    baseline: Session

    @property
    def are_whole(self) -> bool:
        """Whether tensors are removed as a whole."""
        return all(axis.axis == 0 for axis in self.axes)

    def part(self, index: Sequence[int]) -> Steps:
        """Return some of the steps."""
        return dataclasses.replace(self, chosen=tuple(rows[list(index)] for rows in self.chosen))


def choose_step_runner(steps: Steps, images: Images, wanted: Wanted, tick: Tick, look: Tick) -> tuple[Runner, Way]:
    """Return the fastest way to score all steps that gives what the plain loop gives on some images.

    Args:
        steps: What is removed.
        images: `(N, ...)` float32, two of them or more where there are.
        wanted: Of these images.
        tick: Called with the number of runs before each call of onnxruntime; may raise.
        look: The same while ways are compared.

    Raises:
        ModelError: onnxruntime cannot run the model.
    """
    count = len(steps.chosen[0])
    checked = np.unique(np.linspace(0, count - 1, min(count, _CHECKED_STEPS)).round().astype(int)).tolist()
    if len(images) == 1:  # rows that depend on each other show only in company
        images, wanted = np.concatenate([images, images.max() - images]), wanted.rows([0, 0])
    fixed = steps.source.fixed_batch
    notes = [] if fixed is None else [f"the model has a fixed batch of {fixed}"]
    ways = {"planned": _planned} if steps.are_whole and fixed is None else {}
    for method, write in {**ways, **({} if fixed == 1 else {"batched": _batched})}.items():
        try:
            found = write(steps, look)(images, wanted).gates(checked)
            difference, allowed = _check(steps.part(checked), images, wanted, found, look)
        except ModelError as error:
            notes.append(f"{method}: {error}")
            continue
        if difference <= allowed:
            return write(steps, tick), Way(method, "; ".join(notes), difference)
        notes.append(f"{method}: it differs by {difference:.1e} from the plain way, allowed {allowed:.1e}")
    note = "; ".join(notes)
    logger.warning("removals are run one image and step at a time: %s", note)
    return _masked(steps, tick, 1, steps.options), Way("plain", note)


def _check(steps: Steps, images: Images, wanted: Wanted, found: Scores, look: Tick) -> tuple[float, float]:
    """Return how far scores are from the plain loop's on the first and the last image, and how far they may be."""
    rows = sorted({0, len(images) - 1})
    images, wanted = images[rows], wanted.rows(rows)
    plain = _masked(steps, look, 1, steps.options)(images, wanted)
    difference = largest_difference(found.rows(rows), plain)

    def rounding() -> float:
        options = dataclasses.replace(steps.options, optimise=False)
        return largest_difference(_masked(steps, look, 1, options)(images, wanted), plain)

    return difference, allowed_difference(steps.source.dtype, difference, rounding)


def _batched(steps: Steps, tick: Tick) -> Runner:
    return _masked(steps, tick, steps.source.fixed_batch or BATCHED_ROWS, steps.options)


def _masked(steps: Steps, tick: Tick, rows: int, options: RuntimeOptions) -> Runner:
    masked: Masked = open_masked(steps.question, steps.axes, steps.source, options, rows=rows)
    chosen = dict(enumerate(steps.chosen))

    def run(images: Images, wanted: Wanted) -> Scores:
        found: list[Scores] = []
        for index in range(len(images)):
            image, asked = images[index : index + 1], wanted.rows([index])
            outputs = masked.run(image, masked.shifts(image, asked), chosen, tick)
            unchanged = run_unchanged(steps.baseline, steps.source, image)
            found.append(read_rows(unchanged, outputs, len(steps.chosen[0]), asked))
        return join_scores(found)

    return run


def _planned(steps: Steps, tick: Tick) -> Runner:
    """Return a runner on one graph for all steps, or on a few for very many."""
    removed = [
        np.flatnonzero([rows[step, 0] for rows in steps.chosen]).tolist() for step in range(len(steps.chosen[0]))
    ]
    pieces = [removed[start : start + _PLANNED_STEPS] for start in range(0, len(removed), _PLANNED_STEPS)]
    parts = [
        (plan, open_session(plan.model, steps.options)) for plan in (plan_steps(steps.question, p) for p in pieces)
    ]
    noise = Noise(steps.question.intervention, steps.question.statistics)

    def run(images: Images, wanted: Wanted) -> Scores:
        outputs: list[list[Array]] = []
        for plan, session in parts:
            tick(len(images) * len(plan.steps))
            feed = _feed(steps, plan, noise, images, wanted)
            feed = {name: array for name, array in feed.items() if name in session.input_names}
            known = dict(zip(session.output_names, session.run(feed), strict=True))
            outputs += [[known[name] for name in names] for names in plan.steps]
        unchanged = steps.baseline.run({steps.source.name: images.astype(steps.source.dtype.numpy())})
        return pick_scores(unchanged, outputs, len(images), wanted)

    return run


def _feed(steps: Steps, plan: StepPlan, noise: Noise, images: Images, wanted: Wanted) -> dict[str, Array]:
    kind = steps.source.dtype.numpy()
    feed: dict[str, Array] = {steps.source.name: images.astype(kind)}
    if plan.donors:
        feed[plan.donors] = np.asarray(wanted.donors, kind)
    for position, name in plan.noise.items():
        tensor, statistics = steps.question.tensors[position], steps.question.statistics[position]
        feed[name] = noise.of(tensor, statistics, wanted.positions)
    return feed
