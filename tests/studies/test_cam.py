"""Class-activation maps, judged by the papers' formulas in torch and float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch

from cam_check import INNER, LAST, OPTIONS, RUNTIME, TOLERANCE, assert_maps, crops, maps_of, shipped, targets_of
from pgc_graph import modelio
from pgc_graph.runtime.session import open_session
from pgc_graph.studies.cam import GRAPH_METHODS, METHODS, CamOptions, cam_model, class_activation_maps
from reference import cam_in_torch
from reference.torch_graph import run_in_torch

LOOSER = {("l", "xgradcam"): 3e-4}
"""Of SiLU's positive and negative numbers some channels have a sum near 0, by which this method divides."""


def after(model: ir.Model, tensor: str, images: np.ndarray, pick: Callable[[Any], Any], logit: str) -> Any:
    """The number of the class as a function of one tensor: its node is taken out and the tensor fed, all else computed."""
    proto = modelio.to_proto(model)
    (producer,) = [node for node in proto.graph.node if tensor in node.output]
    proto.graph.node.remove(producer)

    def number(activation: torch.Tensor) -> torch.Tensor:
        return pick(run_in_torch(proto, {"images": images, tensor: activation.numpy()})[logit])

    return number


def expected_maps(
    model: ir.Model, images: np.ndarray, tensor: str, method: str, logit: str, pick: Callable[[Any], Any]
) -> np.ndarray:
    """The maps by the formulas, computed in torch; `pick` takes the class's number out of the logits, `(N)`."""
    proto = modelio.to_proto(model)
    exact = torch.tensor(images.astype(np.float64))

    def number(pixels: torch.Tensor) -> torch.Tensor:
        return pick(_run_with(proto, pixels, logit))

    if method == "integrated-gradients":
        return cam_in_torch.integrated_gradients(exact, torch.zeros_like(exact), number, OPTIONS.steps).numpy()
    if method == "smoothgrad":
        return cam_in_torch.smooth_grad(exact, number, OPTIONS.steps, OPTIONS.noise, OPTIONS.seed).numpy()
    values = run_in_torch(proto, {"images": images})
    activation = values[tensor]
    if method == "eigencam":
        return cam_in_torch.eigen_cam(activation.detach()).numpy()
    if method == "ablationcam":
        return cam_in_torch.ablation_cam(activation.detach(), after(model, tensor, images, pick, logit)).numpy()
    (slope,) = torch.autograd.grad(pick(values[logit]).sum(), activation)
    return cam_in_torch.FORMULAS[method](activation.detach(), slope).numpy()


def _run_with(proto: onnx.ModelProto, pixels: torch.Tensor, logit: str) -> torch.Tensor:
    """Logits of pixels that are part of an autograd graph already: by the chain rule, through the feed."""
    values = run_in_torch(proto, {"images": pixels.detach().numpy()})
    feed = values["images"]
    return _Through.apply(pixels, feed, values[logit])


