"""Change every channel of some tensors, each on its own, and measure what that does to a classifier's score."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.channels import channel_axis
from pgc_graph.analysis.interface import dimensions
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.images import ImageBatch
from pgc_graph.passes.rewrite import Skip
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.providers import choose_provider
from pgc_graph.runtime.session import RuntimeOptions, Session, available_cores, open_session
from pgc_graph.studies.ablation.again import Images
from pgc_graph.studies.ablation.channels.choose import Bench, choose_engines
from pgc_graph.studies.ablation.channels.engine import Way
from pgc_graph.studies.ablation.channels.masked import ChannelAxis
from pgc_graph.studies.ablation.channels.result import ChannelResult
from pgc_graph.studies.ablation.channels.scoring import channel_scorer
from pgc_graph.studies.ablation.channels.tally import THRESHOLD, each_channel, impacts, sum_up
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.driving import Course, Halted, Watch, batches_of_images, collect, set_out
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.measure import Measure
from pgc_graph.studies.ablation.prepare import Prepared
from pgc_graph.studies.ablation.reference import DonorPool

__all__ = ["ablate_channel_batches", "ablate_channels", "channel_axes", "open_unchanged"]

_BATCH_SIZE = 4
_UNCHECKED = Way("plain", "the study ended before this was checked")
Tell = Callable[[int], None]


def ablate_channels(
    model: ir.Model,
    images: Images,
    targets: Sequence[Target],
    *,
    preprocess: Preprocess | None = None,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    threshold: float = THRESHOLD,
    on_images: Tell | None = None,
    on_runs: Tell | None = None,
    stop: Callable[[], bool] | None = None,
) -> ChannelResult:
    """Change every channel of some tensors, each on its own, on some images, and rank the channels.

    Args:
        model: A classifier with one image input; stays untouched.
        images: Image files, or any source of images; those that cannot be read are skipped and counted.
        targets: The tensors, from `select_targets`.
        preprocess: How images become input; by default as the model's metadata say.
        intervention: What is done to a channel; by default it is switched off.
        measure: Which class is scored, what images are labelled as, and what ranks the channels.
        runtime: Where to run, and on how many threads.
        threshold: The |mean Δ| from which on a channel matters.
        on_images: Told how many images are done.
        on_runs: Told how many runs (one channel of one image each) have begun, from any thread.
        stop: Asked before each call of onnxruntime; the result covers the images that are done once it says True.

    Raises:
        UnsupportedError: The model is no image classifier, or none of the tensors has channels that can be changed.
        OptionError: The measure or the threshold makes no sense.
        ImageError: None of the images can be read.
        ModelError: onnxruntime cannot run the model.
    """
    chosen = intervention or Intervention()
    source = batches_of_images(model, images, preprocess, _BATCH_SIZE, runtime)
    pool = source.donors(chosen.seed) if chosen.mode == "resample" else None
    return _ablate(model, source, targets, chosen, measure, runtime, pool, threshold, on_images, Watch(stop, on_runs))


def ablate_channel_batches(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    targets: Sequence[Target],
    *,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    threshold: float = THRESHOLD,
    on_images: Tell | None = None,
    on_runs: Tell | None = None,
    stop: Callable[[], bool] | None = None,
) -> ChannelResult:
    """Do what `ablate_channels` does with batches of images that are ready for the model.

    Raises:
        OptionError: The batches can be read only once, and the intervention needs more.
        PgcGraphError: As for `ablate_channels`.
    """
    chosen, watch = intervention or Intervention(), Watch(stop, on_runs)
    return _ablate(model, batches, targets, chosen, measure, runtime, None, threshold, on_images, watch)


def channel_axes(prepared: Prepared) -> tuple[Prepared, tuple[ChannelAxis, ...]]:
    """Find the channels of the tensors of a study.

    Returns:
        The study without the tensors that have no channels, and where those of the others are.

    Raises:
        UnsupportedError: No tensor has channels.
    """
    values = {str(value.name): value for node in prepared.model.graph for value in node.outputs}
    axes: dict[int, ChannelAxis] = {}
    skipped: list[Skip] = []
    for index, target in enumerate(prepared.targets):
        axis, shape = channel_axis(values[target.tensor]), dimensions(values[target.tensor])
        count = None if axis is None or shape is None else shape[axis]
        if axis is None or shape is None or not count:
            skipped.append(Skip(target.tensor, "has no known channels"))
        else:
            axes[index] = ChannelAxis(axis, count, len(shape))
    if not axes:
        raise UnsupportedError(f"none of the {len(prepared.targets)} tensors has known channels; choose others")
    kept = dataclasses.replace(
        prepared,
        targets=tuple(prepared.targets[index] for index in axes),
        statistics=tuple(prepared.statistics[index] for index in axes if prepared.statistics),
        skipped=(*prepared.skipped, *skipped),
    )
    return kept, tuple(axes.values())


def _ablate(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    targets: Sequence[Target],
    intervention: Intervention,
    measure: Measure | None,
    runtime: RuntimeOptions | None,
    pool: DonorPool | None,
    threshold: float,
    on_images: Tell | None,
    watch: Watch,
) -> ChannelResult:
    if not 0 < threshold < float("inf"):
        raise OptionError(f"threshold {threshold} makes no sense; expected a number above 0")
    course = set_out(model, batches, targets, intervention, measure, runtime, pool)
    prepared, axes = channel_axes(course.prepared)
    provider = choose_provider(prepared.options.provider)
    workers = (prepared.options.threads or available_cores()) if provider == "cpu" else 1
    options = dataclasses.replace(prepared.options, provider=provider, threads=1)
    baseline = open_unchanged(prepared, options)
    bench = _bench(course, prepared, axes, options, baseline)
    rule = course.rule
    collector = Collector(
        each_channel(prepared.targets, axes),
        has_logit=len(prepared.outputs) > 1,
        names=rule.names,
        rank_by=rule.measure.rank_by,
    )
    ways = [_UNCHECKED] * len(axes)
    try:
        engines = choose_engines(bench, watch.look)
    except Halted:
        interrupted = True
    else:
        ways = [engine.way for engine in engines]
        run = channel_scorer(engines, baseline, prepared.source, watch.tick)
        interrupted = collect(course, run, workers, collector, on_images, watch.stop)
    channels = impacts(collector.ranking(), axes)
    return ChannelResult(
        score_output=prepared.outputs[0],
        baseline=collector.baseline(),
        baseline_logit=collector.baseline_logit(),
        channels=channels,
        tensors=sum_up(prepared.targets, axes, ways, channels, threshold),
        threshold=threshold,
        images=collector.images,
        image_count=collector.image_count,
        skipped_images=collector.skipped,
        skipped_count=collector.skipped_count,
        skipped_tensors=prepared.skipped,
        interrupted=interrupted,
        provider=provider,
        target=rule.measure.target,
        rank_by=rule.measure.rank_by,
        quality=collector.quality(),
        labels=collector.labels(),
        intervention=intervention,
    )


def open_unchanged(prepared: Prepared, options: RuntimeOptions) -> Session:
    """Open a session on the model that returns the outputs wanted."""
    asked = prepared.model.clone()
    values = {str(value.name): value for node in asked.graph for value in node.outputs if value.name}
    asked.graph.outputs[:] = [values[name] for name in prepared.outputs]
    return open_session(asked, options)


def _bench(
    course: Course, prepared: Prepared, axes: Sequence[ChannelAxis], options: RuntimeOptions, baseline: Session
) -> Bench:
    """Return the first and the last image of the first batch to check on."""
    sample, rows = course.first.batch.tensor, sorted({0, len(course.first.batch.paths) - 1})
    wanted = course.first.wanted.rows(rows)
    return Bench(
        prepared.question, tuple(axes), prepared.source, options, np.ascontiguousarray(sample[rows]), wanted, baseline
    )
