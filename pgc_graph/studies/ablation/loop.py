"""Go through the batches of a study: score, collect and, where scores are saved, keep them and go on from what was kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pgc_graph.errors import ImageError
from pgc_graph.images import ImageBatch
from pgc_graph.studies.ablation.again import ReadAgain
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.measure import Yardstick
from pgc_graph.studies.ablation.prepare import Prepared, choose_runner, with_statistics
from pgc_graph.studies.ablation.reference import DonorPool
from pgc_graph.studies.ablation.result import AblationResult, EngineReport
from pgc_graph.studies.ablation.saving import Keeper, Record, summarise_run
from pgc_graph.studies.ablation.scores import Scores, Wanted
from pgc_graph.studies.ablation.workers import Job, in_order

__all__ = [
    "OnBatch",
    "Study",
    "Watcher",
    "collect",
    "jobs_of",
    "leading_jobs",
    "record_of",
    "run_study",
    "study_result",
]

OnBatch = Callable[[ImageBatch, Scores], None]


@dataclass(frozen=True, eq=False)
class Watcher:
    """Who looks on while batches are scored.

    Attributes:
        on_batch: Called with each batch and its scores, in order.
        on_resume: Called with the number of images that a run before this one has scored, if there was one.
        stop: Asked before each batch; nothing more is begun once it says True.
    """

    on_batch: OnBatch
    on_resume: Callable[[int], None]
    stop: Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Study:
    """A study before its first image.

    Attributes:
        prepared: The model.
        rule: What is measured.
        batches: The images.
        pool: Who gives tensors to others, where the intervention needs that.
        keeper: Keeps the scores, where they are saved; its images are a `ReadAgain`.
    """

    prepared: Prepared
    rule: Yardstick
    batches: Iterable[ImageBatch]
    pool: DonorPool | None = None
    keeper: Keeper | None = None


def run_study(study: Study, watcher: Watcher) -> AblationResult:
    """Score all batches and return what is found.

    Raises:
        ImageError: There is no image.
        ModelError: onnxruntime cannot run the model.
        OptionError: Scores cannot be saved.
    """
    keeper = study.keeper
    if keeper is None:
        return _run(study, with_statistics(study.prepared, study.batches), watcher)
    keeper.begin()
    try:
        result = _run(study, _with_kept_statistics(study, keeper), watcher)
        if not result.interrupted:
            tensors = [target.tensor for target in study.prepared.targets]
            keeper.finish(tensors, summarise_run(result, keeper.identity))
        return result
    finally:
        keeper.close()


def _run(study: Study, prepared: Prepared, watcher: Watcher) -> AblationResult:
    rule, keeper = study.rule, study.keeper
    jobs = jobs_of(study.batches, rule, study.pool)
    leading = leading_jobs(jobs)
    sample = next(job for job in leading if job.batch.paths)
    choice = choose_runner(prepared, sample.batch.tensor, sample.wanted, all_images=leading[-1] is sample)
    has_logit = len(prepared.outputs) > 1
    collector = Collector(prepared.targets, has_logit=has_logit, names=rule.names, rank_by=rule.measure.rank_by)
    if keeper is not None and _replayed(keeper, collector, rule, watcher) and isinstance(study.batches, ReadAgain):
        jobs.close()
        rest = study.batches.read(keeper.batches * study.batches.batch_size)
        leading, jobs = [], jobs_of(rest, rule, study.pool)
    todo = _Todo(leading, jobs, watcher.stop)
    for job, scores in in_order(choice.run, todo, choice.workers, choice.rows):
        record = record_of(rule, job, scores)
        if keeper is not None:
            keeper.append(record)
        collect(collector, rule, record)
        if scores is not None:
            watcher.on_batch(job.batch, scores)
    return study_result(prepared, rule, collector, choice.report, interrupted=not todo.is_done)


class _Todo:
    """Jobs, one after the other, until there are no more or somebody says stop."""

    def __init__(self, leading: list[Job], jobs: Iterable[Job], stop: Callable[[], bool]) -> None:
        self._leading, self._jobs, self._stop = leading, jobs, stop
        self.is_done = False

    def __iter__(self) -> Iterator[Job]:
        for jobs in (self._leading, self._jobs):
            for job in jobs:
                if self._stop():
                    return
                yield job
        self.is_done = True


def jobs_of(batches: Iterable[ImageBatch], rule: Yardstick, pool: DonorPool | None) -> Generator[Job, None, None]:
    """Say what is wanted of each batch."""
    start = 0
    for batch in batches:
        positions = batch.positions
        if positions is None:
            positions = np.arange(start, start + len(batch.paths), dtype=np.int64)
            start += len(batch.paths)
        donors = pool.donors(batch.paths, positions) if pool is not None else None
        yield Job(batch, Wanted(rule.target, rule.truth(batch.paths, batch.labels), positions, donors))


def leading_jobs(jobs: Iterator[Job]) -> list[Job]:
    """Return the jobs up to one after the first that has images.

    Raises:
        ImageError: There is no image.
    """
    leading: list[Job] = []
    for job in jobs:
        leading.append(job)
        if job.batch.paths:
            following = next(jobs, None)
            return leading if following is None else [*leading, following]
    raise ImageError("there is no image to run the model on; give at least one")


def record_of(rule: Yardstick, job: Job, scores: Scores | None) -> Record:
    """Return what is known of a batch once it has been scored."""
    batch, positions = job.batch, job.wanted.positions
    labels = rule.labels(batch.paths, batch.labels)
    kept = np.zeros(0, np.int64) if positions is None else positions
    return Record(batch.paths, None if labels is None else tuple(labels), kept, batch.skipped, scores)


def collect(collector: Collector, rule: Yardstick, record: Record) -> None:
    """Take a batch into the figures."""
    collector.skip(record.skipped)
    if record.scores is not None:
        truth = rule.truth_of(record.labels)
        collector.add(record.paths, record.scores, record.labels, truth, record.positions)


def _replayed(keeper: Keeper, collector: Collector, rule: Yardstick, watcher: Watcher) -> bool:
    """Collect what a run before this one has kept; whether there was anything."""
    for record in keeper.replay():
        collect(collector, rule, record)
    if keeper.batches:
        watcher.on_resume(collector.image_count)
    return keeper.batches > 0


def _with_kept_statistics(study: Study, keeper: Keeper) -> Prepared:
    kept = keeper.statistics()
    if kept:
        return dataclasses.replace(study.prepared, statistics=kept)
    prepared = with_statistics(study.prepared, study.batches)
    if prepared.statistics:
        keeper.keep_statistics(prepared.statistics)
    return prepared


def study_result(
    prepared: Prepared, rule: Yardstick, collector: Collector, report: EngineReport, *, interrupted: bool
) -> AblationResult:
    """Return what has been gathered as a result."""
    return AblationResult(
        score_output=prepared.outputs[0],
        value=prepared.intervention.factor,
        intervention=prepared.intervention,
        baseline=collector.baseline(),
        baseline_logit=collector.baseline_logit(),
        gates=collector.ranking(),
        images=collector.images,
        skipped_images=collector.skipped,
        skipped_tensors=prepared.skipped,
        interrupted=interrupted,
        engine=report,
        target=rule.measure.target,
        rank_by=rule.measure.rank_by,
        quality=collector.quality(),
        labels=collector.labels(),
        image_count=collector.image_count,
        skipped_count=collector.skipped_count,
    )
