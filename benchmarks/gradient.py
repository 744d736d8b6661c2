"""Claims: gradients on the graph are several times faster than onnxsim's, and as fast as torch's forward and backward.

1. PGC s at a fixed batch: the gradients by all its Sigmoid→Mul tensors of the last one of them, against onnxsim's
   `graph_grad`, both run by onnxruntime; theirs as it is and after onnxsim.simplify.
2. PGC l at a batch that stays open: forward and gradients of the logit by its 26 Sigmoid→Mul tensors, against torch's eager
   forward and backward to the same tensors: as trained, with BatchNormalization folded as ours has it, and that in
   channels_last. Needs torch; left out where it is missing.

All contestants of a claim run in this process on the same threads, once a round in an order drawn anew. Printed: the median
of the rounds, its ratio to ours, and the largest |Δ| of all gradients, relative to the largest element of each.

    python benchmarks/gradient.py --rounds 20 --threads 1
    python benchmarks/gradient.py --profile     # where ours spends its time, by operator
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxsim

from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.autodiff.gradient import GradientModel, gradient_graph
from pgc_graph.passes.batch import set_batch
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.extract import extract
from pgc_graph.passes.simplify import simplify
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_graph.runtime.timing import TimingOptions, interleave, time_models

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibrated import calibrated_pgc, smooth_images
from reference.onnxsim_gradient import onnxsim_gradient

if TYPE_CHECKING:
    from torch import nn

Arrays = Sequence[np.ndarray]
Contestants = dict[str, Callable[[], Arrays]]

LOGIT = "/base_model/Squeeze_output_0"


def main() -> None:
    options = parse()
    against_onnxsim(options)
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed: no second claim")
    else:
        against_torch(options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fixed-batch", type=int, nargs="+", default=[1, 8], help="batches of the first claim")
    parser.add_argument("--batch", type=int, default=32, help="batch of the second claim")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def prepared(variant: str) -> ir.Model:
    """A network as `pgc-graph optimize` leaves it."""
    return fold_batchnorm(simplify(calibrated_pgc(variant)).model).model


def tensors(model: ir.Model) -> list[str]:
    return [target.tensor for target in select_targets(find_targets(model), TargetQuery())]


def runner(model: ir.Model | bytes, feeds: dict[str, np.ndarray], outputs: Sequence[str], threads: int) -> Any:
    session = open_session(model, RuntimeOptions("cpu", threads=threads))
    return lambda: session.run(feeds, outputs)


def against_onnxsim(options: argparse.Namespace) -> None:
    whole = prepared("s")
    *wrt, features = tensors(whole)
    for batch in options.fixed_batch:
        model = extract(set_batch(whole, batch).model, outputs=[features]).model
        images, seed = smooth_images(batch), np.random.default_rng(0).normal(size=(batch, 64, 8, 8)).astype(np.float32)
        ours = gradient_graph(model, features, wrt, seeded=True)
        theirs = onnxsim_gradient(modelio.to_proto(model), wrt)
        simpler, _ = onnxsim.simplify(theirs)
        fed = {"images": images, "seed": seed}
        contestants: Contestants = {
            "ours": runner(ours.model, {"images": images, ours.seeds[0][1]: seed}, names(ours), options.threads)
        }
        for name, proto in (("graph_grad", theirs), ("graph_grad, simplified", simpler)):
            outputs = [value.name for value in proto.graph.output[1:]]
            contestants[name] = runner(proto.SerializeToString(), fed, outputs, options.threads)
        print(f"s, batch {batch}, {len(wrt)} tensors, {options.threads} threads")
        report(contestants, options.rounds, node_counts(ours, theirs, simpler))


def names(gradient: GradientModel) -> list[str]:
    return [item.output for item in gradient.gradients]


def node_counts(ours: GradientModel, *others: onnx.ModelProto) -> list[int]:
    return [sum(1 for _ in ours.model.graph), *(len(proto.graph.node) for proto in others)]


def report(contestants: Contestants, rounds: int, nodes: Sequence[int] = ()) -> None:
    """Print what was claimed, for contestants of which the first is ours."""
    expected, *others = [action() for action in contestants.values()]
    gaps = [max(relative_gap(a, b) for a, b in zip(expected, arrays, strict=True)) for arrays in others]
    times = interleave(list(contestants.values()), runs=rounds, warmup=3)
    medians = [float(np.median(runs)) for runs in times]
    for place, (name, median) in enumerate(zip(contestants, medians, strict=True)):
        gap = f", max relative |Δ| {gaps[place - 1]:.1e}" if place else ""
        count = f", {nodes[place]} nodes" if nodes else ""
        print(f"  {name:32s} {median:8.2f} ms = {median / medians[0]:6.2f} x ours{count}{gap}")


def relative_gap(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def against_torch(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(options.threads)
    source = calibrated_pgc("l")
    model = prepared("l")
    gradient = gradient_graph(model, LOGIT, tensors(model))
    images = smooth_images(options.batch)
    contestants: Contestants = {"ours": runner(gradient.model, {"images": images}, names(gradient), options.threads)}
    folded = fold_in_torch(twin(source))
    contestants["torch"] = torch_runner(twin(source), images)
    contestants["torch, BatchNorm folded"] = torch_runner(folded, images)
    last = fold_in_torch(twin(source)).to(memory_format=torch.channels_last)
    contestants["torch, folded, channels_last"] = torch_runner(last, images, channels_last=True)
    print(f"l, batch {options.batch}, {len(gradient.gradients)} tensors, {options.threads} threads")
    report(contestants, options.rounds)
    contestants = {
        "ours, forward alone": runner(model, {"images": images}, ["prob_pointing"], options.threads),
        "torch, folded, forward alone": forward_runner(folded, images),
    }
    report(contestants, options.rounds)
    if options.profile:
        print_profile(gradient.model, options)


def twin(source: ir.Model) -> nn.Module:
    """The same network in torch, in inference mode; nothing but activations gets a gradient."""
    import torch

    from pgc_graph.build.spec import preset
    from pgc_train.model import PGC

    network = PGC(preset("l")).eval().requires_grad_(False)
    arrays = {name: value.const_value for name, value in source.graph.initializers.items()}
    state = {
        name: torch.tensor(arrays[f"base_model.{name}"].numpy())  # type: ignore[union-attr]
        for name in network.state_dict()
        if not name.endswith("num_batches_tracked")
    }
    network.load_state_dict(state, strict=False)
    return network


def fold_in_torch(network: nn.Module) -> nn.Module:
    """Fold each BatchNormalization into the convolution before it."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for place in range(len(layers) - 1):
            if isinstance(layers[place], nn.Conv2d) and isinstance(layers[place + 1], nn.BatchNorm2d):
                layers[place] = fuse_conv_bn_eval(layers[place], layers[place + 1])
                layers[place + 1] = nn.Identity()
    return network.requires_grad_(False)


