"""Score batches on several threads, results in the order of the batches."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pgc_graph.images import ImageBatch
from pgc_graph.studies.ablation.scores import Scores

__all__ = ["in_order"]

_WAITING = 2  # batches a worker that are read ahead


def in_order(
    run: Callable[[ImageBatch], Scores], batches: Iterable[ImageBatch], workers: int
) -> Iterator[tuple[ImageBatch, Scores | None]]:
    """Yield each batch with its scores, or with None where it has no image.

    Batches are read on the calling thread while the workers run the model.
    """
    running: collections.deque[tuple[ImageBatch, Future[Scores] | None]] = collections.deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ablation") as pool:
        try:
            for batch in batches:
                running.append((batch, pool.submit(run, batch) if batch.paths else None))
                if len(running) > workers * _WAITING:
                    yield _finished(*running.popleft())
            while running:
                yield _finished(*running.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finished(batch: ImageBatch, future: Future[Scores] | None) -> tuple[ImageBatch, Scores | None]:
    return batch, None if future is None else future.result()
