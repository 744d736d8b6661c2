"""Claim: ablating every channel of every Sigmoid→Mul tensor of pgc_s is many times faster than the plain loop, and equal.

The study runs in a process of its own, whole and with decoding, and reports its time, the time of all processors, and its
peak memory. The plain loop (the whole model, gated, once a channel and image, batch 1) runs a sample of channels on a
sample of the same images, before and after the study; its time for all of them is extrapolated from these. It is timed with
onnxruntime on one core and on all cores, and the fastest counts. On a machine that others use as well, the ratio of
processor time says more than that of time.

    python benchmarks/ablate_channels.py --model models/pgc_s_32x32.onnx --image-dir hands/ --images 64
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from pgc_graph import modelio
from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.images import find_images, load_image, preprocess_from_metadata, to_tensor
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import Measure
from pgc_graph.studies.ablation.channels import ablate_channels

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from reference.plain_channels import gated_channels

Record = dict[str, Any]


def main() -> None:
    options = parse()
    if options.study:
        print(json.dumps(study(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.image_dir is None:
            options.image_dir = draw_images(Path(folder), options.images)
        before = plain(options)
        command = [sys.executable, __file__, *sys.argv[1:], "--study", "--image-dir", str(options.image_dir)]
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        wall = time.perf_counter() - begin
        found, after = json.loads(done.stdout), plain(options)
    report(options, found, wall, before, after)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[1] / "models" / "pgc_s_32x32.onnx"
    parser.add_argument("--model", type=Path, default=default)
    parser.add_argument("--image-dir", type=Path, help="images to use; drawn smooth noise if left out")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--sample", type=int, default=97, help="one in so many channels goes through the plain loop")
    parser.add_argument("--sample-images", type=int, default=8)
    parser.add_argument("--study", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def draw_images(folder: Path, count: int) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(count):
        patches = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(patches).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.png")
    return folder


def study(options: argparse.Namespace) -> Record:
    """Ablate all channels, and return the sampled means, the times and the peak memory of this process."""
    model = modelio.load(options.model)
    targets = select_targets(find_targets(model), TargetQuery())
    begin = time.perf_counter()
    result = ablate_channels(
        model,
        find_images(options.image_dir, limit=options.images),
        targets,
        measure=Measure("1"),
        runtime=RuntimeOptions(provider="cpu", threads=options.threads),
    )
    seconds = time.perf_counter() - begin
    means = {f"{item.tensor}|{item.channel}": item.delta.mean for item in result.channels}
    ways = sorted({tensor.way.method for tensor in result.tensors})
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "processor": used.ru_utime + used.ru_stime,
        "images": len(result.images),
        "means": means,
        "ways": ways,
        "peak": used.ru_maxrss / 1024,  # MiB on Linux
    }


def plain(options: argparse.Namespace) -> Record:
    """Run a sample of channels on a sample of images, and return seconds a run and the mean Δ of each channel."""
    proto = onnx.load(options.model)
    model = modelio.load(options.model)
    preprocess = preprocess_from_metadata(model.metadata_props, image_input(model).shape)
    paths = find_images(options.image_dir, limit=options.images)[: options.sample_images]
    images = np.stack([to_tensor(load_image(path), preprocess) for path in paths])
    tensors = [target.tensor for target in select_targets(find_targets(model), TargetQuery())]
    gated, counts = gated_channels(proto, tensors)
    every = [(tensor, channel) for tensor in range(len(tensors)) for channel in range(counts[tensor])][
        :: options.sample
    ]
    best, processor = float("inf"), float("inf")
    scores = np.zeros((len(every) + 1, len(images)))
    for threads in (1, 0):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(gated, settings, providers=["CPUExecutionProvider"])
        kept = {f"gate_{at}": np.ones((1, count, 1, 1), np.float32) for at, count in enumerate(counts)}
        name = image_input(model).name
        begin, begun = time.perf_counter(), time.process_time()
        for row, image in enumerate(images):
            scores[0, row] = np.ravel(session.run(None, {name: image[None], **kept})[-1])[-1]
            for index, (tensor, channel) in enumerate(every, start=1):
                gate = kept[f"gate_{tensor}"].copy()
                gate[0, channel] = 0
                feed = {name: image[None], **kept, f"gate_{tensor}": gate}
                scores[index, row] = np.ravel(session.run(None, feed)[-1])[-1]
        best = min(best, (time.perf_counter() - begin) / scores.size)
        processor = min(processor, (time.process_time() - begun) / scores.size)
    deltas = (scores[0] - scores[1:]).mean(axis=1)
    names = [f"{tensors[tensor]}|{channel}" for tensor, channel in every]
    return {
        "run": best,
        "processor": processor,
        "means": dict(zip(names, deltas.tolist(), strict=True)),
        "total": sum(counts) + 1,
    }


def report(options: argparse.Namespace, found: Record, wall: float, before: Record, after: Record) -> None:
    run, processor = (min(before[key], after[key]) for key in ("run", "processor"))
    runs = before["total"] * found["images"]
    ours = 1e6 * found["seconds"] / runs, 1e6 * found["processor"] / runs
    print(f"{options.model.name}: {before['total'] - 1} channels, {found['images']} images, {', '.join(found['ways'])}")
    print(f"  --per-channel {found['seconds']:8.2f} s ({wall:.2f} s with start-up)")
    print(f"  plain loop    {run * runs:8.2f} s, extrapolated from one channel in {options.sample}")
    print(f"  ratio of time {run * runs / found['seconds']:.1f}x ({run * runs / wall:.1f}x with start-up)")
    print(f"  ratio of processor time, start-up included {processor * runs / found['processor']:.1f}x")
    print(
        f"  a run: {ours[0]:.0f} µs, {ours[1]:.0f} µs of processor; plain {1e6 * run:.0f} µs, {1e6 * processor:.0f} µs"
    )
    print(f"  peak memory {found['peak']:.0f} MiB")
    if options.sample_images >= options.images:
        print(f"  max |Δ| of means {max(abs(found['means'][key] - mean) for key, mean in before['means'].items()):.1e}")


if __name__ == "__main__":
    main()
