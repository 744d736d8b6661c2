"""Score batches on several threads, results in the order of the batches."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pgc_graph.images import ImageBatch
from pgc_graph.studies.ablation.scores import Runner, Scores, Wanted

__all__ = ["Job", "in_order"]

_WAITING = 2  # batches a worker that are read ahead


@dataclass(frozen=True, eq=False)
class Job:
    """A batch of images and what is wanted of them."""

    batch: ImageBatch
    wanted: Wanted


def in_order(run: Runner, jobs: Iterable[Job], workers: int) -> Iterator[tuple[Job, Scores | None]]:
    """Yield each job with its scores, or with None where its batch has no image.

    Batches are read on the calling thread while the workers run the model.
    """
    running: collections.deque[tuple[Job, Future[Scores] | None]] = collections.deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ablation") as pool:
        try:
            for job in jobs:
                running.append((job, pool.submit(run, job.batch.tensor, job.wanted) if job.batch.paths else None))
                if len(running) > workers * _WAITING:
                    yield _finished(*running.popleft())
            while running:
                yield _finished(*running.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finished(job: Job, future: Future[Scores] | None) -> tuple[Job, Scores | None]:
    return job, None if future is None else future.result()
