"""What pictures cost: `pgc-graph heatmap` against one matplotlib figure a tensor, and many images through one session.

    python benchmarks/heatmaps.py

Both draw the same: image, map and overlay of the 26 Sigmoid→Mul tensors of l, and a collage of the strongest six; as whole
processes, in turns. Then 100 images, a picture a tensor, in one process.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "pgc_l_32x32.onnx"
IMAGE = ROOT / "models" / "crops" / "pointing" / "synth000025_index.png"
TOP = 6
RUNS = 3
MANY = 100


def plain(out: Path) -> None:
    """Draw the pictures as one would in a notebook."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt
    from PIL import Image

    from pgc_graph import modelio
    from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
    from pgc_graph.images import load_image, preprocess_from_metadata, to_tensor
    from pgc_graph.studies.heatmap import activation_maps

    model, image = modelio.load(MODEL), load_image(IMAGE)
    row = to_tensor(image, preprocess_from_metadata(model.metadata_props, (None, 3, 32, 32)))
    result = activation_maps(model, row, select_targets(find_targets(model), TargetQuery()))
    size = image.shape[1], image.shape[0]
    maps = [np.asarray(Image.fromarray(h.normalised).resize(size, Image.Resampling.BICUBIC)) for h in result.heatmaps]
    for number, (heatmap, values) in enumerate(zip(result.heatmaps, maps, strict=True), start=1):
        figure, axes = plt.subplots(1, 3, figsize=(10.24, 4.08), dpi=100)
        axes[0].imshow(image)
        axes[1].imshow(values, cmap="turbo")
        axes[2].imshow(image)
        axes[2].imshow(values, cmap="turbo", alpha=0.55)
        for axis, title in zip(axes, ("Original", "Heatmap", "Overlay"), strict=True):
            axis.set_title(title)
            axis.axis("off")
        figure.suptitle(heatmap.target.node)
        figure.tight_layout()
        figure.savefig(out / f"{number:03d}.png")
        plt.close(figure)
    best = sorted(range(len(maps)), key=lambda index: -result.heatmaps[index].intensity)[:TOP]
    figure, axes = plt.subplots(3, 4, figsize=(11.96, 12.0), dpi=100)
    for place, index in enumerate(best):
        left, right = axes.flat[2 * place], axes.flat[2 * place + 1]
        left.imshow(maps[index], cmap="turbo")
        left.set_title(result.heatmaps[index].target.node[-30:], fontsize=8)
        right.imshow(image)
        right.imshow(maps[index], cmap="turbo", alpha=0.55)
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(out / "composite.png")


def measure(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def compare() -> None:
    """Time both as whole processes, in turns, so that a busy moment of the machine falls on both."""
    with tempfile.TemporaryDirectory() as folder:
        ours = [sys.executable, "-m", "pgc_cli.main", "heatmap", "--model", str(MODEL), "--image", str(IMAGE)]
        ours += ["--composite-topk", str(TOP), "--output-dir", folder]
        theirs = [sys.executable, __file__, "--plain", folder]
        times = [(measure(ours), measure(theirs)) for _ in range(RUNS)]
    fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(f"26 tensors and a collage: {fast:.2f} s, with matplotlib {slow:.2f} s: {ratio:.1f} times faster (bar: 8)")


def many() -> None:
    """Time the pictures of many images through one session, without the start of the process."""
    from pgc_graph import modelio, sources
    from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
    from pgc_graph.images import preprocess_from_metadata
    from pgc_graph.render.heatmaps import save_heatmaps
    from pgc_graph.studies.heatmap import map_reader

    model = modelio.load(MODEL)
    preprocess = preprocess_from_metadata(model.metadata_props, (None, 3, 32, 32))
    entries = list(sources.image_folder(ROOT / "models" / "crops").read(range(40)))
    panels = 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        read = map_reader(model, select_targets(find_targets(model), TargetQuery()))
        for index in range(MANY):
            pixels = entries[index % len(entries)].load()
            result = read(sources.to_row(pixels, preprocess))
            picture = sources.to_picture(pixels, preprocess)
            panels += len(save_heatmaps(result, picture, Path(folder) / str(index)).paths)
        spent = time.perf_counter() - start
    print(f"{MANY} images, {panels} pictures of three panels: {1000 * spent / panels:.1f} ms each (bar: 15)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        plain(Path(sys.argv[2]))
    else:
        compare()
        many()
