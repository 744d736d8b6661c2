"""Ablate on a Ray cluster: shards of the images go to workers, figures come back and are merged in the order of the shards.

The result does not depend on how many workers there are, which of them does what, or which of them die: what is done to an
image follows from its position among all images, batches are cut as on one machine, and every shard is counted once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.analysis.interface import own_preprocess
from pgc_graph.analysis.macs import count_macs
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import ImageError, OptionError
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.cluster import ClusterOptions, cluster_cores, connected, map_in_order
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.sources import ImageSource
from pgc_graph.studies.ablation.again import Images, ReadAgain
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.intervention import Intervention, scaling
from pgc_graph.studies.ablation.loop import jobs_of, leading_jobs, study_result
from pgc_graph.studies.ablation.measure import Measure, Yardstick, yardstick
from pgc_graph.studies.ablation.moments import merge_moments
from pgc_graph.studies.ablation.prepare import Choice, Prepared, choose_runner, prepare
from pgc_graph.studies.ablation.reference import TensorStatistics
from pgc_graph.studies.ablation.result import AblationResult, EngineReport
from pgc_graph.studies.ablation.run import batch_size_of
from pgc_graph.studies.ablation.shards import SharedStudy, check_shared, cut_shards, measuring, scoring

__all__ = ["ablate_on_cluster"]

_MOST_IMAGES = 1024  # a shard
_MOST_MEASURED = 8192  # the same where tensors are measured, for which a session is opened each time
_SHARD_MACS = 1e12  # seconds of one core, some tens at most
_SHARD_SCORES = 2**19  # images x tensors a shard, so that figures of a shard stay below some ten megabytes
_SHARDS_A_CORE = 4  # at least, so that no core waits long for the last one

OnShard = Callable[[int, int], None]


def ablate_on_cluster(
    model: ir.Model,
    images: Images,
    targets: Sequence[Target],
    *,
    cluster: ClusterOptions | None = None,
    preprocess: Preprocess | None = None,
    value: float = 0.0,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    batch_size: int | None = None,
    shard_images: int = 0,
    on_shard: OnShard | None = None,
    stop: Callable[[], bool] | None = None,
) -> AblationResult:
    """Do what `ablate` does on a Ray cluster, every node of which finds the images under the same path.

    Args:
        model: A classifier with one image input; stays untouched.
        images: Image files, or any source of images; those that cannot be read are skipped and counted.
        targets: The tensors, from `select_targets`.
        cluster: Which cluster; by default one of this machine's cores.
        preprocess: How images become input; by default as the model's metadata say.
        value: What a tensor is multiplied by, where no intervention is given; 0 switches it off.
        intervention: What is done to a tensor.
        measure: Which class is scored, what images are labelled as, and what ranks the tensors.
        runtime: Where to run: on processors; each worker has one thread.
        batch_size: Images that are read together; by default as `ablate` does.
        shard_images: Images a worker looks at in one go, rounded up to whole batches; 0 for what takes some seconds.
        on_shard: Called with the images that are done and their total whenever a shard is.
        stop: Asked now and then; the result covers the shards that are done once it says True.

    Raises:
        ProviderError: Ray is missing, the cluster cannot be reached, or work was lost again and again.
        OptionError: The provider is none that workers run on, or as for `ablate`.
        ImageError: None of the images can be read, or workers do not find what is here.
        PgcGraphError: As for `ablate`.
    """
    if (batch_size is not None and batch_size < 1) or shard_images < 0:
        raise OptionError(f"{batch_size} images a batch, {shard_images} a shard: impossible; expected at least 1")
    if runtime is not None and runtime.provider not in ("auto", "cpu"):
        raise OptionError(f"engine ray runs on processors, not on {runtime.provider}; expected provider auto or cpu")
    if preprocess is None:
        preprocess = own_preprocess(model)
    chosen = intervention or scaling(value)
    prepared = prepare(model, targets, chosen, RuntimeOptions("cpu", 1))
    rule = yardstick(model, measure or Measure(), has_logit=len(prepared.outputs) > 1)
    reader = ReadAgain(images, preprocess, batch_size or batch_size_of(preprocess))
    shared = _shared(model, prepared, rule, reader, preprocess)
    stopped = stop or (lambda: False)
    with connected(cluster or ClusterOptions()):
        work = _Work(reader.source, cluster or ClusterOptions(), shard_images, on_shard, stopped)
        if chosen.needs_statistics:
            prepared = _with_statistics(prepared, shared, work)
        first = next(job for job in leading_jobs(jobs_of(reader, rule, shared.donors)) if job.batch.paths)
        sample = (first.batch.tensor, first.wanted)
        choice = choose_runner(prepared, *sample, all_images=shared.is_small)
        shared = dataclasses.replace(shared, statistics=prepared.statistics, sample=sample)
        collector, report = _merge_shards(prepared, shared, work, choice)
    return study_result(prepared, rule, collector, report, interrupted=stopped())


@dataclass(frozen=True, eq=False)
class _Work:
    """What is asked of the cluster, and how."""

    source: ImageSource
    cluster: ClusterOptions
    shard_images: int
    on_shard: OnShard | None
    stopped: Callable[[], bool]

    def size(self, affordable: int, batch_size: int) -> int:
        """Return the images of a shard: as asked for, or so that every core gets several; in whole batches."""
        cores = self.cluster.cores or max(cluster_cores(), 1)
        even = -(-len(self.source) // (_SHARDS_A_CORE * cores))
        return -(-(self.shard_images or min(affordable, even)) // batch_size) * batch_size


def _shared(
    model: ir.Model, prepared: Prepared, rule: Yardstick, reader: ReadAgain, preprocess: Preprocess
) -> SharedStudy:
    seed = prepared.intervention.seed
    return SharedStudy(
        model=np.frombuffer(modelio.to_bytes(model), np.uint8),
        targets=prepared.targets,
        intervention=prepared.intervention,
        statistics=(),
        rule=rule,
        preprocess=preprocess,
        batch_size=reader.batch_size,
        sample=None,
        is_small=len(reader.source) <= reader.batch_size,
        donors=reader.donors(seed) if prepared.intervention.mode == "resample" else None,
        folder=Path.cwd(),
        version=version("pgc-graph"),
    )


def _merge_shards(
    prepared: Prepared, shared: SharedStudy, work: _Work, choice: Choice
) -> tuple[Collector, EngineReport]:
    """Have all shards scored and put their figures together."""
    rule, has_logit = shared.rule, len(prepared.outputs) > 1
    together = Collector(prepared.targets, has_logit=has_logit, names=rule.names, rank_by=rule.measure.rank_by)
    report, done = choice.report, 0
    shards = cut_shards(work.source, work.size(_affordable(prepared, choice, shared), shared.batch_size))
    for shard, part in map_in_order(scoring, shared, shards, cores=work.cluster.cores, stop=work.stopped):
        check_shared(work.source, part.collector)
        together.merge(part.collector)
        report = _joined(report, part.report)
        done += shard.stop - shard.start
        if work.on_shard is not None:
            work.on_shard(done, len(work.source))
    return together, report


def _with_statistics(prepared: Prepared, shared: SharedStudy, work: _Work) -> Prepared:
    """Measure the tensors on all images, a shard at a time."""
    tensors = prepared.question.tensors
    total, together = 0, list[TensorStatistics]()
    shards = cut_shards(work.source, work.size(_MOST_MEASURED, shared.batch_size))
    for _, (count, found) in map_in_order(measuring, shared, shards, cores=work.cluster.cores):
        if count:
            pairs = zip(tensors, together or found, found, strict=True)
            together = [merge_moments(tensor, one, total, other, count) for tensor, one, other in pairs]
            total += count
    if not total:
        raise ImageError(f"none of the {len(work.source)} images could be read; give at least one that can")
    return dataclasses.replace(prepared, statistics=tuple(together))


def _affordable(prepared: Prepared, choice: Choice, shared: SharedStudy) -> int:
    """Return how many images take some seconds and whose figures are no burden."""
    height, width = shared.preprocess.size
    shape = (3, height, width) if shared.preprocess.layout == "NCHW" else (height, width, 3)
    asked = {prepared.source.name: (prepared.source.fixed_batch or 1, *shape)}
    macs = count_macs(prepared.model, input_shapes=asked).total * (1 + choice.report.suffix_runs)
    return max(1, min(_MOST_IMAGES, int(_SHARD_MACS / max(macs, 1)), _SHARD_SCORES // len(prepared.targets)))


def _joined(one: EngineReport, other: EngineReport) -> EngineReport:
    """Return how figures were computed on several machines: the largest deviation, and who took the plain way."""
    if one.method != other.method:
        note = f"{other.method} on some workers: {other.note}" if other.note else one.note
        return dataclasses.replace(one, note=note)
    checks = [check for check in (one.self_check, other.self_check) if check is not None]
    return dataclasses.replace(one, self_check=max(checks, default=None))
