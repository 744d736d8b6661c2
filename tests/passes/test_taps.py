from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from pgc_graph import modelio
from pgc_graph.errors import SelectionError, UnsupportedError
from pgc_graph.passes.taps import add_taps

CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
chain (float[batch, 3] x) => (float[batch, 3] y)
<float[3] weight = {1.0, -2.0, 3.0}>
{
    scaled = Mul(x, weight)
    gate = Sigmoid(scaled)
    silu = Mul(scaled, gate)
    left = Relu(silu)
    right = Neg(silu)
    y = Add(left, right)
}
"""

CAPTURE = """
<ir_version: 8, opset_import: ["" : 17]>
capture (float[batch, 3] x, bool flag) => (float[batch, 3] y)
{
    shared = Tanh(x)
    [choice] y = If (flag) <
        then_branch = then_graph () => (float[batch, 3] a) { inner = Exp(shared) a = Neg(inner) },
        else_branch = else_graph () => (float[batch, 3] b) { b = Abs(shared) }
    >
}
"""

FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
caller (float[batch, 3] x) => (float[batch, 3] y)
{
    called = local.twice(x)
    y = Neg(called)
}
<domain: "local", opset_import: ["" : 17]>
twice (value) => (result)
{
    inside = Add(value, value)
    result = Identity(inside)
}
"""

SEQUENCE = """
<ir_version: 8, opset_import: ["" : 17]>
sequence (float[4, 3] x) => (float[4, 3] y)
{
    parts = SplitToSequence <axis = 0> (x)
    y = ConcatFromSequence <axis = 0> (parts)
}
"""

UNKNOWN = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
unknown (float[batch, 3] x) => (float[batch, 3] y)
{
    quick = com.microsoft.QuickGelu <alpha = 1.0> (x)
    y = Neg(quick)
}
"""


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def run_ort(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def feeds_for(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    feeds = {"x": np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)}
    return feeds | ({"flag": np.array(True)} if any(i.name == "flag" for i in model.graph.input) else {})


def reference(model: onnx.ModelProto, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Ask onnx's own evaluator for the tensors, by truncating the model's outputs to them by hand."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    return ReferenceEvaluator(copy).run(None, feeds)


@pytest.mark.parametrize(
    ("text", "tensors"),
    [
        pytest.param(CHAIN, ["silu"], id="several-consumers"),
        pytest.param(CHAIN, ["right", "gate", "scaled"], id="several-out-of-graph-order"),
        pytest.param(CHAIN, ["x", "weight"], id="input-and-initializer"),
        pytest.param(CAPTURE, ["shared"], id="captured-by-if"),
        pytest.param(FUNCTION, ["called"], id="output-of-a-function-call"),
    ],
)
def test_tapped_tensor_has_the_value_that_the_reference_computes(text: str, tensors: list[str]) -> None:
    proto = parse(text)
    tapped = add_taps(modelio.load(proto), tensors).model
    modelio.check(tapped)
    result = modelio.to_proto(tapped)
    assert [o.name for o in result.graph.output] == ["y", *tensors]
    feeds = feeds_for(proto)
    got = run_ort(result, feeds)
    for name, expected in zip(["y", *tensors], reference(proto, ["y", *tensors], feeds), strict=True):
        np.testing.assert_allclose(got[name], expected, rtol=1e-6, atol=1e-6)


def test_input_model_and_names_stay_as_they_are() -> None:
    model = modelio.load(parse(CHAIN))
    before = modelio.to_bytes(model)
    tapped = modelio.to_proto(add_taps(model, ["silu", "left"]).model)
    assert modelio.to_bytes(model) == before
    original = parse(CHAIN)
    assert [n.output[0] for n in tapped.graph.node] == [n.output[0] for n in original.graph.node]
    assert len(tapped.graph.node) == len(original.graph.node)


def test_metadata_and_doc_strings_survive_inference_of_missing_shapes() -> None:
    proto = parse(CHAIN)
    proto.doc_string = "about"
    onnx.helper.set_model_props(proto, {"pgc.labels": "a,b"})
    proto.graph.node[1].doc_string = "the gate"
    assert not proto.graph.value_info
    tapped = modelio.to_proto(add_taps(modelio.load(proto), ["silu"]).model)
    assert tapped.doc_string == "about"
    assert {p.key: p.value for p in tapped.metadata_props} == {"pgc.labels": "a,b"}
    assert tapped.graph.node[1].doc_string == "the gate"
    dims = tapped.graph.output[1].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3]


def test_repeated_tensors_and_outputs_are_not_doubled() -> None:
    rewrite = add_taps(modelio.load(parse(CHAIN)), ["silu", "y", "silu"])
    assert [v.name for v in rewrite.model.graph.outputs] == ["y", "silu"]
    assert [change.subject for change in rewrite.changes] == ["silu"]
    assert [(skip.subject, skip.reason) for skip in rewrite.skipped] == [("y", "is a graph output already")]


def test_tapping_twice_changes_nothing_more() -> None:
    once = add_taps(modelio.load(parse(CHAIN)), ["silu"]).model
    assert modelio.to_bytes(add_taps(once, ["silu"]).model) == modelio.to_bytes(once)


def test_sequence_is_skipped_with_a_reason() -> None:
    rewrite = add_taps(modelio.load(onnx.shape_inference.infer_shapes(parse(SEQUENCE))), ["parts"])
    assert [v.name for v in rewrite.model.graph.outputs] == ["y"]
    assert "not a plain tensor" in rewrite.skipped[0].reason


@pytest.mark.parametrize(
    ("text", "tensor", "message"),
    [
        pytest.param(CHAIN, "nowhere", "the model has no tensor 'nowhere'", id="unknown"),
        pytest.param(CAPTURE, "inner", "inside a subgraph of node 'choice'", id="subgraph"),
        pytest.param(FUNCTION, "inside", "inside function 'twice'", id="function"),
    ],
)
def test_tensor_that_cannot_be_tapped_is_named(text: str, tensor: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        add_taps(modelio.load(parse(text)), [tensor])


def test_tensor_of_unknown_type_is_refused_unless_only_onnxruntime_sees_it() -> None:
    proto = parse(UNKNOWN)
    model = modelio.load(proto)
    with pytest.raises(UnsupportedError, match="type or shape of tensor 'quick'"):
        add_taps(model, ["quick"])
    tapped = modelio.to_proto(add_taps(model, ["quick"], require_types=False).model)
    feeds = feeds_for(proto)
    got = run_ort(tapped, feeds)
    np.testing.assert_allclose(got["quick"], feeds["x"] / (1 + np.exp(-feeds["x"])), rtol=1e-6, atol=1e-6)
