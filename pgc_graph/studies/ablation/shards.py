"""What one worker of a cluster does: score the images of a shard, or measure tensors on them.

A study is opened once in every worker process: the model is planned and checked there as it is on one machine, on the
same sample of images, so that the constants of the plan are the same everywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import ImageError, ProviderError
from pgc_graph.images import ImageBatch, load_image
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.sources import FileImages, ImageSource
from pgc_graph.studies.ablation.again import ReadAgain
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.loop import collect, jobs_of, record_of
from pgc_graph.studies.ablation.measure import Yardstick
from pgc_graph.studies.ablation.prepare import Prepared, choose_runner, prepare
from pgc_graph.studies.ablation.reference import DonorPool, TensorStatistics, measure_tensors
from pgc_graph.studies.ablation.result import EngineReport
from pgc_graph.studies.ablation.scores import Wanted
from pgc_graph.studies.ablation.workers import in_order

__all__ = ["Partial", "Shard", "SharedStudy", "check_shared", "cut_shards", "measuring", "scoring"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SharedStudy:
    """What all shards of a study need; it is sent once a node.

    Attributes:
        model: `(bytes,)` uint8, the model as a file: arrays are shared by the processes of a node.
        targets: The tensors.
        intervention: What is done to them.
        statistics: Of the tensors, where the intervention needs them.
        rule: What the study is measured by.
        preprocess: How images become input.
        batch_size: Images a batch.
        sample: Images to plan and check with, and what is wanted of them; None for measuring.
        is_small: Whether there are no other images.
        donors: Of `resample`.
        folder: Where relative paths begin.
        version: Of this package.
    """

    model: NDArray[np.uint8]
    targets: tuple[Target, ...]
    intervention: Intervention
    statistics: tuple[TensorStatistics, ...]
    rule: Yardstick
    preprocess: Preprocess
    batch_size: int
    sample: tuple[NDArray[np.float32], Wanted] | None
    is_small: bool
    donors: DonorPool | None
    folder: Path
    version: str


@dataclass(frozen=True, eq=False)
class Shard:
    """Images that one worker looks at in one go.

    Attributes:
        start: Where the first one stands among all images.
        stop: Where the last one does, plus one.
        source: Holds these images.
        offset: How many images stand before the source's first one.
    """

    start: int
    stop: int
    source: ImageSource
    offset: int

    def batches(self, preprocess: Preprocess, batch_size: int) -> Iterator[ImageBatch]:
        """Yield the images, with their positions among all."""
        reader = ReadAgain(self.source, preprocess, batch_size)
        for batch in reader.read(self.start - self.offset, self.stop - self.offset):
            positions = np.asarray(batch.positions, np.int64) + self.offset
            yield dataclasses.replace(batch, positions=positions)


@dataclass(frozen=True, eq=False)
class Partial:
    """What a worker has found on a shard: the figures, and how they were computed there."""

    collector: Collector
    report: EngineReport


def cut_shards(source: ImageSource, size: int) -> Iterator[Shard]:
    """Cut images into shards; one of files carries the names of its files only.

    Args:
        source: The images.
        size: Images a shard.
    """
    count = len(source)
    for start in range(0, count, size):
        stop = min(start + size, count)
        if isinstance(source, FileImages):
            yield Shard(start, stop, FileImages(source.path(position) for position in range(start, stop)), start)
        else:
            yield Shard(start, stop, source, 0)


def check_shared(source: ImageSource, part: Collector) -> None:
    """Log what a worker could not read, and make sure that it cannot be read here either, if it is a file.

    Raises:
        ImageError: The first of it can be read here.
    """
    for skipped in part.skipped:
        logger.warning("skipped: %s", skipped.reason)
    if not part.skipped or not isinstance(source, FileImages):
        return
    path, reason = part.skipped[0].path, part.skipped[0].reason
    try:
        load_image(path)
    except ImageError:
        return  # as it should be: it is skipped on one machine, too
    raise ImageError(f"{path} can be read here, but a worker says: {reason}; every node has to find it under this path")


def scoring(study: SharedStudy) -> Callable[[Shard], Partial]:
    """Open a study on a worker and return what scores a shard.

    Raises:
        ProviderError: The worker has another version of this package.
        PgcGraphError: As for an ablation.
    """
    if study.sample is None:
        raise AssertionError("a study without a sample cannot be planned")
    prepared = dataclasses.replace(_prepared(study), statistics=study.statistics)
    choice = choose_runner(prepared, *study.sample, all_images=study.is_small)

    def score(shard: Shard) -> Partial:
        collector = Collector(
            prepared.targets,
            has_logit=len(prepared.outputs) > 1,
            names=study.rule.names,
            rank_by=study.rule.measure.rank_by,
        )
        with _images_are_shared():
            jobs = jobs_of(shard.batches(study.preprocess, study.batch_size), study.rule, study.donors)
            for job, scores in in_order(choice.run, jobs, 1, choice.rows):
                collect(collector, study.rule, record_of(study.rule, job, scores))
        return Partial(collector, choice.report)

    return score


def measuring(study: SharedStudy) -> Callable[[Shard], tuple[int, tuple[TensorStatistics, ...]]]:
    """Open a study on a worker and return what measures its tensors on a shard: how many images, and the statistics.

    There are no statistics where no image of the shard can be read.

    Raises:
        ProviderError: The worker has another version of this package.
        PgcGraphError: As for an ablation.
    """
    prepared = _prepared(study)

    def measure(shard: Shard) -> tuple[int, tuple[TensorStatistics, ...]]:
        counted = 0

        def count(batches: Iterator[ImageBatch]) -> Iterator[ImageBatch]:
            nonlocal counted
            for batch in batches:
                counted += len(batch.paths)
                yield batch

        with _images_are_shared():
            batches = (batch for batch in shard.batches(study.preprocess, study.batch_size) if batch.paths)
            first = next(batches, None)
            if first is None:
                return 0, ()
            found = measure_tensors(
                prepared.model,
                prepared.question.tensors,
                count(itertools.chain([first], batches)),
                study.intervention,
                prepared.source,
                prepared.options,
            )
        return counted, found

    return measure


def _prepared(study: SharedStudy) -> Prepared:
    found = version("pgc-graph")
    if found != study.version:
        raise ProviderError(
            f"node {platform.node()} has pgc-graph {found}, this machine {study.version}; "
            "install the same version on every node"
        )
    if study.folder.is_dir():
        os.chdir(study.folder)  # the process belongs to this study, in which paths are those of the machine that asks
    model = modelio.load(study.model.tobytes())
    return prepare(model, study.targets, study.intervention, RuntimeOptions("cpu", 1))


@contextlib.contextmanager
def _images_are_shared() -> Iterator[None]:
    """Say of an error with images on which node it came up."""
    try:
        yield
    except ImageError as error:
        raise ImageError(
            f"{error} (on node {platform.node()}; every node has to find the images under the same path)"
        ) from error
