"""What studies have in common that run many changes an image: batches as jobs, a count of runs, and an end on demand."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.images import ImageBatch
from pgc_graph.passes.batch import set_batch
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.preprocess import Preprocess, preprocess_from_metadata
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_graph.studies.ablation.again import Images, ReadAgain
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.loop import collect as gather
from pgc_graph.studies.ablation.loop import jobs_of, leading_jobs, record_of
from pgc_graph.studies.ablation.measure import Measure, Yardstick, yardstick
from pgc_graph.studies.ablation.prepare import Prepared, prepare, with_statistics
from pgc_graph.studies.ablation.reference import DonorPool, donor_pool
from pgc_graph.studies.ablation.run import decoders
from pgc_graph.studies.ablation.scores import Runner
from pgc_graph.studies.ablation.workers import Job, in_order

__all__ = ["Course", "Halted", "Watch", "collect", "read_again", "set_out"]

logger = logging.getLogger(__name__)


class Halted(Exception):  # noqa: N818
    """A run was broken off because the study is to end; never leaves the library."""


class Watch:
    """Counts runs, and breaks off when asked to; safe to use from several threads."""

    def __init__(self, stop: Callable[[], bool] | None, on_runs: Callable[[int], None] | None) -> None:
        """Take whom to ask before each call of onnxruntime, and whom to tell how many runs have begun."""
        self.stop, self._on_runs = stop or (lambda: False), on_runs or (lambda done: None)
        self._done, self._lock = 0, threading.Lock()

    def tick(self, runs: int) -> None:
        """Count the runs that are about to begin.

        Raises:
            Halted: The study is to end.
        """
        if self.stop():
            raise Halted
        with self._lock:
            self._done += runs
            self._on_runs(self._done)


@dataclass(frozen=True, eq=False)
class Course:
    """A study that is ready for its first image.

    Attributes:
        prepared: The model, its batch dimension symbolic where that can be had, its shapes known.
        rule: What is measured.
        leading: The jobs up to one after the first that has images.
        jobs: The others.
    """

    prepared: Prepared
    rule: Yardstick
    leading: tuple[Job, ...]
    jobs: Iterator[Job]

    @property
    def first(self) -> Job:
        """The first job that has images."""
        return next(job for job in self.leading if job.batch.paths)


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
    if (intervention.needs_statistics or intervention.mode == "resample") and iter(batches) is batches:
        raise OptionError(
            f"{intervention.mode} looks at the images twice, but the batches can be read once; give a list"
        )
    if intervention.mode == "resample" and pool is None:
        pool = donor_pool(batches, intervention.seed)
    prepared = prepare(_with_any_batch(model), targets, intervention, runtime or RuntimeOptions())
    rule = yardstick(prepared.model, measure or Measure(), has_logit=len(prepared.outputs) > 1)
    prepared = with_statistics(prepared, batches)
    jobs = jobs_of(batches, rule, pool)
    return Course(prepared, rule, tuple(leading_jobs(jobs)), jobs)


def read_again(
    model: ir.Model, images: Images, preprocess: Preprocess | None, runtime: RuntimeOptions | None, batch_size: int
) -> ReadAgain:
    """Return images as batches that can be read more than once, preprocessed as the model wants them."""
    if preprocess is None:
        taken = image_input(model)
        preprocess = preprocess_from_metadata(model.metadata_props, taken.shape, pixels=taken.takes_pixels)
    return ReadAgain(images, preprocess, batch_size, threads=decoders(runtime))


def collect(
    course: Course,
    run: Runner,
    workers: int,
    collector: Collector,
    on_images: Callable[[int], None] | None,
    stop: Callable[[], bool] | None,
) -> bool:
    """Score all images of a study, and say whether it ended before all were scored.

    Args:
        course: The study.
        run: Scores a batch.
        workers: Batches at a time.
        collector: Takes the scores in.
        on_images: Told how many images are done, after each batch.
        stop: Asked before each batch.
    """
    stopped = stop or (lambda: False)
    todo = itertools.takewhile(lambda job: not stopped(), itertools.chain(course.leading, course.jobs))
    try:
        for job, scores in in_order(run, todo, workers):
            gather(collector, course.rule, record_of(course.rule, job, scores))
            if scores is not None and on_images is not None:
                on_images(collector.image_count)
    except Halted:
        return True
    return stopped()


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
