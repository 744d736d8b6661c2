from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from pgc_graph import modelio
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.heatmap import activation_maps

RUNTIME = RuntimeOptions(provider="cpu", threads=1)
NUMPY = {"mean": np.mean, "max": np.max, "sum": np.sum}

SMALL = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 3, 6, 4] images) => (float[N, 2] scores)
{
    gate = Sigmoid(images)
    silu = Mul(images, gate)
    pooled = ReduceMean <axes = [2, 3], keepdims = 0> (silu)
    shape = Shape(pooled)
    tokens = Flatten <axis = 2> (images)
    wide = Unsqueeze(pooled, one)
    scores = Slice(pooled, zero, two, one)
}
"""

CHANNELS_LAST = """
<ir_version: 8, opset_import: ["" : 17]>
last (float[N, 6, 4, 3] images) => (float[N, 3] scores)
<float[3, 3, 1, 1] weight = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 1.0}>
{
    bright = Sigmoid(images)
    before = Mul(images, bright)
    first = Transpose <perm = [0, 3, 1, 2]> (before)
    mixed = Conv(first, weight)
    inside = Relu(mixed)
    back = Transpose <perm = [0, 2, 3, 1]> (inside)
    after = Neg(back)
    scores = ReduceMean <axes = [1, 2], keepdims = 0> (after)
}
"""


def small() -> ir.Model:
    proto = onnx.parser.parse_model(SMALL)
    for name, number in (("zero", 0), ("one", 1), ("two", 2)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([number], np.int64), name))
    return modelio.load(proto)


def targets_of(model: ir.Model, *tensors: str) -> tuple[Target, ...]:
    by_name = {target.tensor: target for target in find_targets(model)}
    return tuple(by_name[name] for name in tensors)


def evaluate(model: ir.Model, row: np.ndarray, *names: str) -> list[np.ndarray]:
    """The tensors as onnx's reference evaluator computes them, batch axis removed."""
    proto = modelio.to_proto(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    return [array[0] for array in ReferenceEvaluator(proto).run(None, {"images": row[np.newaxis]})]


@pytest.fixture
def row() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(3, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("reduce", ["mean", "max", "sum"])
def test_map_is_the_reduction_over_channels(row: np.ndarray, reduce: str) -> None:
    model = small()
    (heatmap,) = activation_maps(model, row, targets_of(model, "silu"), reduce=reduce, runtime=RUNTIME).heatmaps
    silu = row.astype(np.float64) / (1 + np.exp(-row.astype(np.float64)))
    expected = NUMPY[reduce](silu, axis=0)
    assert heatmap.spatial
    assert heatmap.values.dtype == np.float32
    np.testing.assert_allclose(heatmap.values, expected, rtol=1e-5, atol=1e-6)
    stretched = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(heatmap.normalised, stretched, atol=1e-5)
    assert heatmap.intensity == pytest.approx(stretched.mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        pytest.param("pooled", (1, 3), id="features-become-a-strip"),
        pytest.param("shape", (1, 2), id="rank-one"),
        pytest.param("wide", (1, 3), id="rank-three-as-a-table"),
        pytest.param("tokens", (3, 24), id="no-batch-axis"),
    ],
)
def test_tensor_without_places_is_shown_as_it_is(row: np.ndarray, tensor: str, shape: tuple[int, int]) -> None:
    model = small()
    (heatmap,) = activation_maps(model, row, targets_of(model, tensor), runtime=RUNTIME).heatmaps
    assert not heatmap.spatial
    assert heatmap.values.shape == shape


def test_strip_holds_the_features_themselves(row: np.ndarray) -> None:
    model = small()
    (heatmap,) = activation_maps(model, row, targets_of(model, "pooled"), runtime=RUNTIME).heatmaps
    silu = row / (1 + np.exp(-row))
    np.testing.assert_allclose(heatmap.values[0], silu.mean(axis=(1, 2)), rtol=1e-5)


def test_channels_last_tensors_are_told_by_the_graph_not_by_the_input(row: np.ndarray) -> None:
    model = modelio.load(onnx.parser.parse_model(CHANNELS_LAST))
    image = np.ascontiguousarray(row.transpose(1, 2, 0))
    names = ("before", "inside", "after")
    result = activation_maps(model, image, targets_of(model, *names), runtime=RUNTIME)
    before, inside, after = evaluate(model, image, *names)
    for heatmap, expected in zip(result.heatmaps, (before.mean(2), inside.mean(0), after.mean(2)), strict=True):
        assert heatmap.values.shape == (6, 4)
        np.testing.assert_allclose(heatmap.values, expected, rtol=1e-5, atol=1e-6)


def test_maps_come_in_the_order_asked_for_and_the_score_with_them(row: np.ndarray) -> None:
    model = small()
    model.metadata_props["pgc.labels"] = "left,right"
    result = activation_maps(model, row, targets_of(model, "pooled", "scores", "silu"), runtime=RUNTIME)
    assert [heatmap.target.tensor for heatmap in result.heatmaps] == ["pooled", "scores", "silu"]
    (scores,) = evaluate(model, row, "scores")
    np.testing.assert_allclose(result.scores, scores, rtol=1e-5)
    top = int(np.argmax(scores))
    assert result.score_text == f"scores[{top}]={scores[top]:.4f} ({('left', 'right')[top]})"


@pytest.mark.parametrize(
    ("scores", "labels", "text"),
    [
        pytest.param([0.99871], ("not_pointing", "pointing"), "prob=0.9987", id="one-probability"),
        pytest.param([0.1, 0.7, 0.2], (), "prob[1]=0.7000", id="classes-without-labels"),
        pytest.param([0.1, 0.7, 0.2], ("a", "b"), "prob[1]=0.7000", id="labels-that-do-not-fit"),
    ],
)
def test_score_text(row: np.ndarray, scores: list[float], labels: tuple[str, ...], text: str) -> None:
    model = small()
    result = activation_maps(model, row, targets_of(model, "silu"), runtime=RUNTIME)
    changed = dataclasses.replace(result, score_name="prob", scores=np.float32(scores), labels=labels)
    assert changed.score_text == text


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fixed_batches_and_other_float_types_are_fed_as_the_model_wants(
    row: np.ndarray, batch: int, dtype: Any
) -> None:
    proto = onnx.parser.parse_model(SMALL.replace("float[N, 3, 6, 4]", f"float[{batch}, 3, 6, 4]"))
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    del proto.graph.node[3:], proto.graph.output[:]
    proto.graph.input[0].type.tensor_type.elem_type = element
    proto.graph.output.append(onnx.helper.make_tensor_value_info("pooled", element, [batch, 3]))
    model = modelio.load(proto)
    result = activation_maps(model, row, targets_of(model, "silu"), runtime=RUNTIME)
    silu = row / (1 + np.exp(-row))
    np.testing.assert_allclose(result.heatmaps[0].values, silu.mean(axis=0), atol=2e-3 if dtype is np.float16 else 1e-5)
    assert result.scores.shape == (3,)


def test_constant_map_is_flat_and_values_that_are_not_finite_do_not_spread(
    row: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    model = modelio.load(
        onnx.parser.parse_model(
            SMALL.split("shape = ")[0]
            .replace("(float[N, 2] scores)", "(float[N, 3] pooled)")
            .replace("silu = Mul", "none = Sub(images, images) broken = Div(images, none) silu = Mul")
            + "}"
        )
    )
    row[:, 0, 0] = 1e-30
    flat, broken = activation_maps(
        model, row, targets_of(model, "none", "broken"), reduce="max", runtime=RUNTIME
    ).heatmaps
    assert flat.intensity == 0.0
    assert not flat.normalised.any()
    assert np.isfinite(broken.normalised).all()
    assert np.isfinite(broken.intensity)
    assert "tensor broken holds values that are not finite" in caplog.text


def test_every_sigmoid_mul_tensor_of_a_pgc_model_from_one_pass(pgc_model: Callable[[str], ir.Model]) -> None:
    model = pgc_model("s")
    before = modelio.to_bytes(model)
    targets = select_targets(find_targets(model), TargetQuery())
    image = np.random.default_rng(1).random((3, 32, 32), dtype=np.float32)
    result = activation_maps(model, image, targets, runtime=RUNTIME)
    assert modelio.to_bytes(model) == before
    assert [heatmap.target for heatmap in result.heatmaps] == list(targets)
    chosen = [result.heatmaps[0], result.heatmaps[4], result.heatmaps[-1]]
    arrays = evaluate(model, image, *(heatmap.target.tensor for heatmap in chosen), "prob_pointing")
    for heatmap, array in zip(chosen, arrays, strict=False):
        np.testing.assert_allclose(heatmap.values, array.mean(axis=0), rtol=1e-3, atol=1e-5)
    assert result.score_name == "prob_pointing"
    # The last layer of this model magnifies rounding a thousand times, to give random weights scores that vary.
    assert result.scores[0] == pytest.approx(float(arrays[-1]), abs=5e-3)


def test_tensors_that_hold_no_numbers_are_skipped_with_a_reason(row: np.ndarray) -> None:
    text = SMALL.split("shape = ")[0].replace("(float[N, 2] scores)", "(float[N, 3] pooled)")
    model = modelio.load(onnx.parser.parse_model(text + "parts = SplitToSequence <axis = 1> (images) }"))
    result = activation_maps(model, row, targets_of(model, "silu", "parts"), runtime=RUNTIME)
    assert [heatmap.target.tensor for heatmap in result.heatmaps] == ["silu"]
    assert [(skip.target.tensor, skip.reason) for skip in result.skipped] == [("parts", "is not a plain tensor")]
    with pytest.raises(UnsupportedError, match="none of the 1 tensors has a map: 'parts'"):
        activation_maps(model, row, targets_of(model, "parts"), runtime=RUNTIME)


@pytest.mark.parametrize(
    ("tensors", "reduce", "error", "message"),
    [
        pytest.param(["silu"], "median", OptionError, "unknown reduction 'median'", id="reduction"),
        pytest.param([], "mean", SelectionError, "no tensor to draw", id="no-targets"),
        pytest.param(["ghost"], "mean", SelectionError, "no tensor 'ghost'", id="unknown-tensor"),
    ],
)
def test_impossible_requests(
    row: np.ndarray, tensors: list[str], reduce: str, error: type[Exception], message: str
) -> None:
    targets = [Target(tensor, tensor, "Mul", "silu") for tensor in tensors]
    with pytest.raises(error, match=message):
        activation_maps(small(), row, targets, reduce=reduce, runtime=RUNTIME)
