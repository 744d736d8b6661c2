"""Claim: ablating pgc_l on 1,000 images is many times faster than running every gate and image by itself, and equal.

`pgc-graph ablate` and the plain loop (`plain_ablation.py`) run in turns, each as a process of its own from start to end, on
the same images. Then, in this process, what an image costs once all is under way is compared with the time that its
multiply-accumulates (MACs) take onnxruntime on the bare model, with batch 8 and as many threads.

    python benchmarks/ablate.py models/pgc_l_32x32.onnx models/pgc_s_32x32.onnx --image-dir hands/ --images 1000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_ir as ir
from PIL import Image

from pgc_graph import modelio
from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.images import find_images, preprocess_from_metadata
from pgc_graph.runtime.session import RuntimeOptions, available_cores, open_session
from pgc_graph.studies.ablation import ablate
from pgc_graph.studies.ablation.explain import explain_ablation

HERE = Path(__file__).resolve().parent
MODELS = [HERE.parent / "models" / f"pgc_{variant}_32x32.onnx" for variant in ("l", "s")]
OURS = "pgc_cli.main"
BATCH = 8


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        image_dir = options.image_dir or draw_images(Path(folder), options.images)
        for model in options.models:
            whole_processes(model, image_dir, options)
            if not options.processes_only:
                steady_state(model, find_images(image_dir, limit=options.images))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", default=MODELS, help="by default the shipped l and s")
    parser.add_argument("--image-dir", type=Path, help="folder of .png files; drawn smooth noise if left out")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2, help="how often each of the two processes runs")
    parser.add_argument("--processes-only", action="store_true", help="leave out what is measured in this process")
    return parser.parse_args()


def draw_images(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for index in range(count):
        patches = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(patches).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.png")
    return folder


def whole_processes(model: Path, image_dir: Path, options: argparse.Namespace) -> None:
    images = str(options.images)
    ours = ["-m", OURS, "ablate", "--model", str(model), "--image-dir", str(image_dir), "--max-images", images]
    ours += ["--provider", "cpu", "--labels", "none", "--topk-heatmaps", "0", "--quiet", "--json"]
    plain = [str(HERE / "plain_ablation.py"), str(model), str(image_dir), "--images", images]
    seconds: dict[str, list[float]] = {"ablate": [], "plain": []}
    busy: dict[str, list[float]] = {"ablate": [], "plain": []}
    printed: dict[str, str] = {}
    for _ in range(options.rounds):
        for name, arguments in (("ablate", ours), ("plain", plain)):
            wall, processor, printed[name] = timed(arguments)
            seconds[name].append(wall)
            busy[name].append(processor)
    deltas = {gate["target"]["tensor"]: gate["delta"]["mean"] for gate in json.loads(printed["ablate"])["gates"]}
    theirs = json.loads(printed["plain"])
    gap = max(abs(deltas[tensor] - delta) for tensor, delta in theirs.items())
    print(f"{model.name}: {len(theirs)} gates, {images} images, whole processes in turns, {available_cores()} cores")
    for name, walls in seconds.items():
        shown = " ".join(f"{wall:.2f}" for wall in walls)
        print(f"  {name:6} {shown} s; on processors {' '.join(f'{cpu:.2f}' for cpu in busy[name])} s")
    ratios = [theirs / ours for ours, theirs in zip(seconds["ablate"], seconds["plain"], strict=True)]
    print(f"  plain / ablate {' '.join(f'{ratio:.1f}x' for ratio in ratios)}, max |difference of mean Δ| {gap:.1e}")


def timed(arguments: list[str]) -> tuple[float, float, str]:
    """Run a Python process; return seconds on the clock and on processors, and what it printed."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    wall, after = time.perf_counter() - start, os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, busy, done.stdout


def steady_state(path: Path, images: tuple[Path, ...]) -> None:
    model = modelio.load(path)
    targets = select_targets(find_targets(model), TargetQuery())
    options = RuntimeOptions(provider="cpu")
    explained = explain_ablation(model, targets, runtime=options)
    rate = bare_rate(model, explained.model_macs)
    marks: list[tuple[float, float]] = []
    clock = lambda: marks.append((time.perf_counter(), time.process_time()))  # noqa: E731
    ablate(model, images, targets, runtime=options, on_batch=lambda batch, scores: clock())
    batches = len(marks) // 4  # what comes before is under way by then
    count = (len(marks) - 1 - batches) * len(images) / len(marks)
    wall, busy = (1e3 * (marks[-1][index] - marks[batches][index]) / count for index in (0, 1))
    again = bare_rate(model, explained.model_macs)
    arithmetic = 1e3 * explained.plan_macs / max(rate, again)
    fewer = explained.plain_macs / explained.plan_macs
    print(f"  plan {explained.plan_macs / 1e6:.0f} M MACs an image, {fewer:.1f}x fewer than the plain loop")
    rates = f"{rate / 1e9:.0f} and {again / 1e9:.0f} GMAC/s"
    print(f"  bare model, batch {BATCH}: {rates}, at which the plan's take {arithmetic:.2f} ms")
    print(f"  under way {wall:.2f} ms an image = {wall / arithmetic:.2f}x; {busy:.2f} ms on processors")


def bare_rate(model: ir.Model, macs: int) -> float:
    """Return MACs a second on the bare model, one call of 8 images at a time on each core."""
    source, cores = image_input(model), available_cores()
    size = preprocess_from_metadata(model.metadata_props, source.shape).size
    session = open_session(model, RuntimeOptions(provider="cpu", threads=1))
    batch = np.random.default_rng(0).random((BATCH, 3, *size), np.float32)
    calls = max(cores, int(4e11 / (macs * BATCH) // cores * cores))
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda _: session.run({source.name: batch}), range(cores)))
        start = time.perf_counter()
        list(pool.map(lambda _: session.run({source.name: batch}), range(calls)))
        return calls * BATCH * macs / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
