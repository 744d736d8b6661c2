"""Remove tensors or channels one after another, the least important first, and measure what is left of the score."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import dimensions
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.images import ImageBatch
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.providers import choose_provider
from pgc_graph.runtime.session import RuntimeOptions, available_cores
from pgc_graph.studies.ablation.again import Images
from pgc_graph.studies.ablation.channels.engine import Way
from pgc_graph.studies.ablation.channels.masked import ChannelAxis
from pgc_graph.studies.ablation.channels.result import ChannelResult
from pgc_graph.studies.ablation.channels.study import channel_axes, open_unchanged
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.cumulative.result import CumulativePoint, CumulativeResult, Removal, area_under
from pgc_graph.studies.ablation.cumulative.runners import Steps, choose_step_runner
from pgc_graph.studies.ablation.driving import Halted, Watch, batches_of_images, collect, set_out
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.measure import Measure
from pgc_graph.studies.ablation.prepare import Prepared
from pgc_graph.studies.ablation.reference import DonorPool
from pgc_graph.studies.ablation.result import AblationResult

__all__ = ["STEPS", "removal_order", "remove_batches_cumulatively", "remove_cumulatively"]

STEPS = 100
"""Points of the curve, after the first one, where there are more removals."""

_BATCH_SIZE = 8
Tell = Callable[[int], None]


def removal_order(result: AblationResult | ChannelResult) -> tuple[Removal, ...]:
    """Return what an ablation ranked, the least important first; what has no finite score is unknown and comes last."""
    if isinstance(result, ChannelResult):
        ranked = [(Removal(item.tensor, item.channel), item.delta.mean) for item in result.channels]
    else:
        ranked = [(Removal(item.target.tensor), item.delta.mean) for item in result.gates]
    known = [removal for removal, mean in reversed(ranked) if math.isfinite(mean)]
    return (*known, *(removal for removal, mean in ranked if not math.isfinite(mean)))


def remove_cumulatively(
    model: ir.Model,
    images: Images,
    order: Sequence[Removal],
    targets: Sequence[Target],
    *,
    preprocess: Preprocess | None = None,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    steps: int = STEPS,
    on_images: Tell | None = None,
    on_runs: Tell | None = None,
    stop: Callable[[], bool] | None = None,
) -> CumulativeResult:
    """Remove tensors or channels one after another and measure a classifier after each step.

    What takes the place of a removed tensor or channel is taken from the model as it is: its mean, its noise, the donor's.

    Args:
        model: A classifier with one image input; stays untouched.
        images: Image files, or any source of images; those that cannot be read are skipped and counted.
        order: What is removed, from `removal_order`: all tensors, or all channels.
        targets: The tensors that it names.
        preprocess: How images become input; by default as the model's metadata say.
        intervention: What is done to what is removed; by default it is switched off.
        measure: Which class is scored, and what images are labelled as.
        runtime: Where to run, and on how many threads.
        steps: Points of the curve after the first one, evenly spread over the removals; 0 for one a removal.
        on_images: Told how many images are done.
        on_runs: Told how many runs (one step of one image each) have begun, from any thread.
        stop: Asked before each call of onnxruntime; the result covers the images that are done once it says True.

    Raises:
        UnsupportedError: The model is no image classifier, or none of the tensors can be changed.
        OptionError: The order is empty or mixes tensors and channels, or the measure makes no sense.
        ImageError: None of the images can be read.
        ModelError: onnxruntime cannot run the model.
    """
    chosen = intervention or Intervention()
    source = batches_of_images(model, images, preprocess, _BATCH_SIZE, runtime)
    pool = source.donors(chosen.seed) if chosen.mode == "resample" else None
    return _remove(
        model, source, order, targets, chosen, measure, runtime, pool, steps, on_images, Watch(stop, on_runs)
    )


def remove_batches_cumulatively(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    order: Sequence[Removal],
    targets: Sequence[Target],
    *,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    steps: int = STEPS,
    on_images: Tell | None = None,
    on_runs: Tell | None = None,
    stop: Callable[[], bool] | None = None,
) -> CumulativeResult:
    """Do what `remove_cumulatively` does with batches of images that are ready for the model.

    Raises:
        OptionError: The batches can be read only once, and the intervention needs more.
        PgcGraphError: As for `remove_cumulatively`.
    """
    chosen, watch = intervention or Intervention(), Watch(stop, on_runs)
    return _remove(model, batches, order, targets, chosen, measure, runtime, None, steps, on_images, watch)


def _remove(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    order: Sequence[Removal],
    targets: Sequence[Target],
    intervention: Intervention,
    measure: Measure | None,
    runtime: RuntimeOptions | None,
    pool: DonorPool | None,
    steps: int,
    on_images: Tell | None,
    watch: Watch,
) -> CumulativeResult:
    kinds = {removal.channel is None for removal in order}
    if len(kinds) != 1:
        found = "nothing is to be removed" if not kinds else "tensors and channels are to be removed"
        raise OptionError(f"{found}; expected an order of tensors, or one of channels")
    named = {removal.tensor for removal in order}
    wanted = [target for target in targets if target.tensor in named]
    course = set_out(model, batches, wanted, intervention, measure, runtime, pool)
    prepared, axes = _axes(course.prepared, order)
    order = _kept(order, prepared)
    counts = _counts(len(order), steps)
    provider = choose_provider(prepared.options.provider)
    workers = (prepared.options.threads or available_cores()) if provider == "cpu" else 1
    options = dataclasses.replace(prepared.options, provider=provider, threads=1)
    chosen = _chosen(order, counts, prepared, axes)
    unchanged = open_unchanged(prepared, options)
    todo = Steps(prepared.question, axes, chosen, prepared.source, options, unchanged)
    marks = [Target(order[max(count, 1) - 1].tensor, "", "") for count in counts]
    rule = course.rule
    collector = Collector(marks, has_logit=len(prepared.outputs) > 1, names=rule.names)
    way, interrupted = Way("plain", "the study ended before this was checked"), True
    with contextlib.suppress(Halted):
        sample = course.first
        run, way = choose_step_runner(todo, sample.batch.tensor, sample.wanted, watch.tick, watch.look)
        interrupted = collect(course, run, workers, collector, on_images, watch.stop)
    points = _points(collector, counts, order)
    accuracy = [point.quality.accuracy for point in points if point.quality is not None]
    return CumulativeResult(
        points=points,
        order=tuple(order),
        area=area_under(counts, [point.prob.mean for point in points]),
        accuracy_area=area_under(counts, accuracy) if accuracy else None,
        images=collector.image_count,
        skipped_images=collector.skipped,
        skipped_count=collector.skipped_count,
        skipped_tensors=prepared.skipped,
        interrupted=interrupted,
        way=way,
        intervention=intervention,
    )


def _axes(prepared: Prepared, order: Sequence[Removal]) -> tuple[Prepared, tuple[ChannelAxis, ...]]:
    """Say where the channels are that are removed, or that tensors are removed as a whole."""
    if order[0].channel is not None:
        return channel_axes(prepared)
    values = {str(value.name): value for node in prepared.model.graph for value in node.outputs}
    ranks = [len(dimensions(values[target.tensor]) or (None,)) for target in prepared.targets]
    return prepared, tuple(ChannelAxis(0, 1, rank) for rank in ranks)


def _kept(order: Sequence[Removal], prepared: Prepared) -> Sequence[Removal]:
    """Return the removals that can be made, each once."""
    known = {target.tensor for target in prepared.targets}
    return list(dict.fromkeys(removal for removal in order if removal.tensor in known))


def _counts(total: int, steps: int) -> list[int]:
    """Return how many are removed at each point: 0, then so many steps up to all of them."""
    if steps < 0:
        raise OptionError(f"{steps} steps are impossible; expected 0 (one a removal) or more")
    spread = np.linspace(0, total, min(steps or total, total) + 1).round().astype(int)
    return [int(count) for count in np.unique(spread)]


def _chosen(
    order: Sequence[Removal], counts: Sequence[int], prepared: Prepared, axes: Sequence[ChannelAxis]
) -> tuple[NDArray[np.bool_], ...]:
    """Return for each tensor `(S, C)`: the channels that are removed at each point."""
    positions = {target.tensor: position for position, target in enumerate(prepared.targets)}
    removed = [np.zeros((len(counts), axis.count), np.bool_) for axis in axes]
    for place, removal in enumerate(order):
        channels = removed[positions[removal.tensor]]
        channel = removal.channel or 0
        if channel >= channels.shape[1]:
            raise OptionError(f"{removal.tensor} has {channels.shape[1]} channels, so that {channel} cannot be removed")
        channels[:, channel] = np.asarray(counts) > place
    return tuple(removed)


def _points(collector: Collector, counts: Sequence[int], order: Sequence[Removal]) -> tuple[CumulativePoint, ...]:
    gates = sorted(collector.ranking(), key=lambda gate: gate.position)
    return tuple(
        CumulativePoint(
            removed=count,
            last=order[count - 1] if count else None,
            prob=gate.prob,
            delta=gate.delta,
            logit_delta=gate.logit_delta,
            non_finite=gate.non_finite,
            quality=gate.quality,
        )
        for count, gate in zip(counts, gates, strict=True)
    )
