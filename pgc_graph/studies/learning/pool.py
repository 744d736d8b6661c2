"""The images that are learned from: decoded once and kept where they fit, else decoded for each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgc_graph.preprocess import Preprocess
from pgc_graph.sources import ImageSource, read_ahead
from pgc_graph.studies.ablation.again import ReadAgain
from pgc_graph.studies.ablation.measure import Yardstick

__all__ = ["MOST_BYTES", "Pool", "batch_indices", "read_pool", "rows_of"]

MOST_BYTES = 2**30
"""Of decoded images that are kept in memory."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Images that can be read.

    Attributes:
        source: Where they are.
        preprocess: How they become input.
        positions: `(N,)`, where they stand in the source.
        truth: `(N,)`, the class that each shows, -1 where unknown.
        tensor: `(N, ...)`, decoded, or None where they do not fit.
        skipped: How many cannot be read.
    """

    source: ImageSource
    preprocess: Preprocess
    positions: NDArray[np.int64]
    truth: NDArray[np.int64]
    tensor: NDArray[np.float32] | None
    skipped: int


def read_pool(source: ImageSource, preprocess: Preprocess, rule: Yardstick | None, *, most: int = MOST_BYTES) -> Pool:
    """Read all images once.

    Raises:
        ImageError: None of them can be read.
    """
    positions: list[NDArray[np.int64]] = []
    truth: list[NDArray[np.int64]] = []
    kept: list[NDArray[np.float32]] = []
    skipped = size = 0
    for batch in ReadAgain(source, preprocess, 64):
        skipped += len(batch.skipped)
        found = None if rule is None else rule.truth(batch.paths, batch.labels)
        truth.append(np.full(len(batch.paths), -1, np.int64) if found is None else found)
        positions.append(np.zeros(0, np.int64) if batch.positions is None else batch.positions)
        size += batch.tensor.nbytes
        kept = [*kept, batch.tensor] if size <= most else []
    tensor = np.concatenate(kept) if size <= most else None
    return Pool(source, preprocess, np.concatenate(positions), np.concatenate(truth), tensor, skipped)


def rows_of(pool: Pool, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return some of the images, `(len(indices), ...)`, in the order asked for."""
    if pool.tensor is not None:
        return pool.tensor[indices]
    wanted, inverse = np.unique(indices, return_inverse=True)
    batches = read_ahead(pool.source, pool.positions[wanted].tolist(), pool.preprocess, batch_size=64)
    return np.concatenate([batch.tensor for batch in batches])[inverse.reshape(-1)]


def batch_indices(count: int, size: int, step: int, seed: int) -> NDArray[np.int64]:
    """Return which images a step sees: one endless sequence of shuffled passes, cut into batches.

    It depends on nothing but its arguments, so that a run can go on anywhere.
    """
    first, last = step * size, (step + 1) * size - 1
    passes = [np.random.default_rng([seed, 0, p]).permutation(count) for p in range(first // count, last // count + 1)]
    start = first - first // count * count
    return np.concatenate(passes)[start : start + size].astype(np.int64)
