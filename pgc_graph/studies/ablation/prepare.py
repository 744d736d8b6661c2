"""Everything before the first image counts: which tensors can be gated, and which way the model may be run."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput, image_input, score_output
from pgc_graph.analysis.logit import logit_tensor
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import ModelError, UnsupportedError
from pgc_graph.images import ImageBatch
from pgc_graph.passes.gates import GatedModel, insert_gates
from pgc_graph.passes.rewrite import Skip
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.runtime.providers import choose_provider
from pgc_graph.runtime.session import RuntimeOptions, available_cores
from pgc_graph.studies.ablation.engine import PlannedRunner, planned_runner
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.plain import gated_runner, overridden_runner
from pgc_graph.studies.ablation.plan import Plan, Question
from pgc_graph.studies.ablation.reference import TensorStatistics, measure_tensors
from pgc_graph.studies.ablation.result import EngineReport
from pgc_graph.studies.ablation.scores import Runner, Wanted
from pgc_graph.studies.ablation.selfcheck import compare, start_check
from pgc_graph.studies.ablation.workers import ROWS

__all__ = ["Choice", "Prepared", "choose_runner", "prepare", "with_statistics"]

logger = logging.getLogger(__name__)

_CHECKED_IMAGES = 2
_FEWEST_ROWS = 4
_ROWS_ELSEWHERE = 32
_CACHED_BYTES = 2**21  # of one tensor; measured: calls are fastest around it, and hardly slower at half and twice that
_FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model that is ready to be ablated.

    Attributes:
        model: The model without gates, its tensors typed.
        gated: The model with gates.
        intervention: What is done to tensors.
        statistics: Of the tensors, where the intervention needs them.
        targets: The tensors that can be gated, in the order of `gated.gates`.
        skipped: The others.
        source: The image input.
        outputs: The score and, where there is one, the logit.
        options: Where to run.
    """

    model: ir.Model
    gated: GatedModel
    intervention: Intervention
    targets: tuple[Target, ...]
    skipped: tuple[Skip, ...]
    source: ImageInput
    outputs: tuple[str, ...]
    options: RuntimeOptions
    statistics: tuple[TensorStatistics, ...] = ()

    @property
    def question(self) -> Question:
        """What is asked of the model."""
        tensors = tuple(target.tensor for target in self.targets)
        return Question(self.model, tensors, self.outputs, self.intervention, self.statistics)


@dataclass(frozen=True, eq=False)
class Choice:
    """How batches are scored.

    Attributes:
        run: The function that scores them.
        workers: On how many threads.
        report: Why.
        plans: By which plans, where it is planned.
        rows: How many images a call.
    """

    run: Runner
    workers: int
    report: EngineReport
    plans: tuple[Plan, ...] = ()
    rows: int = ROWS


def prepare(
    model: ir.Model, targets: Sequence[Target], intervention: Intervention, options: RuntimeOptions
) -> Prepared:
    """Check a model and gate it.

    Raises:
        UnsupportedError: The model is no image classifier, or none of the tensors can be gated.
    """
    score = score_output(model)
    logit = logit_tensor(score)
    outputs = [str(score.name)]
    if logit is not None and logit.producer() is not None:
        outputs.append(str(logit.name))
    gated = insert_gates(model, [target.tensor for target in targets])
    names = {gate.tensor for gate in gated.gates}
    unsuited = tuple(skip for skip in gated.skipped if skip.subject not in names)
    if not names:
        reason = f"{unsuited[0].subject} {unsuited[0].reason}" if unsuited else "none was chosen"
        raise UnsupportedError(f"none of the {len(targets)} tensors can be gated: {reason}; choose others")
    return Prepared(
        model=_typed(model, names),
        gated=gated,
        targets=tuple({target.tensor: target for target in targets if target.tensor in names}.values()),
        skipped=unsuited,
        source=image_input(model),
        outputs=tuple(outputs),
        intervention=intervention,
        options=options,
    )


def with_statistics(prepared: Prepared, batches: Iterable[ImageBatch]) -> Prepared:
    """Measure the tensors on images, where the intervention needs to know them.

    Raises:
        ModelError: onnxruntime cannot run the model.
    """
    if not prepared.intervention.needs_statistics:
        return prepared
    tensors = prepared.question.tensors
    statistics = measure_tensors(
        prepared.model, tensors, batches, prepared.intervention, prepared.source, prepared.options
    )
    return dataclasses.replace(prepared, statistics=statistics)


