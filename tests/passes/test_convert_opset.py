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

NEWEST_IN_RUNTIME = 25


def make(text: str, opset: int) -> ir.Model:
    return modelio.load(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}'))


@pytest.mark.parametrize("target", [9, 11, 13, 15, 18, 21, NEWEST_IN_RUNTIME])
@pytest.mark.parametrize("variant", ["s", "l"])
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


@pytest.mark.parametrize(
    ("text", "source", "target", "named"),
    [
        ("(float[2, 3, 4, 5] x) => (float[2, 3, 4, 5] y) { [soft] y = Softmax <axis = 1> (x) }", 13, 12, "soft"),
        ("(float[n, 4] x) => (float[n, 4] y) { [hard] y = HardSwish (x) }", 14, 13, "hard"),
        ("(float[n, 4] x, int64[1] a) => (float[n, d] y) { [sum] y = ReduceSum (x, a) }", 13, 12, "sum"),
    ],
    ids=["softmax changed its meaning", "operator too new", "axes at run time"],
)
def test_what_cannot_be_exact_is_refused_by_name(text: str, source: int, target: int, named: str) -> None:
    with pytest.raises(UnsupportedError, match=named):
        convert_opset(make(text, source), target)


@pytest.mark.parametrize("target", [0, 6, 999])
def test_impossible_opsets_are_refused(target: int) -> None:
    model = make("(float[n] x) => (float[n] y) { y = Relu (x) }", 17)
    with pytest.raises(OptionError, match="out of range"):
        convert_opset(model, target)


def test_attribute_that_matters_stops_a_relabel() -> None:
    text = """(float[n, 2, 9, 9] x) => (float[n, 2, h, w] y) {
        y = MaxPool <kernel_shape = [2, 2], ceil_mode = CEIL> (x) }"""
    used, unused = (make(text.replace("CEIL", value), 11) for value in ("1", "0"))
    assert [v.action for v in plan_conversion(used, 9)] == ["unknown"]
    assert [v.action for v in plan_conversion(unused, 9)] == ["relabel"]
    converted = convert_opset(unused, 9).model
    assert "ceil_mode" not in converted.graph[0].attributes
    assert compare(unused, converted, feeds=list(random_feeds(unused, runs=1)), tolerance=0).passed


def test_ir_version_follows_the_opset() -> None:
    model = make("(float[n] x) => (float[n] y) { y = Relu (x) }", 17)
    assert convert_opset(model, 9).model.ir_version == 4
    assert convert_opset(model, 21).model.ir_version == 10


def test_old_batchnorm_and_gemm_are_relabelled(pgc_model) -> None:  # type: ignore[no-untyped-def]
    actions = {verdict.op_type: verdict.action for verdict in plan_conversion(pgc_model("s"), 9)}
    assert actions["BatchNormalization"] == actions["Gemm"] == actions["Mul"] == "relabel"
    assert np.all([action in ("same", "relabel", "adapter") for action in actions.values()])
