"""Images that can be read more than once, from any position, and drawn from at random."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import ImageBatch
from pgc_graph.preprocess import Preprocess
from pgc_graph.sources import FileImages, ImageSource, read_ahead
from pgc_graph.studies.ablation.hashing import scatter
from pgc_graph.studies.ablation.reference import POOL, DonorPool

__all__ = ["Images", "ReadAgain", "as_source"]

logger = logging.getLogger(__name__)

Images = ImageSource | Sequence[Path]

_STRETCH = 1 << 16
_REMEMBERED = 1000


def as_source(images: Images) -> ImageSource:
    """Return images as a source; paths become one of files."""
    return images if isinstance(images, ImageSource) else FileImages(images)


class ReadAgain:
    """Batches of images: what is in a batch depends on the positions of the images and on nothing else."""

    def __init__(self, images: Images, preprocess: Preprocess, batch_size: int, *, threads: int = 1) -> None:
        self.source = as_source(images)
        self.preprocess, self.batch_size, self._threads = preprocess, batch_size, threads
        self._named: set[int] = set()

    def __iter__(self) -> Iterator[ImageBatch]:
        read = 0
        for batch in self.read():
            read += len(batch.paths)
            yield batch
        if not read:
            count = len(self.source)
            first = next((entry.path for entry in self.source.read(range(min(count, 1)))), "none given")
            raise ImageError(f"none of the {count} images could be read (first: {first})")

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ImageBatch]:
        """Yield the batches of the images from one position to before another, by default of all.

        Each image that cannot be read is logged once, however often it is tried.
        """
        return self._read(range(start, len(self.source) if stop is None else stop))

    def donors(self, seed: int) -> DonorPool:
        """Return images from all over the source, chosen by the seed.

        Raises:
            OptionError: There are not two images that can be read.
        """
        paths: list[Path] = []
        images: list[NDArray[np.float32]] = []
        for drawn in _drawn(seed, len(self.source)):
            found: dict[int, tuple[Path, NDArray[np.float32]]] = {}
            for batch in self._read(sorted(drawn)):
                positions = [] if batch.positions is None else batch.positions.tolist()
                found.update(zip(positions, zip(batch.paths, batch.tensor, strict=True), strict=True))
            paths.extend(found[position][0] for position in drawn if position in found)
            images.extend(found[position][1] for position in drawn if position in found)
            if len(paths) >= POOL:
                break
        if len(paths) < 2:
            raise OptionError(f"resample takes tensors from other images, but there is {len(paths)}; give at least two")
        return DonorPool(tuple(paths[:POOL]), np.stack(images[:POOL]), seed)

    def _read(self, positions: Sequence[int]) -> Iterator[ImageBatch]:
        batches = read_ahead(self.source, positions, self.preprocess, batch_size=self.batch_size, threads=self._threads)
        for batch in batches:
            if batch.skipped:
                self._name(batch)
            yield batch

    def _name(self, batch: ImageBatch) -> None:
        for skipped in batch.skipped:
            key = hash(skipped.path)
            if key not in self._named:
                logger.warning("skipped: %s", skipped.reason)
            if len(self._named) < _REMEMBERED:
                self._named.add(key)


def _drawn(seed: int, count: int) -> Iterator[list[int]]:
    """Yield all positions in the order of their hashes, `POOL` at a time, with memory for no more than those."""
    stream = scatter(np.array([seed], np.uint64))
    least = np.uint64(0)
    for start in range(0, count, POOL):
        keys, positions = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        for first in range(0, count, _STRETCH):
            more = np.arange(first, min(first + _STRETCH, count), dtype=np.int64)
            hashes = scatter(stream ^ more.astype(np.uint64))
            chosen = hashes > least if start else np.full(len(hashes), True)
            keys, positions = np.concatenate([keys, hashes[chosen]]), np.concatenate([positions, more[chosen]])
            order = np.argsort(keys)[:POOL]
            keys, positions = keys[order], positions[order]
        least = keys[-1]
        yield positions.tolist()
