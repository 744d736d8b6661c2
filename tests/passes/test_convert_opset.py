"""convert_opset: exact or refused, judged by onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.passes.opset import convert_opset, plan_conversion
from pgc_graph.runtime.parity import compare, random_feeds

NEWEST_IN_RUNTIME = 26


def make(text: str, opset: int) -> ir.Model:
    return modelio.load(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}'))


@pytest.mark.parametrize("target", range(9, NEWEST_IN_RUNTIME + 1))
@pytest.mark.parametrize("variant", ["s", "c", "m", "l"])
def test_pgc_converts_to_every_opset_with_equal_outputs(pgc_model, variant: str, target: int) -> None:  # type: ignore[no-untyped-def]
    model = pgc_model(variant)
    before = modelio.to_bytes(model)
    converted = convert_opset(model, target).model
    assert modelio.to_bytes(model) == before
    modelio.check(converted)
    assert converted.opset_imports[""] == target
    assert converted.metadata_props == model.metadata_props
    report = compare(model, converted, feeds=list(random_feeds(model, runs=2)), tolerance=1e-5)
    assert report.passed, report


@pytest.mark.parametrize(
    ("op_type", "before", "after"),
    [("ReduceSum", 13, 12), ("ReduceMean", 18, 17), ("ReduceMax", 20, 11), ("Squeeze", 13, 9), ("Unsqueeze", 17, 11)],
)
def test_axes_move_between_attribute_and_input_and_back(op_type: str, before: int, after: int) -> None:
    text = f"""(float[n, 1, 5] x) => (y) {{
        axes = Constant <value = int64[1] {{1}}> () y = {op_type} (x, axes) }}"""
    text = text.replace("(y)", "(float[n, a, b, c] y)" if op_type == "Unsqueeze" else "(y0)").replace(
        "(y0)", "(float y)"
    )
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {before}]> g {text}')
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(proto)
    model = modelio.load(inferred)
    down = convert_opset(model, after).model
    assert [node.op_type for node in down.graph] == [op_type]
    assert list(down.graph[0].attributes.get_ints("axes")) == [1]
    up = convert_opset(down, before).model
    assert len(up.graph[0].inputs) == 2
    for candidate in (down, up):
        modelio.check(candidate)
        assert compare(model, candidate, feeds=list(random_feeds(model, runs=2)), tolerance=0).passed


def test_silu_goes_to_opset_9_bit_exact() -> None:
    model = make("(float[n, 4] x) => (float[n, 4] y) { t = Sigmoid (x) y = Mul (x, t) }", 17)
    converted = convert_opset(model, 9).model
    assert compare(model, converted, feeds=list(random_feeds(model, runs=3)), tolerance=0).passed


IMAGE = "(float[n, 2, 9, 9] x) => (float[n, a, b, c] y) "
REFUSED = {
    "axes at run time": ("(float[n, 4] x, int64[1] a) => (float[n, d] y) { [it] y = ReduceSum (x, a) }", 13, 12),
    "axes that can be overridden": (
        "(float[n, 4] x, int64[1] a) => (float[n, d] y) <int64[1] a = {1}> { [it] y = ReduceSum (x, a) }",
        13,
        12,
    ),
    "operator too new": ("(float[n, n] x) => (float[n, n] y) { [it] y = Trilu (x) }", 14, 13),
    "training Dropout": (
        IMAGE + "<float r = {0.4}, bool t = {1}> { [it] y = Dropout (x, r, t) }",
        13,
        11,
    ),
    "training BatchNormalization": (
        IMAGE + "<float[2] s = {1, 2}> { [it] y, m, v = BatchNormalization <training_mode = 1> (x, s, s, s, s) }",
        15,
        13,
    ),
    "Split of an open dimension": (
        "(float[n, 4] x) => (float[m, 4] y) { [it] y, z = Split <num_outputs = 2> (x) }",
        18,
        17,
    ),
    "Pad that wraps": (
        IMAGE + '<int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}> { [it] y = Pad <mode = "wrap"> (x, p) }',
        19,
        18,
    ),
    "window left over, size open": (
        "(float[n, 2, h, w] x) => (float[n, 2, a, b] y) { [it] y = MaxPool <kernel_shape = [2, 2], ceil_mode = 1> (x) }",
        11,
        9,
    ),
    "dilated pooling": (IMAGE + "{ [it] y = MaxPool <kernel_shape = [2, 2], dilations = [2, 2]> (x) }", 11, 9),
    "smallest first": (IMAGE + "<int64[1] k = {2}> { [it] y, i = TopK <largest = 0> (x, k) }", 11, 10),
    "type too new": ("(int32[n] x) => (int32[n] y) { [it] y = Relu (x) }", 14, 13),
    "integers compared": ("(int64[n] x) => (bool[n] y) { [it] y = Less (x, x) }", 9, 8),
    "statistics per position": (
        "(float[n, 2] x) => (float[n, 2] y) <float[2] s = {1, 2}> "
        "{ [it] y = BatchNormalization <spatial = 0> (x, s, s, s, s) }",
        7,
        9,
    ),
    "scales per channel": (
        "(float[n, 2] x) => (uint8[n, 2] y) <float[2] s = {1, 2}> { [it] y = QuantizeLinear (x, s) }",
        13,
        12,
    ),
    "empty tensor": (
        "(float[0, 3] x) => (float[a, b] y) <int64[2] t = {3, 0}> { [it] y = Reshape <allowzero = 1> (x, t) }",
        14,
        13,
    ),
    "zero anywhere": (
        "(float[m, n] x, int64[2] t) => (float[a, b] y) { [it] y = Reshape <allowzero = 1> (x, t) }",
        14,
        13,
    ),
    "broadcasting maximum": ("(float[n, 3] x, float[3] z) => (float[n, 3] y) { [it] y = Max (x, z) }", 8, 7),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_by_name_with_a_remedy(name: str) -> None:
    text, source, target = REFUSED[name]
    model = make(text, source)
    with pytest.raises(UnsupportedError, match=r"node 'it'.* cannot go from opset"):
        convert_opset(model, target)
    (verdict,) = plan_conversion(model, target)
    assert verdict.action == "refused"
    assert verdict.remedy
    assert verdict.op_type in verdict.detail


@pytest.mark.parametrize("target", [0, 6, 999])
def test_impossible_opsets_are_refused(target: int) -> None:
    model = make("(float[n] x) => (float[n] y) { y = Relu (x) }", 17)
    with pytest.raises(OptionError, match="out of range"):
        convert_opset(model, target)


def test_attribute_at_its_neutral_value_is_dropped() -> None:
    text = IMAGE + "{ y = MaxPool <kernel_shape = [2, 2], ceil_mode = 0, dilations = [1, 1]> (x) }"
    model = make(text, 11)
    assert [v.action for v in plan_conversion(model, 9)] == ["relabel"]
    converted = convert_opset(model, 9).model
    assert set(converted.graph[0].attributes) == {"kernel_shape"}
    assert compare(model, converted, feeds=list(random_feeds(model, runs=1)), tolerance=0).passed


def test_ir_version_follows_the_opset() -> None:
    model = make("(float[n] x) => (float[n] y) { y = Relu (x) }", 17)
    assert convert_opset(model, 9).model.ir_version == 4
    assert convert_opset(model, 21).model.ir_version == 10


def test_old_batchnorm_and_gemm_are_relabelled(pgc_model) -> None:  # type: ignore[no-untyped-def]
    actions = {verdict.op_type: verdict.action for verdict in plan_conversion(pgc_model("s"), 9)}
    assert actions["BatchNormalization"] == actions["Gemm"] == actions["Mul"] == "relabel"
    assert np.all([action in ("same", "relabel", "adapter") for action in actions.values()])
