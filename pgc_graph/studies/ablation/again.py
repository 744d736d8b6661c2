"""Images of a folder that can be read more than once, and drawn from at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pgc_graph.images import ImageBatch, Preprocess, SkippedImage, read_batches
from pgc_graph.studies.ablation.hashing import scatter
from pgc_graph.studies.ablation.reference import DonorPool, donor_pool

__all__ = ["ReadAgain"]


class ReadAgain:
    """Batches of image files; a file that could not be read is tried once and reported every time."""

    def __init__(self, paths: Sequence[Path], preprocess: Preprocess, batch_size: int) -> None:
        self._paths, self._preprocess, self._batch_size = tuple(paths), preprocess, batch_size
        self._skipped: dict[Path, SkippedImage] = {}

    def __iter__(self) -> Iterator[ImageBatch]:
        known = tuple(self._skipped.values())
        paths = [path for path in self._paths if path not in self._skipped]
        if known:
            yield ImageBatch((), np.zeros((0, 3, *self._preprocess.size), np.float32), known)
        for batch in read_batches(paths, self._preprocess, batch_size=self._batch_size):
            self._skipped.update((skipped.path, skipped) for skipped in batch.skipped)
            yield batch

    def donors(self, seed: int) -> DonorPool:
        """Return images from all over the list, chosen by the seed.

        Raises:
            OptionError: There are not two images that can be read.
        """
        stream = scatter(np.array([seed], np.uint64))
        order = np.argsort(scatter(stream ^ np.arange(len(self._paths), dtype=np.uint64)), kind="stable")
        chosen = ReadAgain([self._paths[index] for index in order], self._preprocess, self._batch_size)
        pool = donor_pool(chosen, seed)
        self._skipped.update(chosen._skipped)
        return pool