def choose_runner(
    prepared: Prepared, sample: NDArray[np.float32], wanted: Wanted, *, all_images: bool = False
) -> Choice:
    """Plan the ablation and check the plan on the first and the last image of a batch; else run the plain way.

    Args:
        prepared: From `prepare`.
        sample: A batch of images, at least one.
        wanted: What is wanted of them.
        all_images: Whether there are no others; with one or two, checking a plan costs as much as the plain way.

    Raises:
        ModelError: onnxruntime cannot run the model.
    """
    provider = choose_provider(prepared.options.provider)
    workers = (prepared.options.threads or available_cores()) if provider == "cpu" else 1
    options = dataclasses.replace(prepared.options, provider=provider, threads=1)
    if all_images and len(sample) <= _CHECKED_IMAGES:
        run = _gated(prepared, range(len(prepared.targets)), options)
        return Choice(run, workers, EngineReport(provider, "plain", "few images", len(prepared.targets), 0, None))
    planned, difference, reason = _try_plan(prepared, sample, wanted, options)
    if planned is not None:
        report = EngineReport(provider, "planned", "", planned.suffix_runs, planned.constant_gates, difference)
        return Choice(planned.run, workers, report, planned.plans, rows_a_call(prepared, sample, provider))
    run = _gated(prepared, range(len(prepared.targets)), options)
    logger.warning("the batched plan does not fit this model, so each gate and image is run by itself: %s", reason)
    return Choice(run, workers, EngineReport(provider, "plain", reason, len(prepared.targets), 0, None))


def rows_a_call(prepared: Prepared, sample: NDArray[np.float32], provider: str) -> int:
    """Return how many images the model is best given at once: as many as keep its largest tensor in the caches.

    It follows from the model alone, so that rounding does not depend on the machine.
    """
    if provider != "cpu":
        return _ROWS_ELSEWHERE
    sizes = [math.prod(shape) for shape in _known_shapes(prepared.model)]
    largest = max([*sizes, sample[0].size])
    return int(np.clip(_CACHED_BYTES // (largest * _FLOAT_BYTES), _FEWEST_ROWS, ROWS))


def _known_shapes(model: ir.Model) -> Iterator[tuple[int, ...]]:
    """Yield the dimensions but the first of those tensors where they are known."""
    for node in model.graph:
        for value in node.outputs:
            sizes = [] if value.shape is None else list(value.shape[1:])
            known = [size for size in sizes if isinstance(size, int)]
            if known and len(known) == len(sizes):
                yield tuple(known)


def _try_plan(
    prepared: Prepared, sample: NDArray[np.float32], wanted: Wanted, options: RuntimeOptions
) -> tuple[PlannedRunner | None, float, str]:
    """Return the planned runner and its distance from the plain way, or why it does not hold."""

    def open_plain(gates: Sequence[int], optimise: bool) -> Runner:
        return _gated(prepared, gates, dataclasses.replace(options, optimise=optimise))

    try:
        with ThreadPoolExecutor(1, thread_name_prefix="self-check") as pool:
            check = pool.submit(start_check, open_plain, len(prepared.targets), sample, wanted)
            planned = planned_runner(prepared.question, prepared.source, sample, options)
            difference, allowed = compare(check.result(), planned.run, prepared.source.dtype)
    except ModelError as error:
        return None, float("nan"), str(error)
    if difference > allowed:
        reason = (
            f"it differs by {difference:.1e} from the plain way, allowed {allowed:.1e}; rows may depend on each other"
        )
        return None, difference, reason
    logger.info("planned: %d runs below gates, checked to %.1e", planned.suffix_runs, difference)
    return planned, difference, ""


def _gated(prepared: Prepared, gates: Sequence[int], options: RuntimeOptions) -> Runner:
    if prepared.intervention.mode in ("zero", "scale"):
        chosen = [prepared.gated.gates[index] for index in gates]
        factor = prepared.intervention.factor
        return gated_runner(prepared.gated.model, chosen, factor, prepared.outputs, prepared.source, options)
    question = prepared.question
    part = dataclasses.replace(
        question,
        tensors=tuple(question.tensors[index] for index in gates),
        statistics=tuple(question.statistics[index] for index in gates if question.statistics),
    )
    return overridden_runner(part, prepared.source, options)


def _typed(model: ir.Model, names: set[str]) -> ir.Model:
    untyped = any(value.dtype is None for node in model.graph for value in node.outputs if value.name in names)
    return infer_shapes(model) if untyped else model
