"""What a model is beside its nodes: imports, IR version, functions, subgraphs, other domains."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from opset_judge import assert_same_function, from_text, operators
from pgc_graph import modelio
from pgc_graph.analysis.names import all_nodes
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.passes.opset import convert_opset, plan_conversion
from pgc_graph.runtime.opsets import newest_ir_version, newest_opset
from pgc_graph.runtime.session import RuntimeOptions, open_session
from sample_models import rich_model

PLAIN = RuntimeOptions(provider="cpu", optimise=False)


def load(text: str) -> ir.Model:
    return modelio.load(onnx.parser.parse_model(text))


@pytest.mark.parametrize("target", [9, 11, 13, 16, 19, 25])
def test_functions_subgraphs_metadata_and_other_domains_survive(target: int) -> None:
    model = modelio.load(rich_model())
    converted = convert_opset(model, target).model
    assert_same_function(model, converted, reference=False)
    (function,) = converted.functions.values()
    assert function.opset_imports[""] == converted.opset_imports[""] == target
    assert converted.opset_imports["local"] == 1
    assert converted.metadata_props == model.metadata_props
    assert converted.graph.doc_string == model.graph.doc_string
    first, second = (next(node for node in m.graph if node.name == "first") for m in (model, converted))
    assert (first.doc_string, first.metadata_props) == (second.doc_string, second.metadata_props)
    assert converted.ir_version >= 10  # a node's metadata


LOCAL = """<ir_version: 8, opset_import: ["": 17, "local": 1, "com.other": 3]>
g (float[n, 4] x) => (float[n, 4] y) { y = local.act <slope = 0.5> (x) }
<domain: "local", opset_import: ["": OWN]>
act <slope> (p) => (q) { BODY }"""


def test_function_goes_from_its_own_opset() -> None:
    body = "t = HardSwish (p) u = LeakyRelu <alpha: float = @slope> (t) q = Softmax <axis = -1> (u)"
    model = load(LOCAL.replace("OWN", "17").replace("BODY", body))
    converted = convert_opset(model, 11).model
    assert_same_function(model, converted, reference=False)
    (function,) = converted.functions.values()
    assert [node.op_type for node in function.graph] == ["HardSigmoid", "Mul", "LeakyRelu", "Softmax"]
    assert converted.opset_imports["com.other"] == 3


def test_function_of_another_opset_than_the_model() -> None:
    model = load(LOCAL.replace("OWN", "17").replace("BODY", "q = Relu (p)"))
    (function,) = model.functions.values()
    function.opset_imports[""] = 14
    verdicts = plan_conversion(model, 13)
    assert [(v.op_type, v.action, v.detail) for v in verdicts] == [("Relu", "relabel", "Relu-14 -> Relu-13")]
    assert convert_opset(model, 14).changes == ()


def test_parameter_of_a_function_that_would_have_to_be_known_is_refused() -> None:
    text = LOCAL.replace("OWN", "17").replace("BODY", "q = Gelu <approximate: string = @slope> (p)")
    model = load(text.replace("17", "20").replace("0.5", '"none"'))
    with pytest.raises(UnsupportedError, match=r"approximate is a parameter of the function|type of p is unknown"):
        convert_opset(model, 19)


NESTED = """<ir_version: 8, opset_import: ["": 18]>
g (float[n, 3, 4] x, bool c) => (float[n, 3, a] y) <int64[1] k = {2}>
{
    y = If (c) <
        then_branch = t () => (float[n, 3, a] p) { p = ReduceMean (x, k) },
        else_branch = e () => (float[n, 3, a] q) { s = Softmax <axis = 1> (x) q = ReduceMax (s, k) }
    >
}"""


@pytest.mark.parametrize("target", [9, 11, 12, 13, 17, 21, 26])
def test_branches_are_converted_and_may_read_outer_constants(target: int) -> None:
    model = load(NESTED)
    converted = convert_opset(model, target).model
    assert_same_function(model, converted)
    assert (len(next(n for n in all_nodes(converted) if n.op_type == "ReduceMean").inputs) == 1) == (target < 18)


LOOP = """<ir_version: 8, opset_import: ["": 17]>
g (float[n, 4] x) => (float[n, 4] y) <int64 m = {3}, bool go = {1}>
{
    y = Loop (m, go, x) <
        body = b (int64 i, bool c, float[n, 4] h) => (bool d, float[n, 4] r) { d = Identity (c) r = HardSwish (h) }
    >
}"""


@pytest.mark.parametrize("target", [9, 11, 13, 14, 19, 26])
def test_loop_bodies_are_converted(target: int) -> None:
    model = load(LOOP)
    assert_same_function(model, convert_opset(model, target).model)


def test_scan_bodies_are_converted() -> None:
    model = load(
        """<ir_version: 8, opset_import: ["": 17]> g (float[4] h, float[5, 4] x) => (float[4] z, float[5, 4] y) {
        z, y = Scan <num_scan_inputs = 1, body = b (float[4] s, float[4] e) => (float[4] t, float[4] u)
        { t = Add (s, e) u = HardSwish (t) }> (h, x) }"""
    )
    for target in (9, 11, 13, 19, 26):
        assert_same_function(model, convert_opset(model, target).model)


def _with_imports(imports: dict[str, int]) -> ir.Model:
    model = from_text("(float[n, 1] x) => (float[n] y) { y = Squeeze <axes = [1]> (x) }", 12)
    model.opset_imports.clear()
    model.opset_imports.update(imports)
    return model


@pytest.mark.parametrize("imports", [{"": 12}, {"ai.onnx": 12}, {"": 12, "ai.onnx": 12}], ids=str)
def test_both_names_of_the_default_domain_are_one(imports: dict[str, int]) -> None:
    converted = convert_opset(_with_imports(imports), 13).model
    assert dict(converted.opset_imports) == {"": 13}
    assert len(converted.graph[0].inputs) == 2


def test_two_opsets_of_the_default_domain_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"twice, as opset 12 .* and as 13"):
        convert_opset(_with_imports({"": 12, "ai.onnx": 13}), 14)


@pytest.mark.parametrize(
    ("target", "ir_version"), [(7, 4), (9, 4), (11, 6), (13, 7), (17, 8), (20, 9), (21, 10), (23, 11), (25, 13)]
)
def test_ir_version_is_what_the_opset_needs(target: int, ir_version: int) -> None:
    model = from_text("(float[n] x) => (float[n] y) { y = Relu (x) }", 17)
    assert convert_opset(model, target).model.ir_version == ir_version
    assert convert_opset(model, target, ir_version=13).model.ir_version == 13
    with pytest.raises(OptionError, match=f"IR version 2 is out of range; opset {target}"):
        convert_opset(model, target, ir_version=2)


def test_ir_version_3_makes_initializers_inputs() -> None:
    model = from_text("(float[n, 2] x) => (float[n, 2] y) <float[2] b = {1, 2}> { y = Add (x, b) }", 17)
    converted = convert_opset(model, 8, ir_version=3).model
    assert [value.name for value in converted.graph.inputs] == ["x", "b"]
    assert_same_function(model, converted)


def test_initializers_that_ir_3_made_inputs_are_constants() -> None:
    text = """<ir_version: 3, opset_import: ["": 9]> g (float[n, 2, 3] x, int64[2] t) => (float[a, b] y)
        <int64[2] t = {-1, 6}> { z = ReduceMean <axes = [1], keepdims = 0> (x) w = Reshape (x, t) y = Softmax (w) }"""
    model = load(text)
    converted = convert_opset(model, 18).model
    assert_same_function(model, converted)
    assert [value.name for value in converted.graph.inputs] == ["x", "t"]  # no new ones, none lost


def test_types_need_their_ir_version() -> None:
    model = from_text("(float[n] x) => (float8e5m2[n] y) { y = Cast <to = 19> (x) }", 19)
    assert convert_opset(model, 20).model.ir_version == 9


def test_group_normalization_of_opset_18_has_scales_per_group() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[n, 4, 3, 3] x) => (float[n, 4, 3, 3] y)
        <float[2] s = {1, 2}> { y = GroupNormalization <num_groups = 2> (x, s, s) }"""
    model = modelio.load(onnx.parser.parse_model(text))
    modelio.check(model)
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 3)).astype(np.float32)
    groups = x.reshape(2, 2, -1)
    normal = (groups - groups.mean(axis=2, keepdims=True)) / np.sqrt(groups.var(axis=2, keepdims=True) + 1e-5)
    scales = np.array([1, 2], np.float32)[:, None]
    for target in (9, 17, 21, 26):
        converted = convert_opset(model, target).model
        modelio.check(converted)
        (result,) = open_session(converted, PLAIN).run({"x": x})
        np.testing.assert_allclose(result, (normal * scales + scales).reshape(x.shape), atol=1e-5)


