"""Claim: ablating pgc_l on 1,000 images is many times faster than running every gate and image by itself, and equal.

Both ways run in this process on the same images, decoding included; what is printed is their ratio.

    python benchmarks/ablate.py --image-dir hands/ --images 1000 --plain-images 100
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
from PIL import Image

from pgc_graph import modelio
from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.images import Preprocess, find_images, load_image, preprocess_from_metadata, to_tensor
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import ablate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibrated import calibrated_pgc
from reference.plain_ablation import plain_ablation


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        paths = find_images(options.image_dir or draw_images(Path(folder), options.images), limit=options.images)
        for name in options.model:
            model = modelio.load(name) if name.endswith(".onnx") else calibrated_pgc(name)
            measure(name, model, paths, options.plain_images or len(paths), options.threads)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["l"], help="presets (s c m l) or .onnx files")
    parser.add_argument("--image-dir", type=Path, help="images to use; drawn smooth noise if left out")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--plain-images", type=int, default=0, help="images for the plain loop; 0 = all")
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


def draw_images(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for index in range(count):
        patches = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(patches).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.png")
    return folder


def measure(name: str, model: ir.Model, paths: tuple[Path, ...], plain_count: int, threads: int) -> None:
    targets = select_targets(find_targets(model), TargetQuery())
    preprocess = preprocess_from_metadata(model.metadata_props, image_input(model).shape)
    start = time.perf_counter()
    scores: list[np.ndarray] = []
    result = ablate(
        model,
        paths,
        targets,
        preprocess=preprocess,
        runtime=RuntimeOptions(provider="cpu", threads=threads),
        on_batch=lambda batch, seen: scores.append(seen.baseline - seen.ablated),
    )
    ours = time.perf_counter() - start
    plain_paths = paths[:plain_count]
    start = time.perf_counter()
    plain = plain_loop(model, plain_paths, preprocess, [target.tensor for target in targets])
    theirs = time.perf_counter() - start
    gap = np.abs(np.concatenate(scores, axis=1)[:, : len(plain_paths)] - plain).max()
    per_image, plain_per_image = 1e3 * ours / len(paths), 1e3 * theirs / len(plain_paths)
    print(f"{name}: {len(targets)} gates, {result.engine.suffix_runs} runs below them, {result.engine.method}")
    print(f"  ablate {ours:8.2f} s for {len(paths)} images = {per_image:7.3f} ms an image")
    print(f"  plain  {theirs:8.2f} s for {len(plain_paths)} images = {plain_per_image:7.3f} ms an image")
    print(f"  ratio an image {plain_per_image / per_image:.1f}x, max |Δ| between the two {gap:.1e}")


def plain_loop(model: ir.Model, paths: tuple[Path, ...], preprocess: Preprocess, tensors: list[str]) -> np.ndarray:
    """Decode, then run each gate on each image; onnxruntime as it comes: all optimisations, all cores."""
    images = np.stack([to_tensor(load_image(path), preprocess) for path in paths])
    plain = plain_ablation(modelio.to_proto(model), images, tensors, optimise=True)
    return plain.baseline - plain.ablated


if __name__ == "__main__":
    main()
