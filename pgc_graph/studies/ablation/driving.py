"""What studies have in common that run many changes an image: batches as jobs, a count of runs, and an end on demand."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.interface import image_input, own_preprocess
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import UnsupportedError
from pgc_graph.images import ImageBatch
from pgc_graph.passes.batch import set_batch
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.session import RuntimeOptions, available_cores, open_session
from pgc_graph.studies.ablation.again import Images, ReadAgain, as_source
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.loop import collect as collect_record
from pgc_graph.studies.ablation.loop import jobs_of, leading_jobs, record_of
from pgc_graph.studies.ablation.measure import Measure, Yardstick, yardstick
from pgc_graph.studies.ablation.prepare import Prepared, prepare, with_statistics
from pgc_graph.studies.ablation.reference import DonorPool, pool_of
from pgc_graph.studies.ablation.run import decoders
from pgc_graph.studies.ablation.scores import Runner
from pgc_graph.studies.ablation.workers import Job, in_order

__all__ = ["Course", "Halted", "Watch", "batches_of_images", "collect", "set_out"]

logger = logging.getLogger(__name__)


class Halted(Exception):  # noqa: N818
    """A run was broken off because the study is to end; never leaves the library."""


class Watch:
    """Counts runs, and breaks off when asked to; safe to use from several threads."""

    def __init__(self, stop: Callable[[], bool] | None, on_runs: Callable[[int], None] | None) -> None:
        """Take whom to ask before each call of onnxruntime, and whom to tell how many runs have begun."""
        self.stop, self._on_runs = stop or (lambda: False), on_runs or (lambda done: None)
        self._done, self._lock = 0, threading.Lock()

    def look(self, runs: int) -> None:
        """Let runs begin that are not counted, since they only check others.

        Raises:
            Halted: The study is to end.
        """
        if self.stop():
            raise Halted

    def tick(self, runs: int) -> None:
        """Count the runs that are about to begin.

        Raises:
            Halted: The study is to end.
        """
        self.look(runs)
        with self._lock:
            self._done += runs
            self._on_runs(self._done)


@dataclass(frozen=True, eq=False)
class Course:
    """A study that is ready for its first image.

    Attributes:
        prepared: The model, its batch dimension symbolic where that can be had, its shapes known.
        rule: What is measured.
        first: The first job that has images.
        jobs: All jobs, to be gone through once.
    """

    prepared: Prepared
    rule: Yardstick
    first: Job
    jobs: Iterator[Job]


def batches_of_images(
    model: ir.Model, images: Images, preprocess: Preprocess | None, batch_size: int, runtime: RuntimeOptions | None
) -> ReadAgain:
    """Return batches of images that a model can be given, in any number of turns.

    Args:
        model: The classifier.
        images: Image files, or any source of images.
        preprocess: How images become input; by default as the model's metadata say.
        batch_size: The most images a batch; fewer where there would be no batch for each thread.
        runtime: On how many threads.
    """
    source = as_source(images)
    workers = max(1, (runtime or RuntimeOptions()).threads or available_cores())
    rows = max(1, min(batch_size, len(source) // workers))
    return ReadAgain(source, preprocess or own_preprocess(model), rows, threads=decoders(runtime))


def set_out(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    targets: Sequence[Target],
    intervention: Intervention,
    measure: Measure | None,
    runtime: RuntimeOptions | None,
    pool: DonorPool | None,
) -> Course:
    """Prepare a study: find out what the model allows, measure tensors where need be, and read the first images.

    Raises:
        UnsupportedError: The model is no image classifier, or none of the tensors can be changed.
        OptionError: The measure makes no sense, or the batches can be read only once and the intervention needs more.
        ImageError: There is no image.
        ModelError: onnxruntime cannot run the model.
    """
    if pool is None:
        pool = pool_of(batches, intervention)
    prepared = prepare(_with_any_batch(model), targets, intervention, runtime or RuntimeOptions())
    rule = yardstick(prepared.model, measure or Measure(), has_logit=len(prepared.outputs) > 1)
    prepared = with_statistics(prepared, batches)
    jobs = jobs_of(batches, rule, pool)
    leading = leading_jobs(jobs)
    return Course(prepared, rule, next(job for job in leading if job.batch.paths), itertools.chain(leading, jobs))


def collect(
    course: Course,
    run: Runner,
    workers: int,
    collector: Collector,
    on_images: Callable[[int], None] | None,
    stop: Callable[[], bool],
) -> bool:
    """Score all images of a study.

    Args:
        course: The study.
        run: Scores a batch.
        workers: Batches at a time.
        collector: Takes in the scores, and what was skipped.
        on_images: Told how many images are done, after each batch.
        stop: Asked before each batch.

    Returns:
        Whether the study ended before all images were scored.
    """
    todo = itertools.takewhile(lambda job: not stop(), course.jobs)
    try:
        for job, scores in in_order(run, todo, workers):
            collect_record(collector, course.rule, record_of(course.rule, job, scores))
            if scores is not None and on_images is not None:
                on_images(collector.image_count)
    except Halted:
        return True
    return stop()


def _with_any_batch(model: ir.Model) -> ir.Model:
    """Return a model whose batch dimension is symbolic, where that can be had, and whose shapes are known."""
    freed = model
    try:
        if image_input(model).fixed_batch is not None:
            freed = set_batch(model, "batch").model
            freed = freed if _same_rows(model, freed) else model
    except UnsupportedError as error:
        logger.info("the batch stays fixed: %s", error)
    typed = infer_shapes(freed)
    for before, after in zip(model.graph.outputs, typed.graph.outputs, strict=True):
        after.shape = None if before.shape is None else after.shape  # whether it is a score is for the file to say
    return typed


def _same_rows(fixed: ir.Model, freed: ir.Model) -> bool:
    """Say whether a model says of one image what it said of a batch of it."""
    source = image_input(fixed)
    if None in source.shape:
        return False
    image = np.random.default_rng(0).random(source.shape[1:], np.float32).astype(source.dtype.numpy())  # type: ignore[arg-type]
    rows = np.repeat(image[None], source.fixed_batch or 1, axis=0)
    known, found = (
        open_session(model, RuntimeOptions(provider="cpu", threads=1)).run({source.name: batch})
        for model, batch in ((fixed, rows), (freed, rows[:1]))
    )
    pairs = zip(known, found, strict=True)
    return all(len(new) == 1 and np.allclose(old[:1], new, rtol=1e-3, atol=1e-3) for old, new in pairs)