def test_operator_that_onnx_does_not_know_is_refused() -> None:
    model = from_text("(float[n] x) => (float[n] y) { [it] y = Relu (x) }", 17)
    model.graph[0].op_type = "Novel"
    with pytest.raises(UnsupportedError, match=r"node 'it': .*Novel does not exist at opset 17"):
        convert_opset(model, 18)


def test_mixed_batchnorm_is_computed_in_the_wider_type() -> None:
    text = """(float16[n, 2, 3, 3] x) => (float16[n, 2, 3, 3] y)
        <float[2] s = {0.1, 1.7}, float[2] b = {0.3, -0.1}, float[2] m = {0.2, 0.1}, float[2] v = {0.5, 2}>
        { y = BatchNormalization (x, s, b, m, v) }"""
    model = from_text(text, 15)
    for target in (14, 13, 9, 7):
        converted = convert_opset(model, target).model
        assert operators(converted) == ["Cast", "BatchNormalization", "Cast"]
        assert_same_function(model, converted, tolerance=2e-3, runtime=False)


def test_comparisons_stay_false_for_nan() -> None:
    text = """(float[n] x) => (bool[n] y, bool[n] z, bool[n] w) <float[1] k = {0.5}>
        { y = LessOrEqual (x, k) z = GreaterOrEqual (k, x) w = Equal (x, x) }"""
    model = from_text(text, 13)
    x = np.array([np.nan, -np.inf, np.inf, 0.5, 0.25], np.float32)
    expected = open_session(model, PLAIN).run({"x": x})
    for target in (11, 9, 7):
        results = open_session(convert_opset(model, target).model, PLAIN).run({"x": x})
        for left, right in zip(expected, results, strict=True):
            np.testing.assert_array_equal(left, right)


