"""Claim: a Ray cluster scores as many times the images a second as it has workers, as long as there are cores for them.

Clusters of several nodes on this machine, one worker each, in turn, all on the same images. What is printed: seconds until
the first shards are done (Ray's processes, imports, planning), the largest |Δ| of a mean from the result of one process,
images a second from there on, their ratio to one worker's, and how long a core is busy with an image, which tells more
where cores are shared with others. Then how long the asking process is busy with the figures of one shard, which bounds
the cores that it can keep at work.

    python benchmarks/ablate_ray.py --model l --images 4096 --workers 1 2 4
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import time
from pathlib import Path

import onnx_ir as ir
from ray.cluster_utils import Cluster

from pgc_graph import modelio
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.images import ImageBatch, find_images
from pgc_graph.runtime.cluster import ClusterOptions, connected
from pgc_graph.runtime.session import available_cores
from pgc_graph.sources import FileImages
from pgc_graph.studies.ablation import AblationResult, ablate, ablate_on_cluster
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.scores import Scores

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from ablate import draw_images

from calibrated import calibrated_pgc

_DRAWN = 512
_MERGES = 200


def main() -> None:
    options = parse()
    model = modelio.load(options.model) if options.model.endswith(".onnx") else calibrated_pgc(options.model)
    targets = select_targets(find_targets(model), TargetQuery())
    with tempfile.TemporaryDirectory() as folder:
        source = images(options, Path(folder))
        print(f"{options.model}: {len(targets)} gates, {len(source)} images, {available_cores()} cores")
        start, busy = time.perf_counter(), time.process_time()
        alone = ablate(model, source, targets)
        rate = len(source) / (time.perf_counter() - start)
        cost = 1e3 * (time.process_time() - busy) / len(source)
        print(f"  one process: {rate:.1f} images/s, {cost:.2f} ms of a core an image")
        rates: dict[int, float] = {}
        for workers in options.workers * options.rounds:
            measure(model, targets, source, workers, options.shard_images, alone, rates)
        taken_in(model, targets, source, options.shard_images)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="l", help="a preset (s c m l) or an .onnx file")
    parser.add_argument("--image-dir", type=Path, help="images to use again and again; drawn if left out")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=1, help="how often each number of workers is measured")
    parser.add_argument("--shard-images", type=int, default=256)
    return parser.parse_args()


def images(options: argparse.Namespace, folder: Path) -> FileImages:
    paths = find_images(options.image_dir or draw_images(folder, min(_DRAWN, options.images)))
    return FileImages(paths[index % len(paths)] for index in range(options.images))


def measure(
    model: ir.Model,
    targets: tuple[Target, ...],
    source: FileImages,
    workers: int,
    shard_images: int,
    alone: AblationResult,
    rates: dict[int, float],
) -> None:
    times: list[tuple[float, int, float]] = []
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(workers):
            cluster.add_node(num_cpus=1)
        with connected(ClusterOptions(cluster.address)):
            start = time.perf_counter()
            found = ablate_on_cluster(
                model,
                source,
                targets,
                shard_images=shard_images,
                on_shard=lambda done, total: times.append((time.perf_counter(), done, worker_seconds())),
            )
    finally:
        cluster.shutdown()
    # Shards come in rounds of one a worker; whole rounds after the first one are counted.
    first, last = times[workers - 1], times[-1]
    rate = (last[1] - first[1]) / (last[0] - first[0])
    rates.setdefault(workers, rate)
    gap = max(abs(a.delta.mean - b.delta.mean) for a, b in zip(found.gates, alone.gates, strict=True))
    ratio = rate / rates[min(rates)]
    cost = 1e3 * (last[2] - first[2]) / (last[1] - first[1])
    print(f"  {workers} workers: first shards after {first[0] - start:5.1f} s, |Δ| {gap:.1e}")
    print(f"    {rate:8.1f} images/s = {ratio:.2f}x, {cost:.2f} ms of a core an image")


def worker_seconds() -> float:
    """Return how long all Ray workers of this machine have kept cores busy; 0 where /proc does not tell."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cmdline").read_bytes().startswith(b"ray::"):
                ticks += sum(map(int, (path / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue  # it has ended meanwhile
    return ticks / os.sysconf("SC_CLK_TCK")


def taken_in(model: ir.Model, targets: tuple[Target, ...], source: FileImages, size: int) -> None:
    """Time what the asking process does with the figures of a shard: unpack and merge them."""
    part = Collector(targets, has_logit=True)

    def gather(batch: ImageBatch, scores: Scores) -> None:
        part.add(batch.paths, scores, positions=batch.positions)

    ablate(model, [source.path(index) for index in range(size)], targets, on_batch=gather)
    packed = pickle.dumps(part, protocol=5)
    together = pickle.loads(packed)
    start = time.process_time()
    for _ in range(_MERGES):
        together.merge(pickle.loads(packed))
    seconds = (time.process_time() - start) / _MERGES
    print(f"  merging: {1e3 * seconds:.1f} ms and {len(packed) / 1e6:.2f} MB a shard of {size} images")
    print(f"  = at most {size / seconds:,.0f} images/s for one asking process")


if __name__ == "__main__":
    main()
