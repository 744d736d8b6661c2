"""Constants gathered and moved about before onnxsim: what folds, what stays computed, and that it computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from pgc_graph import modelio
from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.cleanup import clean
from pgc_graph.passes.simplify import simplify

WEIGHTS = """<float[2, 3] w = {1.0, -2.0, 3.0, 4.0, 5.0, 6.5}, int64[2] six = {2, 3}, int64[1] two = {2},
    int64[1] one = {1}, int64[1] axis = {0}, int64 first = {0}, float scalar = {0.5}>"""


def model_of(nodes: str, *, ir_version: int = 8, inputs: str = "float[n, 2, 3] x") -> onnx.ModelProto:
    head = f'<ir_version: {ir_version}, opset_import: ["": 17]> g ({inputs}) => (float[n, a, b] y)'
    return onnx.parser.parse_model(f"{head} {WEIGHTS} {{ {nodes} }}")


def folded(proto: onnx.ModelProto, limit: int = 1_000) -> list[str]:
    """Fold, compare with the reference implementation bit by bit, and return the operators that are left."""
    model = modelio.load(proto)
    clean(model, fold_up_to=limit)
    modelio.check(model)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32)}
    (wanted,) = ReferenceEvaluator(proto).run(None, feeds)
    (got,) = ReferenceEvaluator(modelio.to_proto(model)).run(None, feeds)
    np.testing.assert_array_equal(got, wanted)
    assert clean(model, fold_up_to=limit) == 0
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    "nodes",
    [
        "c = Constant <value = float[3] {1.0, 2.0, 3.0}> () y = Add (x, c)",
        "c = Constant <value_float = 0.5> () y = Add (x, c)",
        "c = Constant <value_floats = [1.0, 2.0, 3.0]> () y = Add (x, c)",
        "e = Expand (scalar, six) y = Add (x, e)",
        "s = Shape (w) e = Expand (scalar, s) y = Add (x, e)",
        "i = Identity (scalar) l = CastLike (i, x) s = Shape (w) e = Expand (l, s) y = Add (x, e)",
        "t = Transpose (w) u = Transpose (t) v = Squeeze (u) r = Reshape (v, six) y = Add (x, r)",
        "s = Shape (w) i = Gather (s, first) u = Unsqueeze (i, axis) f = Cast <to = 1> (u) y = Add (x, f)",
        "c = ConstantOfShape <value = float[1] {2.0}> (six) y = Add (x, c)",
        "s = Slice (w, one, two) c = Concat <axis = 0> (s, s) y = Add (x, c)",
        "f = Flatten <axis = 0> (w) t = Tile (f, six) z = Size (t) v = Cast <to = 1> (z) y = Add (x, v)",
    ],
)
def test_what_only_moves_constants_folds(nodes: str) -> None:
    assert folded(model_of(nodes)) == ["Add"]


@pytest.mark.parametrize(
    ("nodes", "stays"),
    [
        ("e = Exp (scalar) y = Add (x, e)", "Exp"),
        ("c = Cast <to = 7> (w) f = Cast <to = 1> (c) y = Add (x, f)", "Cast"),
        ("s = Shape (x) f = Cast <to = 1> (s) y = Add (x, f)", "Shape"),
    ],
    ids=["arithmetic", "float to integer", "the shape of what is fed"],
)
def test_what_rounds_or_is_fed_stays_computed(nodes: str, stays: str) -> None:
    assert stays in folded(model_of(nodes))


@pytest.mark.parametrize("limit", [23, 24])
def test_what_exceeds_the_limit_stays_computed(limit: int) -> None:
    assert ("Expand" in folded(model_of("e = Expand (scalar, six) y = Add (x, e)"), limit)) == (limit < 6 * 4)


def test_what_can_be_overridden_is_no_constant() -> None:
    inputs = "float[n, 2, 3] x, float scalar"
    assert folded(model_of("e = Expand (scalar, six) y = Add (x, e)", inputs=inputs)) == ["Expand", "Add"]


def test_old_models_gain_no_inputs() -> None:
    inputs = "float[n, 2, 3] x, float[2, 3] w, int64[2] six, int64[1] two, int64[1] one, int64[1] axis, int64 first"
    inputs += ", float scalar"
    nodes = "c = Constant <value = float[3] {1.0, 2.0, 3.0}> () y = Add (x, c)"
    assert folded(model_of(nodes, ir_version=3, inputs=inputs)) == ["Constant", "Add"]


def test_bfloat16_constants_fold_as_well() -> None:
    proto = model_of("h = Cast <to = 1> (k) y = Add (x, h)")
    value = onnx.helper.make_tensor("", onnx.TensorProto.BFLOAT16, [3], [1.5, -2.0, 3.0])
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k"], value=value))
    assert folded(proto) == ["Add"]


@pytest.mark.parametrize("nodes", ["g1 = Gather (w, six) y = Add (x, g1)", "e = Expand (w, two) y = Add (x, e)"])
def test_what_cannot_be_computed_is_not_constant(nodes: str) -> None:
    model = modelio.load(model_of(nodes))
    assert Constants(model).value(model.graph[0].outputs[0]) is None
    clean(model, fold_up_to=1_000)
    assert len(model.graph) == 2


def test_random_numbers_on_constants_are_not_folded() -> None:
    proto = model_of("r = RandomNormalLike (w) y = Add (x, r)")
    assert [node.op_type for node in simplify(modelio.load(proto)).model.graph] == ["RandomNormalLike", "Add"]


def test_a_constant_that_is_put_out_stays_a_node() -> None:
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]> g (float[n] x) => (float[n] y, float[2] c) {
        c = Constant <value = float[2] {1.0, 2.0}> () y = Relu (x) }""")
    model = modelio.load(proto)
    clean(model, fold_up_to=1_000)
    modelio.check(model)
    assert sorted(node.op_type for node in model.graph) == ["Constant", "Relu"]
    assert isinstance(model, ir.Model)
