"""Score batches on several threads, results in the order of the batches."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgc_graph.images import ImageBatch
from pgc_graph.studies.ablation.scores import Runner, Scores, Wanted, join_scores

__all__ = ["ROWS", "Job", "in_order"]

ROWS = 16
"""Most images a call on processors: with more, tensors leave the caches, and calls cost little already."""

_WAITING = 2  # calls a worker that wait, at least


@dataclass(frozen=True, eq=False)
class Job:
    """A batch of images and what is wanted of them."""

    batch: ImageBatch
    wanted: Wanted


def in_order(run: Runner, jobs: Iterable[Job], workers: int, rows: int = ROWS) -> Iterator[tuple[Job, Scores | None]]:
    """Yield each job with its scores, or with None where its batch has no image.

    Batches are read on the calling thread while the workers run the model.

    Args:
        run: Scores images; called on several threads.
        jobs: Batches of any size.
        workers: How many threads.
        rows: Most images a call.
    """
    running: collections.deque[tuple[Job, list[Future[Scores]]]] = collections.deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ablation") as pool:
        try:
            for job in jobs:
                running.append((job, [pool.submit(run, *piece) for piece in _pieces(job, rows)]))
                while sum(len(pieces) for _, pieces in running) - len(running[0][1]) > workers * _WAITING:
                    yield _finished(*running.popleft())
            while running:
                yield _finished(*running.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pieces(job: Job, rows: int) -> Iterator[tuple[NDArray[np.float32], Wanted]]:
    """Cut a job into as few pieces as may be, of nearly equal size."""
    count = len(job.batch.paths)
    cuts = np.linspace(0, count, -(-count // rows) + 1).round().astype(int).tolist()
    for start, end in itertools.pairwise(cuts):
        yield job.batch.tensor[start:end], job.wanted.rows(range(start, end))


def _finished(job: Job, pieces: list[Future[Scores]]) -> tuple[Job, Scores | None]:
    scores = [piece.result() for piece in pieces]
    return job, join_scores(scores) if scores else None
