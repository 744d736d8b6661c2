"""Class-activation maps of other layouts, types and batches, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch

from cam_check import LAST, RUNTIME, assert_maps, crops, maps_of, shipped, targets_of
from pgc_graph import modelio
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.passes.batch import set_batch
from pgc_graph.studies.cam import METHODS, CamOptions, class_activation_maps
from reference import cam_in_torch
from reference.torch_graph import run_in_torch

LAYOUTS = """
<ir_version: 8, opset_import: ["" : 17]>
last (float[N, 6, 4, 3] images) => (float[N, 2] scores)
<float[3, 2] weight = {1.0, -0.5, 0.3, 1.0, 0.5, 2.0}, int64[3] tokens_shape = {0, 24, 3}>
{
    bright = Sigmoid(images)
    places = Mul(images, bright)
    tokens = Reshape(places, tokens_shape)
    mixed = MatMul(tokens, weight)
    wide = Erf(mixed)
    scores = ReduceMean <axes = [1], keepdims = 0> (wide)
    unread = Neg(places)
    whole = Cast <to = 7> (places)
}
"""


def layouts() -> ir.Model:
    return modelio.load(onnx.parser.parse_model(LAYOUTS))


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "xgradcam"])
def test_channels_last_and_tokens(method: str) -> None:
    model, images = layouts(), np.random.default_rng(2).normal(size=(2, 6, 4, 3)).astype(np.float32)
    results = class_activation_maps(
        model, images, targets_of(model, "places", "wide"), method=method, target="1", runtime=RUNTIME
    )
    values = run_in_torch(_runnable(model), {"images": images})
    for index, tensor in enumerate(("places", "wide")):
        (slope,) = torch.autograd.grad(values["scores"][:, 1].sum(), values[tensor], retain_graph=True)
        first = (v.detach().movedim(-1, 1) for v in (values[tensor], slope))
        expected = cam_in_torch.FORMULAS[method](*first).numpy()
        assert_maps(maps_of(results, index), expected.reshape(2, *((6, 4) if index == 0 else (1, 24))))
    assert [heatmap.spatial for heatmap in results[0].heatmaps] == [True, False]


def _runnable(model: ir.Model) -> onnx.ModelProto:
    """Without what the reference does not know and nothing reads."""
    proto = modelio.to_proto(model)
    kept = [node for node in proto.graph.node if node.op_type not in ("Neg", "Cast")]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return proto


def test_tensors_without_a_map_are_named_with_reasons() -> None:
    model, images = layouts(), np.ones((1, 6, 4, 3), np.float32)
    tensors = ("places", "scores", "unread", "whole")
    (result,) = class_activation_maps(model, images, targets_of(model, *tensors), runtime=RUNTIME)
    assert [heatmap.target.tensor for heatmap in result.heatmaps] == ["places"]
    reasons = {item.target.tensor: item.reason for item in result.skipped}
    assert "needs channels and places" in reasons["scores"]
    assert "no influence" in reasons["unread"]
    assert "not floats" in reasons["whole"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        pytest.param({"method": "camgrad"}, OptionError, "unknown method 'camgrad'", id="method"),
        pytest.param({"target": "fist"}, OptionError, "no class 'fist'", id="class"),
        pytest.param({"target": "2"}, OptionError, "no class '2'|does not exist", id="index"),
        pytest.param({"targets": []}, SelectionError, "no tensor to draw", id="no-tensor"),
        pytest.param({"targets": [Target("ghost", "ghost", "Mul")]}, SelectionError, "no tensor 'ghost'", id="ghost"),
        pytest.param({"images": np.ones((3, 32, 32), np.float32)}, OptionError, "no batch", id="one-image"),
        pytest.param({"tensor": "scores"}, UnsupportedError, "none of the 1 tensors has a map", id="no-places"),
        pytest.param({"tensor": "unread"}, UnsupportedError, "no influence", id="no-influence"),
    ],
)
def test_impossible_requests(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    model = layouts()
    tensor = changes.pop("tensor", "places")
    request = {"images": np.ones((1, 6, 4, 3), np.float32), "targets": targets_of(model, tensor), **changes}
    with pytest.raises(error, match=message):
        class_activation_maps(model, request.pop("images"), request.pop("targets"), runtime=RUNTIME, **request)


@pytest.mark.parametrize("values", [{"steps": 0}, {"noise": -0.1}, {"noise": float("nan")}, {"seed": -1}], ids=str)
def test_impossible_options(values: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="expected"):
        CamOptions(**values)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_a_fixed_batch_gives_the_same_maps(method: str) -> None:
    model, images = shipped("s"), crops()
    fixed = set_batch(model, 2).model
    options = CamOptions(steps=5)
    results = [
        maps_of(class_activation_maps(m, images, targets_of(m, LAST), method=method, options=options, runtime=RUNTIME))
        for m in (model, fixed)
    ]
    np.testing.assert_allclose(results[1], results[0], atol=1e-5 * np.ptp(results[0]))


HALF = """
<ir_version: 8, opset_import: ["" : 17]>
half (float16[N, 3, 6, 4] images) => (float16[N, 3] scores)
<float[3, 3, 1, 1] weight = {1.0, -0.5, 0.3, 1.0, 0.5, 2.0, -0.7, 0.1, 0.4}>
{
    narrow = Cast <to = 10> (weight)
    mixed = Conv(images, narrow)
    gate = Sigmoid(mixed)
    places = Mul(mixed, gate)
    scores = ReduceMean <axes = [2, 3], keepdims = 0> (places)
}
"""


@pytest.mark.parametrize("method", METHODS)
def test_float16(method: str) -> None:
    single = HALF.replace("float16", "float").replace("to = 10", "to = 1")
    images = np.random.default_rng(2).normal(size=(2, 3, 6, 4)).astype(np.float32)
    drawn = []
    for text in (single, HALF):
        model = modelio.load(onnx.parser.parse_model(text))
        results = class_activation_maps(model, images, targets_of(model, "places"), method=method, runtime=RUNTIME)
        drawn.append(maps_of(results))
    assert drawn[1].dtype == np.float32
    np.testing.assert_allclose(drawn[1], drawn[0], atol=0.02 * np.ptp(drawn[0]))


def test_pixels_have_no_gradient() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    pixels (uint8[N, 3, 6, 4] images) => (float[N, 3] scores)
    { floats = Cast <to = 1> (images)  scores = ReduceMean <axes = [2, 3], keepdims = 0> (floats) }"""
    model, images = modelio.load(onnx.parser.parse_model(text)), np.ones((1, 3, 6, 4), np.float32)
    with pytest.raises(UnsupportedError, match="holds uint8"):
        class_activation_maps(model, images, method="smoothgrad", runtime=RUNTIME)
    (result,) = class_activation_maps(model, images, targets_of(model, "floats"), method="layercam", runtime=RUNTIME)
    np.testing.assert_allclose(result.heatmaps[0].values, 1 / 24)


def test_a_map_of_zeros_is_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    model, images = layouts(), np.zeros((1, 6, 4, 3), np.float32)
    class_activation_maps(model, images, targets_of(model, "places"), runtime=RUNTIME)
    assert "nothing in tensor places speaks for the class" in caplog.text