class _Through(torch.autograd.Function):
    """Carries the gradient by the feed over to the pixels that were fed."""

    @staticmethod
    def forward(ctx: Any, pixels: torch.Tensor, feed: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        ctx.pair = (feed, result)
        return result.detach().clone()

    @staticmethod
    def backward(ctx: Any, *seeds: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        feed, result = ctx.pair
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(result, feed, seeds[0])
        return slope, None, None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variant", ["s", "l"])
def test_maps_of_shipped_models_are_those_of_the_papers(variant: str, method: str) -> None:
    model, images = shipped(variant), crops()
    (logit,) = [str(node.inputs[0].name) for node in model.graph if node.outputs[0].name == "prob_pointing"]
    tensors = ["images"] if method in METHODS[-2:] else [LAST] if method == "ablationcam" else [INNER, LAST]
    targets = [] if tensors == ["images"] else targets_of(model, *tensors)
    results = class_activation_maps(model, images, targets, method=method, options=OPTIONS, runtime=RUNTIME)
    for index, tensor in enumerate(tensors):
        expected = expected_maps(model, images, tensor, method, logit, lambda values: values.reshape(-1))
        assert_maps(maps_of(results, index), expected, LOOSER.get((variant, method), TOLERANCE))
    assert [result.class_label for result in results] == ["" if method == "eigencam" else "pointing"] * 3


@pytest.mark.parametrize("target", ["argmax", "7"])
@pytest.mark.parametrize("method", METHODS)
def test_maps_of_ten_classes(corpus_model: Callable[[str], Path], method: str, target: str) -> None:
    model = modelio.load(corpus_model("resnet20_cifar10"))
    (source,), (output,) = model.graph.inputs, model.graph.outputs
    tensor = [str(node.outputs[0].name) for node in model.graph if node.op_type == "Relu"][-1]
    source.name = "images"  # as the reference knows them
    # Not any images: where a ReLU's input is within rounding of 0, float32 and float64 take different sides of a jump.
    images = np.random.default_rng(2).normal(size=(2, 3, 32, 32)).astype(np.float32)
    logits = run_in_torch(modelio.to_proto(model), {"images": images})[str(output.name)]
    classes = logits.argmax(1) if target == "argmax" else torch.tensor([7, 7])
    results = class_activation_maps(
        model, images, targets_of(model, tensor), method=method, target=target, options=OPTIONS, runtime=RUNTIME
    )
    expected = expected_maps(
        model, images, tensor, method, str(output.name), lambda values: values[torch.arange(len(values)), classes]
    )
    assert_maps(maps_of(results), expected)
    assert [result.class_index for result in results] == [None if method == "eigencam" else int(c) for c in classes]


@pytest.mark.parametrize("method", METHODS)
def test_a_map_depends_on_its_own_image_alone_and_comes_out_the_same_again(method: str) -> None:
    model, images = shipped("s"), crops()
    targets = targets_of(model, LAST)

    def draw(rows: np.ndarray, batch_size: int = 16) -> np.ndarray:
        options = CamOptions(steps=5, batch_size=batch_size)
        return maps_of(class_activation_maps(model, rows, targets, method=method, options=options, runtime=RUNTIME))

    together = draw(images)
    np.testing.assert_array_equal(draw(images), together)
    span = np.ptp(together)
    np.testing.assert_allclose(np.concatenate([draw(images[i : i + 1]) for i in range(3)]), together, atol=1e-5 * span)
    np.testing.assert_allclose(draw(images, batch_size=2), together, atol=1e-5 * span)


def test_integrated_gradients_add_up_to_what_the_logit_gains() -> None:
    model, images = shipped("s"), crops()
    results = class_activation_maps(
        model, images, method="integrated-gradients", options=CamOptions(steps=200), runtime=RUNTIME
    )
    (black,) = class_activation_maps(model, np.zeros_like(images[:1]), method="smoothgrad", runtime=RUNTIME)
    for result in results:
        gained = result.explained - black.explained
        assert result.heatmaps[0].values.sum() == pytest.approx(gained, abs=0.01 * abs(gained))


def test_opposite_class_of_a_single_score_turns_the_logit() -> None:
    model, images = shipped("s"), crops()
    targets = targets_of(model, LAST)
    plain = class_activation_maps(model, images, targets, target="pointing", runtime=RUNTIME)
    turned = class_activation_maps(model, images, targets, target="not_pointing", runtime=RUNTIME)
    assert [result.class_index for result in turned] == [0, 0, 0]
    for one, other in zip(plain, turned, strict=True):
        assert other.explained == pytest.approx(-one.explained)
        # Of gradcam's sum before ReLU one map keeps the positive part, the other the negative one.
        assert not np.logical_and(one.heatmaps[0].values > 0, other.heatmaps[0].values > 0).any()


@pytest.mark.parametrize("method", GRAPH_METHODS)
def test_the_model_itself_maps_images_to_score_and_maps(method: str) -> None:
    model, images = shipped("s"), crops()
    before = modelio.to_bytes(model)
    cam = cam_model(model, [LAST, INNER], method=method)
    assert modelio.to_bytes(model) == before
    modelio.check(cam.model)
    assert [str(value.name) for value in cam.model.graph.inputs] == ["images"]
    session = open_session(cam.model, RUNTIME)
    assert session.output_names == ("prob_pointing", f"{LAST}_cam", f"{INNER}_cam")
    results = class_activation_maps(model, images, targets_of(model, LAST, INNER), method=method, runtime=RUNTIME)
    score, last, inner = session.run({"images": images})
    np.testing.assert_allclose(score, [result.scores[0] for result in results], atol=1e-6)
    np.testing.assert_allclose(last, maps_of(results), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(inner, maps_of(results, 1), rtol=1e-4, atol=1e-6)
