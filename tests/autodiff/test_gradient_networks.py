"""Gradients of whole networks, judged by torch's autograd in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from calibrated import smooth_images
from conftest import CORPUS_NAMES
from pgc_graph import modelio
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.build.pgc import build_pgc
from pgc_graph.build.spec import BACKBONES, COLOURS, HEADS, ModelSpec
from pgc_graph.build.weights import init_weights
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.simplify import simplify
from pgc_graph.runtime.session import RuntimeOptions, open_session
from reference.torch_graph import run_in_torch

LARGE = ("sqnxt23_w1", "dla46c", "efficientnet_b0")


def slow(name: str) -> Any:
    """Leave a case out of the quick run."""
    return pytest.param(name, marks=pytest.mark.slow)


SMALL = {"base_channels": 8, "num_blocks": 3, "expansion": 2}
SPECS = {
    **{
        f"{backbone}-{head}": ModelSpec(backbone=backbone, head=head, **SMALL)
        for backbone in BACKBONES
        for head in HEADS
        if head != "auto"
    },
    **{colour: ModelSpec(colour=colour) for colour in COLOURS if colour != "rgb"},
}


def judge(model: ir.Model, output: str, images: np.ndarray, *, tolerance: float, stride: int = 1) -> None:
    """Compare the gradients by the input and by every `stride`-th inner tensor with torch's, largest error relative.

    Args:
        model: The network.
        output: The tensor to differentiate, with random seeds.
        images: What to feed to its input.
        tolerance: Allowed error of each gradient, relative to its own largest element.
        stride: 1 for every tensor that a node with a gradient produces.
    """
    (source,) = [value for value in model.graph.inputs if not value.is_initializer()]
    values = run_in_torch(modelio.to_proto(model), {str(source.name): images})
    seed = np.random.default_rng(0).normal(size=tuple(values[output].shape)).astype(np.float32)
    names = [str(v.name) for node in model.graph for v in node.outputs if v.name and values[v.name].requires_grad]
    wrt = [str(source.name), *names[: names.index(output) : stride]]
    weighed = (values[output] * torch.tensor(seed.astype(np.float64))).sum()
    expected = torch.autograd.grad(weighed, [values[name] for name in wrt], allow_unused=True)
    gradient = gradient_graph(model, output, wrt, seeded=True)
    modelio.check(gradient.model)
    session = open_session(gradient.model, RuntimeOptions("cpu"))
    results = session.run({str(source.name): images, f"{output}_seed": seed}, [g.output for g in gradient.gradients])
    exact = [np.zeros(r.shape) if e is None else e.numpy() for r, e in zip(results, expected, strict=True)]
    # A gradient that all but vanishes, as in the attention of an untrained transformer, is a difference of larger ones.
    floor = 1e-4 * max(np.abs(array).max() for array in exact)
    for name, ours, theirs in zip(wrt, results, exact, strict=True):
        error, scale = np.abs(ours - theirs).max(), max(np.abs(theirs).max(), floor)
        assert error <= tolerance * scale, (name, error, scale)


def logit_of(model: ir.Model) -> str:
    """The tensor that the last Sigmoid reads, else the output."""
    producer = model.graph.outputs[0].producer()
    is_sigmoid = producer is not None and producer.op_type == "Sigmoid"
    value = producer.inputs[0] if is_sigmoid and producer is not None else model.graph.outputs[0]
    return str(value.name if value is not None else "")


@pytest.mark.parametrize("folded", [False, True], ids=["as built", "folded"])
@pytest.mark.parametrize("variant", ["s", slow("c"), slow("m"), "l"])
def test_pgc(pgc_model: Callable[[str], ir.Model], variant: str, folded: bool) -> None:
    model = pgc_model(variant)
    model = fold_batchnorm(simplify(model).model).model if folded else model
    judge(model, logit_of(model), smooth_images(3), tolerance=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_other_pgc_networks(name: str) -> None:
    model = modelio.load(build_pgc(SPECS[name], init_weights(SPECS[name], seed=1)))
    judge(model, logit_of(model), smooth_images(2), tolerance=1e-3)


@pytest.mark.parametrize("name", [slow(name) if name in LARGE else name for name in CORPUS_NAMES])
def test_corpus(corpus_model: Callable[[str], Path], name: str) -> None:
    model = modelio.load(corpus_model(name))
    (source,) = model.graph.inputs
    shape = [dim if isinstance(dim, int) else 2 for dim in source.shape or ()]
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    judge(model, str(model.graph.outputs[0].name), images, tolerance=1e-3, stride=7)


def test_by_the_weights_of_every_layer(pgc_model: Callable[[str], ir.Model]) -> None:
    model = pgc_model("s")
    proto, images, output = modelio.to_proto(model), smooth_images(2), logit_of(model)
    floats = [t.name for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in floats}
    values = run_in_torch(proto, {"images": images, **weights})
    expected = torch.autograd.grad(values[output].sum(), [values[name] for name in floats])
    gradient = gradient_graph(model, output, floats)
    results: list[Any] = open_session(gradient.model, RuntimeOptions("cpu")).run({"images": images})
    for name, ours, theirs in zip(floats, results[1:], expected, strict=True):
        assert np.abs(ours - theirs.numpy()).max() <= 1e-4 * max(float(theirs.abs().max()), 1e-3), name
