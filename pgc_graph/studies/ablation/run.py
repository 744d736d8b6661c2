"""Change tensors one at a time and measure what that does to a classifier's score.

The score of a model with one output value an image is that value; with several, it is the value of the class that the
model finds most likely for that image without gates, or of the class that is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import ImageBatch, Preprocess, SkippedImage, preprocess_from_metadata
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation.again import ReadAgain
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.intervention import Intervention, scaling
from pgc_graph.studies.ablation.measure import Measure, Yardstick, yardstick
from pgc_graph.studies.ablation.prepare import Prepared, choose_runner, prepare, with_statistics
from pgc_graph.studies.ablation.reference import DonorPool, donor_pool
from pgc_graph.studies.ablation.result import AblationResult, EngineReport
from pgc_graph.studies.ablation.scores import Scores, Wanted
from pgc_graph.studies.ablation.workers import Job, in_order

__all__ = ["BATCH_SIZE", "ablate", "ablate_batches"]

BATCH_SIZE = 32
"""Images that are read and counted together, where they are small; the engine cuts them into calls."""
_BATCH_BYTES = 2**24

OnBatch = Callable[[ImageBatch, Scores], None]


def ablate(
    model: ir.Model,
    images: Sequence[Path],
    targets: Sequence[Target],
    *,
    preprocess: Preprocess | None = None,
    value: float = 0.0,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    batch_size: int | None = None,
    on_batch: OnBatch | None = None,
    stop: Callable[[], bool] | None = None,
) -> AblationResult:
    """Change each of some tensors on each of some images and rank the tensors by what the score loses.

    Args:
        model: A classifier with one image input; stays untouched.
        images: Image files; those that cannot be read are skipped and counted.
        targets: The tensors, from `select_targets`.
        preprocess: How images become input; by default as the model's metadata say.
        value: What a tensor is multiplied by, where no intervention is given; 0 switches it off.
        intervention: What is done to a tensor.
        measure: Which class is scored, what images are labelled as, and what ranks the tensors.
        runtime: Where to run, and on how many threads.
        batch_size: Images that are read together; by default at most 32, and fewer where they are large.
        on_batch: Called with each batch and its scores, in order.
        stop: Asked before each batch; the result covers what is done once it says True.

    Raises:
        UnsupportedError: The model is no image classifier, or none of the tensors can be gated.
        OptionError: The value, the measure or the batch size makes no sense.
        ImageError: None of the images can be read.
        ModelError: onnxruntime cannot run the model.
    """
    if batch_size is not None and batch_size < 1:
        raise OptionError(f"batch size {batch_size} is impossible; expected at least 1")
    if preprocess is None:
        preprocess = preprocess_from_metadata(model.metadata_props, image_input(model).shape)
    chosen = intervention or scaling(value)
    source = ReadAgain(tuple(images), preprocess, batch_size or _batch_size(preprocess))
    pool = source.donors(chosen.seed) if chosen.mode == "resample" else None
    return _ablate(model, source, targets, chosen, measure, runtime, pool, on_batch, stop)


def ablate_batches(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    targets: Sequence[Target],
    *,
    value: float = 0.0,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    on_batch: OnBatch | None = None,
    stop: Callable[[], bool] | None = None,
) -> AblationResult:
    """Do what `ablate` does with batches of images that are ready for the model.

    Interventions that have to look at the images beforehand (`mean`, `noise`, `resample`) take a list of batches, or
    anything else that can be read more than once. Donors of `resample` are the first 64 images.

    Raises:
        ImageError: There is not a single image.
        OptionError: The batches can be read only once, and the intervention needs more.
        PgcGraphError: As for `ablate`.
    """
    chosen = intervention or scaling(value)
    if (chosen.needs_statistics or chosen.mode == "resample") and iter(batches) is batches:
        raise OptionError(f"{chosen.mode} looks at the images twice, but the batches can be read once; give a list")
    pool = donor_pool(batches, chosen.seed) if chosen.mode == "resample" else None
    return _ablate(model, batches, targets, chosen, measure, runtime, pool, on_batch, stop)


def _batch_size(preprocess: Preprocess) -> int:
    height, width = preprocess.size
    return max(1, min(BATCH_SIZE, _BATCH_BYTES // (height * width * 3 * 4)))


def _ablate(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    targets: Sequence[Target],
    intervention: Intervention,
    measure: Measure | None,
    runtime: RuntimeOptions | None,
    pool: DonorPool | None,
    on_batch: OnBatch | None,
    stop: Callable[[], bool] | None,
) -> AblationResult:
    prepared = prepare(model, targets, intervention, runtime or RuntimeOptions())
    has_logit = len(prepared.outputs) > 1
    rule = yardstick(model, measure or Measure(), has_logit=has_logit)
    prepared = with_statistics(prepared, batches)
    jobs = _jobs(batches, rule, pool)
    first, skipped = _first_with_images(jobs)
    second = next(jobs, None)
    choice = choose_runner(prepared, first.batch.tensor, first.wanted, all_images=second is None)
    collector = Collector(prepared.targets, has_logit=has_logit, names=rule.names, rank_by=rule.measure.rank_by)
    stopped = stop or (lambda: False)
    todo = itertools.takewhile(lambda job: not stopped(), itertools.chain([first], [second] if second else [], jobs))
    for job, scores in in_order(choice.run, todo, choice.workers, choice.rows):
        skipped.extend(job.batch.skipped)
        if scores is not None:
            collector.add(job.batch.paths, scores, rule.labels(job.batch.paths), job.wanted.truth)
            if on_batch is not None:
                on_batch(job.batch, scores)
    return _result(prepared, rule, collector, choice.report, tuple(skipped), interrupted=stopped())


def _jobs(batches: Iterable[ImageBatch], rule: Yardstick, pool: DonorPool | None) -> Iterator[Job]:
    """Say what is wanted of each batch."""
    start = 0
    for batch in batches:
        positions = np.arange(start, start + len(batch.paths), dtype=np.int64)
        donors = pool.donors(batch.paths, positions) if pool is not None else None
        yield Job(batch, Wanted(rule.target, rule.truth(batch.paths), positions, donors))
        start += len(batch.paths)


def _result(
    prepared: Prepared,
    rule: Yardstick,
    collector: Collector,
    report: EngineReport,
    skipped: tuple[SkippedImage, ...],
    *,
    interrupted: bool,
) -> AblationResult:
    return AblationResult(
        score_output=prepared.outputs[0],
        value=prepared.intervention.factor,
        intervention=prepared.intervention,
        baseline=collector.baseline(),
        baseline_logit=collector.baseline_logit(),
        gates=collector.ranking(),
        images=tuple(collector.images),
        skipped_images=skipped,
        skipped_tensors=prepared.skipped,
        interrupted=interrupted,
        engine=report,
        target=rule.measure.target,
        rank_by=rule.measure.rank_by,
        quality=collector.quality(),
        labels=collector.labels(),
    )


def _first_with_images(jobs: Iterable[Job]) -> tuple[Job, list[SkippedImage]]:
    """Return the first job that has images, and what was skipped in the batches before it."""
    skipped: list[SkippedImage] = []
    for job in jobs:
        if job.batch.paths:
            return job, skipped
        skipped.extend(job.batch.skipped)
    raise ImageError("there is no image to run the model on; give at least one")
