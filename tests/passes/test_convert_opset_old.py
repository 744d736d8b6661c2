"""Forms of old opsets go up: against onnxruntime, onnx.reference and, where neither has them any more, numpy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from opset_judge import assert_same_function, from_text, operators
from pgc_graph import modelio
from pgc_graph.passes.opset import convert_opset, plan_conversion
from pgc_graph.passes.opset.onnx_converter import RIGHT
from pgc_graph.runtime.session import open_session

NEWEST = 26
IMAGE = "(float[n, 4, 6, 6] x) => (float[n, a, b, c] y) "

# id: (graph, its opset, operators at the newest)
OLD = {
    "Softmax as a matrix": ("{ y = Softmax (x) }", 11, "Shape Flatten Softmax Reshape"),
    "LogSoftmax as a matrix": ("{ y = LogSoftmax <axis = -2> (x) }", 11, "Shape Flatten LogSoftmax Reshape"),
    "Hardmax as a matrix": ("{ y = Hardmax <axis = 0> (x) }", 9, "Shape Flatten Hardmax Reshape"),
    "Softmax on the last": ("{ y = Softmax <axis = 3> (x) }", 9, "Softmax"),
    "Dropout": ("{ y = Dropout <ratio = 0.3> (x) }", 7, "Dropout"),
    "Clip": ("{ y = Clip <max = 1.0> (x) }", 7, "Clip"),
    "Pad": ("{ y = Pad <pads = [0, 0, 1, 1, 0, 0, 0, 2], value = 2.5> (x) }", 7, "Pad"),
    "Slice": ("{ y = Slice <starts = [1], ends = [3], axes = [2]> (x) }", 9, "Slice"),
    "TopK": ("{ y, i = TopK <k = 2, axis = 1> (x) }", 9, "TopK"),
    "Split": ("{ y, z = Split <axis = 1, split = [1, 3]> (x) }", 9, "Split"),
    "Split in equal parts": ("{ y, z = Split <axis = 1> (x) }", 9, "Split"),
    "ReduceMean": ("{ y = ReduceMean <axes = [2, 3]> (x) }", 9, "ReduceMean"),
    "ReduceSum of all": ("{ z = ReduceSum (x) y = Add (x, z) }", 9, "ReduceSum Add"),
}


@pytest.mark.parametrize("target", [13, 18, NEWEST])
@pytest.mark.parametrize("name", OLD)
def test_old_forms_go_up(name: str, target: int) -> None:
    text, opset, newest = OLD[name]
    model = from_text(IMAGE + text, opset)
    converted = convert_opset(model, target).model
    assert_same_function(model, converted, reference=not name.startswith("Hardmax"))
    assert operators(converted) == newest.split()


X, B = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32), np.float32([1, 2, 3, 4, 5])
BEFORE_7 = {
    "Add": (6, {"broadcast": 1}, [X, B], X + B),
    "Sub": (6, {"broadcast": 1}, [X, B], X - B),
    "Mul": (5, {"broadcast": 1, "consumed_inputs": [0, 0]}, [X, B], X * B),
    "Div": (1, {"broadcast": 1, "consumed_inputs": [0, 0]}, [X, B], X / B),
    "Pow": (6, {"broadcast": 1}, [abs(X), B], abs(X) ** B),
    "Gemm": (6, {"broadcast": 1}, [X[0, 0], X[0, 1].T.copy(), B[:4]], X[0, 0] @ X[0, 1].T + B[:4]),
    "Reshape": (4, {"shape": [6, 20]}, [X], X.reshape(6, 20)),
    "Concat": (3, {}, [X, X], np.concatenate([X, X], axis=1)),
    "Relu": (5, {"consumed_inputs": [0]}, [X], np.maximum(X, 0)),
    "PRelu": (6, {}, [X, B[:3]], np.where(X < 0, X * B[:3, None, None], X)),
    "Dropout": (6, {"is_test": 1}, [X], X),
    "BatchNormalization": (
        6,
        {"is_test": 1, "epsilon": 0.0},
        [X, B[:3], B[:3], B[:3], B[:3]],
        (X - B[:3, None, None]) * np.sqrt(B[:3, None, None]) + B[:3, None, None],
    ),
}


@pytest.mark.parametrize("op_type", BEFORE_7)
def test_forms_before_opset_7_agree_with_numpy(op_type: str) -> None:
    opset, attributes, arrays, truth = BEFORE_7[op_type]
    names = "xabcd"[: len(arrays)]
    infos = [onnx.helper.make_tensor_value_info(n, 1, a.shape) for n, a in zip(names, arrays, strict=True)]
    output = onnx.helper.make_tensor_value_info("y", 1, truth.shape)
    node = onnx.helper.make_node(op_type, list(names), ["y"], **attributes)
    graph = onnx.helper.make_graph([node], "old", infos, [output])
    model = modelio.load(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=3)
    )
    for target in (7, 13, 21):
        (result,) = open_session(convert_opset(model, target).model).run(dict(zip(names, arrays, strict=True)))
        np.testing.assert_allclose(result, truth, rtol=1e-5, atol=1e-5)


GRID = "g = Constant <value = float[1, 1, 2, 2] {0.1, -0.3, 0.8, 0.2}> ()"
ROI = "<int64[1] i = {0}> { r = Constant <value = float[1, 4] {0.5, 1.0, 4.0, 5.0}> ()"
BOTH_WAYS = {
    "GridSample": (f"{{ {GRID} y = GridSample (x, g) }}", (16, 19, 20, 22)),
    "RoiAlign": (f"{ROI} y = RoiAlign <output_height = 2> (x, r, i) }}", (10, 15, 16, 21)),
    "quantized by one scale": (
        "<float q = {0.1}, uint8 o = {100}> { u = QuantizeLinear (x, q, o) y = DequantizeLinear (u, q, o) }",
        (10, 12, 13, 21),
    ),
}


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_renamed_modes_and_scales_go_up_and_down(name: str) -> None:
    text, opsets = BOTH_WAYS[name]
    image = "(float[1, 4, 6, 6] x) => (float[a, b, c, d] y) "
    model = from_text(image + text, opsets[0])
    for opset in opsets:
        converted = convert_opset(model, opset).model
        assert_same_function(model, converted, reference=False)
        assert_same_function(model, convert_opset(converted, opsets[0]).model, reference=False)


def test_onnx_converts_only_what_is_tested_here() -> None:
    assert {op_type for op_type, _ in RIGHT} <= set(BEFORE_7)


def test_broadcast_along_a_middle_axis_is_refused() -> None:
    text = "(float[2, 3, 4] x, float[3] b) => (float[2, 3, 4] y) { y = Add <broadcast = 1, axis = 1> (x, b) }"
    assert [verdict.action for verdict in plan_conversion(from_text(text, 6), 7)] == ["refused"]