def torch_runner(network: nn.Module, images: np.ndarray, *, channels_last: bool = False) -> Callable[[], Arrays]:
    import torch
    from torch import nn

    from pgc_train.blocks import SqueezeExcite

    batch = torch.tensor(images)
    batch = batch.contiguous(memory_format=torch.channels_last) if channels_last else batch
    seen: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if not output.requires_grad:
            output.requires_grad_(True)  # the first of them: where the gradients end
        seen.append(output)

    for module in network.modules():
        if isinstance(module, nn.SiLU | SqueezeExcite):
            module.register_forward_hook(keep)

    def run() -> Arrays:
        seen.clear()
        logits = network(batch)
        return [gradient.numpy() for gradient in torch.autograd.grad(logits.sum(), seen)]

    return run


def forward_runner(network: nn.Module, images: np.ndarray) -> Callable[[], Arrays]:
    import torch

    def run() -> Arrays:
        with torch.inference_mode():
            return [torch.sigmoid(network(torch.tensor(images))).numpy()]

    return run


def print_profile(model: ir.Model, options: argparse.Namespace) -> None:
    settings = TimingOptions("cpu", threads=(options.threads,), batch_sizes=(options.batch,), runs=10, profile=True)
    for profile in time_models([("gradient", model)], settings).profiles:
        for item in profile.operators[:15]:
            print(f"  {item.op_type:20s} {item.nodes:4d} nodes {item.milliseconds:8.2f} ms {item.share:6.1%}")


if __name__ == "__main__":
    main()
