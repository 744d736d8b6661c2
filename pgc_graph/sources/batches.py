"""Batches of images, decoded on threads ahead of whoever asks for them."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import ImageError
from pgc_graph.images import ImageBatch, SkippedImage
from pgc_graph.preprocess import Preprocess
from pgc_graph.sources.source import Entry, ImageSource, to_row

__all__ = ["read_ahead"]

_AHEAD = 2  # batches a thread that are decoded before they are asked for


def read_ahead(
    source: ImageSource, positions: Sequence[int], preprocess: Preprocess, *, batch_size: int = 8, threads: int = 1
) -> Iterator[ImageBatch]:
    """Read images in order, a batch at a time; those that cannot be decoded are left out of their batch and named.

    What is in a batch depends on the positions alone: the next so many of them, whether they can be decoded or not.

    Args:
        source: The images.
        positions: Which of them, ascending.
        preprocess: Size, normalisation and layout.
        batch_size: Positions a batch; the last one may have fewer.
        threads: Threads that decode.

    Yields:
        Batches, in order, with positions and labels.

    Raises:
        OptionError: An image is ready for another model's input.
    """
    entries = source.read(positions)
    waiting: collections.deque[Future[ImageBatch]] = collections.deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for start in range(0, len(positions), batch_size):
            chunk = positions[start : start + batch_size]
            taken = [next(entries) for _ in chunk]
            waiting.append(pool.submit(_decode, taken, np.asarray(chunk, np.int64), preprocess))
            if len(waiting) > threads * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode(entries: Sequence[Entry], positions: NDArray[np.int64], preprocess: Preprocess) -> ImageBatch:
    rows: list[NDArray[np.float32]] = []
    good: list[int] = []
    skipped: list[SkippedImage] = []
    for index, entry in enumerate(entries):
        try:
            rows.append(to_row(entry.load(), preprocess))
            good.append(index)
        except ImageError as error:
            skipped.append(SkippedImage(entry.path, str(error)))
    height, width = preprocess.size
    shape = (3, height, width) if preprocess.layout == "NCHW" else (height, width, 3)
    return ImageBatch(
        paths=tuple(entries[index].path for index in good),
        tensor=np.stack(rows) if rows else np.zeros((0, *shape), np.float32),
        skipped=tuple(skipped),
        positions=positions[good],
        labels=tuple(entries[index].label for index in good),
    )