def test_softmax_on_channels_agrees_with_numpy() -> None:
    model = from_text("(float[2, 3, 4, 5] x) => (float[2, 3, 4, 5] y) { y = Softmax <axis = 1> (x) }", 13)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    truth = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    for target in range(7, 13):
        (result,) = open_session(convert_opset(model, target).model).run({"x": x})
        np.testing.assert_allclose(result, truth, atol=1e-6)


def test_constants_become_initializers_where_no_node_can_make_them() -> None:
    text = """(float[n, 4] x) => (float[n, 4] y) { a = Constant <value_int = 0> () b = Constant <value_int = 4> ()
        c = Constant <value_int = 1> () r = Range (a, b, c) f = Cast <to = 1> (r) y = Add (x, f) }"""
    model = from_text(text, 13)
    converted = convert_opset(model, 9).model
    assert_same_function(model, converted)
    actions = {verdict.op_type: verdict.action for verdict in plan_conversion(model, 9)}
    assert actions["Range"] == "constant"


def test_names_of_tensors_and_nodes_stay() -> None:
    model = from_text("(float[n, 4] x) => (float[n, 4] z) { [one] y = Gelu (x) [two] z = HardSwish (y) }", 20)
    converted = convert_opset(model, 9).model
    assert {"one", "two"} <= {node.name for node in converted.graph}
    assert [str(node.outputs[0].name) for node in converted.graph if node.name in ("one", "two")] == ["y", "z"]


def test_what_onnxruntime_loads_is_asked() -> None:
    assert newest_opset() <= onnx.defs.onnx_opset_version()
    assert newest_ir_version() <= onnx.IR_VERSION
    model = from_text("(float[n] x) => (float[n] y) { y = Relu (x) }", 17)
    with pytest.raises(OptionError, match="16, the newest that the installed onnxruntime loads"):
        convert_opset(model, 17, newest=16)
