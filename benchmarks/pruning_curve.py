"""Claim: channels ranked by their gradients can be cut out of pgc_l without training, down to about half of its MACs.

Prunes a model step by step. Before each step every channel of the Sigmoid→Mul tensors is scored anew on training crops: the
mean over crops of |gradient of the logit x activation, summed over the channel| (Taylor, first order; Molchanov et al.,
"Importance Estimation for Neural Network Pruning", CVPR 2019). Prints F1 on photographs kept aside and MACs, those of other
models beside, and draws both. Needs labelled photographs with a list of splits, as described in docs/training.md.

    python benchmarks/pruning_curve.py --splits data/splits.csv --drawn drawn --chart docs/images/pruning.png
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.interface import image_input, score_output
from pgc_graph.analysis.logit import logit_tensor
from pgc_graph.analysis.macs import count_node_macs
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.images import find_images, load_image, to_tensor
from pgc_graph.passes.prune import prune_channels
from pgc_graph.passes.prune.choose import choose_channels
from pgc_graph.passes.taps import add_taps
from pgc_graph.preprocess import Preprocess, preprocess_from_metadata
from pgc_graph.render.curves import Curve, save_curves
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.42, 0.35, 0.3, 0.25, 0.2)
PER_CLASS, DRAWN, BATCH = 256, 512, 64
KEEP_CHANNELS, MULTIPLE = 0.05, 4


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops `(N, C, H, W)` float32 and whether each is pointing."""

    images: NDArray[np.float32]
    pointing: NDArray[np.bool_]


def main() -> None:
    options = parse()
    model = modelio.load(options.model)
    sets = {name: crops_of(options.splits, name, model) for name in ("train", "val", "cross")}
    sample = scoring_sample(sets["train"], options.drawn, model)
    total = macs(model)
    print(f"{'model':24} {'MACs':>12} {'F1 val':>8} {'F1 cross':>9}")
    family = [report(Path(name).stem, modelio.load(name), sets) for name in options.family]
    pruned = [report(Path(options.model).stem, model, sets)]
    for share in SHARES:
        channels = choose_channels(
            model, share * total / macs(model), scores(model, sample), keep_channels=KEEP_CHANNELS, multiple_of=MULTIPLE
        )
        model = prune_channels(model, channels).model
        pruned.append(report(f"pruned to {share:.0%}", model, sets))
    if options.chart:
        draw(options.chart, pruned, family)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/pgc_l_32x32.onnx")
    parser.add_argument("--family", nargs="*", default=[f"models/pgc_{name}_32x32.onnx" for name in "scm"])
    parser.add_argument("--splits", type=Path, required=True, help="CSV of image_path, label, split beside the crops")
    parser.add_argument("--drawn", type=Path, help="a folder of drawn crops that are scored as well")
    parser.add_argument("--chart", type=Path, help="a PNG file for the curve")
    return parser.parse_args()


def crops_of(splits: Path, split: str, model: ir.Model) -> Crops:
    with splits.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return read([splits.parent / row["image_path"] for row in rows], [row["label"] for row in rows], model)


def read(paths: Sequence[Path], labels: Sequence[str], model: ir.Model) -> Crops:
    preprocess: Preprocess = preprocess_from_metadata(model.metadata_props, image_input(model).shape)
    images = np.stack([to_tensor(load_image(path), preprocess) for path in paths])
    return Crops(images, np.array([label == "pointing" for label in labels]))


def scoring_sample(train: Crops, drawn: Path | None, model: ir.Model) -> NDArray[np.float32]:
    """As many training crops of each class, and drawn ones, which are harder and leave fewer channels without effect."""
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(train.pointing == kind))[:PER_CLASS] for kind in (True, False)]
    parts = [train.images[np.concatenate(chosen)]]
    if drawn is not None:
        paths = find_images(drawn)
        picked = [paths[index] for index in rng.permutation(len(paths))[:DRAWN]]
        parts.append(read(picked, [path.parent.name for path in picked], model).images)
    return np.concatenate(parts)


def scores(model: ir.Model, images: NDArray[np.float32]) -> dict[str, dict[int, float]]:
    tensors = [target.tensor for target in select_targets(find_targets(model), TargetQuery())]
    logit = logit_tensor(score_output(model))
    if logit is None:
        raise SystemExit("the model has no logit")
    gradients = gradient_graph(model, str(logit.name), tensors)
    session = open_session(add_taps(gradients.model, tensors).model, RuntimeOptions("cpu"))
    names = {gradient.tensor: gradient.output for gradient in gradients.gradients}
    sums = {tensor: np.zeros(0) for tensor in tensors}
    for start in range(0, len(images), BATCH):
        found = run(session, images[start : start + BATCH])
        for tensor in tensors:
            product = found[tensor] * found[names[tensor]]
            effect = np.abs(product.reshape(*product.shape[:2], -1).sum(axis=2)).sum(axis=0)
            sums[tensor] = effect + (sums[tensor] if sums[tensor].size else 0)
    return {tensor: dict(enumerate((total / len(images)).tolist())) for tensor, total in sums.items()}


def run(session: Session, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    return dict(zip(session.output_names, session.run({session.input_names[0]: images}), strict=True))


def macs(model: ir.Model) -> int:
    return int(sum(count_node_macs(model).values()))


def report(name: str, model: ir.Model, sets: dict[str, Crops]) -> tuple[int, float, float]:
    session = open_session(model, RuntimeOptions("cpu"))
    found = tuple(f1(session, sets[split]) for split in ("val", "cross"))
    print(f"{name:24} {macs(model):12,} {found[0]:8.4f} {found[1]:9.4f}", flush=True)
    return macs(model), found[0], found[1]


def f1(session: Session, crops: Crops) -> float:
    pieces = [
        session.run({session.input_names[0]: crops.images[i : i + BATCH]}) for i in range(0, len(crops.images), BATCH)
    ]
    named = np.concatenate([np.ravel(piece[-1]) for piece in pieces]) >= 0.5
    right = int((named & crops.pointing).sum())
    return 2 * right / max(1, int(named.sum() + crops.pointing.sum()))


def draw(path: Path, pruned: Sequence[tuple[int, float, float]], family: Sequence[tuple[int, float, float]]) -> None:
    curves = []
    for title, points in (("l pruned", pruned), ("s, c, m", family)):
        ordered = sorted(points)
        curves.append(Curve(f"{title}: val", tuple((count / 1e6, value) for count, value, _ in ordered)))
        curves.append(Curve(f"{title}: cross", tuple((count / 1e6, value) for count, _, value in ordered)))
    save_curves(
        curves,
        path,
        title="F1 against MACs: l pruned without training, and the family",
        subtitle="val: other people of the training sources; cross: a source never trained on",
        axis="million MACs an image",
    )


if __name__ == "__main__":
    main()
