"""Choose for each tensor the fastest way to run its channels that gives what the plain loop gives."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput
from pgc_graph.errors import ModelError
from pgc_graph.runtime.session import RuntimeOptions, Session
from pgc_graph.studies.ablation.channels.engine import ChannelRunner, TensorEngine, Tick, Way
from pgc_graph.studies.ablation.channels.masked import ChannelAxis, Masked, Rows, open_masked
from pgc_graph.studies.ablation.channels.reading import read_rows
from pgc_graph.studies.ablation.channels.scoring import KEPT_BYTES, run_unchanged
from pgc_graph.studies.ablation.plan import Question
from pgc_graph.studies.ablation.scores import Scores, Wanted, largest_difference
from pgc_graph.studies.ablation.tolerance import allowed_difference

__all__ = ["Bench", "choose_engines"]

logger = logging.getLogger(__name__)

_CHECKED_CHANNELS = 3


@dataclass(frozen=True, eq=False)
class Bench:
    """What channels are checked on.

    Attributes:
        question: What is done to which tensors.
        axes: Where the channels of each are.
        source: The model's image input.
        options: How to run.
        images: One or two images `(N, ...)` float32.
        wanted: Of these images.
        baseline: A session on the model that returns the outputs wanted.
    """

    question: Question
    axes: tuple[ChannelAxis, ...]
    source: ImageInput
    options: RuntimeOptions
    images: NDArray[np.float32]
    wanted: Wanted
    baseline: Session


def choose_engines(bench: Bench, tick: Tick) -> tuple[TensorEngine, ...]:
    """Choose a way for each tensor, compare it with the plain loop on a few channels, and take a slower one if need be.

    Args:
        bench: What they are compared on.
        tick: Called before each call of onnxruntime; may raise.

    Raises:
        ModelError: onnxruntime cannot run the model.
    """
    judge = open_masked(bench.question, bench.axes, bench.source, bench.options)
    engines: list[TensorEngine] = []
    for position in range(len(bench.axes)):
        keep = sum(engine.weight_bytes for engine in engines) <= KEPT_BYTES
        engines.append(_choose(bench, position, judge, tick, keep=keep))
    return tuple(engines)


def _choose(bench: Bench, position: int, judge: Masked, tick: Tick, *, keep: bool) -> TensorEngine:
    question, axis = bench.question.part(position, 1), bench.axes[position]
    fixed = bench.source.fixed_batch
    notes = [] if fixed is None else [f"the model has a fixed batch of {fixed}"]
    for method in ("compiled", "batched") if fixed is None else ("batched",) if fixed > 1 else ():
        try:
            engine = TensorEngine(question, axis, bench.source, bench.options, Way(method, "; ".join(notes)))
            difference, allowed = _check(bench, position, engine.open(keep=keep), judge, tick)
        except ModelError as error:
            notes.append(f"{method}: {error}")
            continue
        if difference <= allowed:
            engine.way = dataclasses.replace(engine.way, self_check=difference)
            logger.info("channels of %s: %s, checked to %.1e", question.tensors[0], method, difference)
            return engine
        notes.append(f"{method}: it differs by {difference:.1e} from the plain way, allowed {allowed:.1e}")
    note = "; ".join(notes)
    logger.warning("the channels of %s are run one by one: %s", question.tensors[0], note)
    return TensorEngine(question, axis, bench.source, bench.options, Way("plain", note))


def _check(bench: Bench, position: int, runner: ChannelRunner, judge: Masked, tick: Tick) -> tuple[float, float]:
    """Return how far a runner is from the plain loop, and how far it may be."""
    count = bench.axes[position].count
    # More rows than one, so that rows that depend on each other show.
    channels = np.unique(np.linspace(0, count - 1, min(count, _CHECKED_CHANNELS)).round().astype(np.int64))
    channels = np.resize(channels, max(2, len(channels)))
    plain = _scores(bench, position, judge, channels, tick)
    difference = max(map(largest_difference, _found(bench, runner, channels, tick), plain))

    def rounding() -> float:
        options = dataclasses.replace(bench.options, optimise=False)
        other = open_masked(bench.question, bench.axes, bench.source, options)
        return max(map(largest_difference, _scores(bench, position, other, channels, tick), plain))

    return difference, allowed_difference(bench.source.dtype, difference, rounding)


def _scores(bench: Bench, position: int, masked: Masked, channels: NDArray[np.int64], tick: Tick) -> list[Scores]:
    chosen = {position: channels[:, None] == np.arange(bench.axes[position].count)}

    def run(image: NDArray[np.float32], wanted: Wanted, rows: NDArray[np.int64], tick: Tick) -> Rows:
        return masked.run(image, masked.shifts(image, wanted), chosen, tick)

    return _found(bench, run, channels, tick)


def _found(bench: Bench, runner: ChannelRunner, channels: NDArray[np.int64], tick: Tick) -> list[Scores]:
    """Return the scores of each image."""
    found: list[Scores] = []
    for index in range(len(bench.images)):
        image, wanted = bench.images[index : index + 1], bench.wanted.rows([index])
        outputs = runner(image, wanted, channels, tick)
        unchanged = run_unchanged(bench.baseline, bench.source, image)
        found.append(read_rows(unchanged, outputs, len(channels), wanted))
    return found
