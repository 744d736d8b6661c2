"""simplify's own part: idle, dead and duplicate nodes, in every scope, and what looks like one and is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import Result

from pgc_graph import modelio
from pgc_graph.analysis.names import all_nodes
from pgc_graph.errors import OptionError
from pgc_graph.passes.cleanup import clean
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.passes.simplify import simplify
from pgc_graph.runtime.parity import compare, random_feeds

SIGNATURE = "(float[n, 4, 6, 5] x) => (float[n, c, a, b] y)"


def model_of(nodes: str, *, opset: int = 17, signature: str = SIGNATURE, initializers: str = "") -> ir.Model:
    head = f'<ir_version: 8, opset_import: ["": {opset}]> g {signature} {initializers}'
    return infer_shapes(modelio.load(onnx.parser.parse_model(f"{head} {{ {nodes} }}")))


def cleaned(model: ir.Model) -> list[str]:
    """Clean a copy, check it and its function, and return its operators in all scopes."""
    copy = model.clone()
    clean(copy)
    modelio.check(copy)
    assert [value.name for value in copy.graph.outputs] == [value.name for value in model.graph.outputs]
    assert compare(model, copy, feeds=list(random_feeds(model, runs=2)), tolerance=0).passed
    assert clean(copy) == 0
    return [node.op_type for node in all_nodes(copy) if node.op_type != "Constant"]


@pytest.mark.parametrize(
    "nodes",
    [
        "t = Relu (x) y = Identity (t)",
        "t = Identity (x) y = Relu (t)",
        "t = Relu (x) y = Dropout (t)",
        "t = Relu (x) y = Cast <to = 1> (t)",
        "t = Relu (x) y = CastLike (t, x)",
        "t = Relu (x) y = Transpose <perm = [0, 1, 2, 3]> (t)",
        "s = Transpose <perm = [0, 2, 3, 1]> (x) r = Transpose <perm = [0, 3, 1, 2]> (s) y = Relu (r)",
        "t = Relu (x) s = Constant <value = int64[4] {0, 4, 6, 5}> () y = Reshape (t, s)",
        "t = Relu (x) s = Constant <value = int64[4] {-1, 4, 6, 5}> () y = Reshape (t, s)",
        "t = Relu (x) s = Constant <value = int64[4] {0, 0, 0, -1}> () y = Reshape (t, s)",
        "t = Relu (x) s = Constant <value = int64[3] {4, 1, 5}> () y = Expand (t, s)",
        "t = Relu (x) p = Constant <value = int64[8] {0, 0, 0, 0, 0, 0, 0, 0}> () y = Pad (t, p)",
        "t = Relu (x) y = Concat <axis = 1> (t)",
        "t = Relu (x) u = Neg (x) v = Abs (u) y = Identity (t)",
    ],
)
def test_what_does_nothing_goes(nodes: str) -> None:
    assert cleaned(model_of(nodes)) == ["Relu"]


@pytest.mark.parametrize(
    ("nodes", "stays"),
    [
        ("y = Identity (x)", "Identity"),
        ("t = Relu (x) y = Cast <to = 11> (t)", "Cast"),
        ("t = Relu (x) y = Transpose <perm = [0, 1, 3, 2]> (t)", "Transpose"),
        ("s = Transpose <perm = [0, 2, 3, 1]> (x) y = Transpose <perm = [0, 2, 3, 1]> (s)", "Transpose"),
        ("t = Relu (x) s = Constant <value = int64[4] {0, 4, 5, 6}> () y = Reshape (t, s)", "Reshape"),
        ("t = Relu (x) s = Constant <value = int64[4] {2, 1, 1, 1}> () y = Expand (t, s)", "Expand"),
        ("t = Relu (x) p = Constant <value = int64[8] {0, 0, 0, 0, 0, 0, 0, 1}> () y = Pad (t, p)", "Pad"),
        ("t = Relu (x) y = Concat <axis = 1> (t, x)", "Concat"),
    ],
)
def test_what_does_something_stays(nodes: str, stays: str) -> None:
    model = model_of(nodes)
    if stays == "Cast":
        model.graph.outputs[0].type = ir.TensorType(ir.DataType.DOUBLE)
    if stays == "Expand":
        copy = model.clone()
        clean(copy)
        assert stays in [node.op_type for node in copy.graph]
        return
    assert stays in cleaned(model)


@pytest.mark.parametrize(("pads", "left"), [("0, 0, 0, 0, 0, 0, 0, 0", False), ("0, 0, 0, 0, 0, 0, 1, 0", True)])
def test_pad_by_attribute_before_opset_11(pads: str, left: bool) -> None:
    assert ("Pad" in cleaned(model_of(f"t = Relu (x) y = Pad <pads = [{pads}]> (t)", opset=10))) == left


@pytest.mark.parametrize("training", ["false", "true"])
def test_dropout_goes_only_in_inference(training: str) -> None:
    flag = f"k = Constant <value = bool {{{int(training == 'true')}}}> ()"
    text = f"r = Constant <value = float {{0.5}}> () {flag} t = Relu (x)"
    copy = model_of(f"{text} y = Dropout (t, r, k)")
    clean(copy)
    assert ("Dropout" in [node.op_type for node in copy.graph]) == (training == "true")


def test_duplicates_are_merged_once_and_for_all() -> None:
    nodes = "a = Sigmoid (x) b = Sigmoid (x) c = Mul (a, x) d = Mul (b, x) y = Add (c, d)"
    assert cleaned(model_of(nodes)) == ["Sigmoid", "Mul", "Add"]


def test_two_outputs_of_the_same_value_keep_their_names() -> None:
    signature = "(float[n, 4] x) => (float[n, 4] y, float[n, 4] z)"
    assert cleaned(model_of("y = Relu (x) z = Relu (x)", signature=signature)) == ["Relu", "Relu"]
    assert cleaned(model_of("t = Relu (x) z = Relu (x) y = Neg (t)", signature=signature)) == ["Relu", "Neg"]


@pytest.mark.parametrize(
    "operator",
    ["RandomNormalLike", "RandomUniformLike", "Bernoulli"],
)
def test_random_numbers_are_drawn_twice(operator: str) -> None:
    copy = model_of(f"p = Sigmoid (x) a = {operator} (p) b = {operator} (p) y = Sub (a, b)")
    clean(copy)
    assert [node.op_type for node in copy.graph].count(operator) == 2


def test_dropout_in_training_is_drawn_twice() -> None:
    text = "r = Constant <value = float {0.5}> () k = Constant <value = bool {1}> ()"
    copy = model_of(f"{text} a = Dropout (x, r, k) b = Dropout (x, r, k) y = Sub (a, b)")
    clean(copy)
    assert [node.op_type for node in copy.graph].count("Dropout") == 2


def test_attributes_and_foreign_domains_keep_nodes_apart() -> None:
    head = '<ir_version: 8, opset_import: ["": 17, "other": 1]> g (float[n, 4] x) => (float[n, 4] y)'
    nodes = """{ a = LeakyRelu <alpha = 0.1> (x) b = LeakyRelu <alpha = 0.2> (x)
                 c = other.Draw (x) d = other.Draw (x) e = Sum (a, b, c, d) y = Relu (e) }"""
    model = modelio.load(onnx.parser.parse_model(head + nodes))
    assert clean(model) == 0


def test_initializers_with_the_same_bytes_are_one_unless_they_can_be_overridden() -> None:
    model = model_of(
        "t = Add (x, c) u = Mul (t, d) y = Mul (u, gate)",
        signature="(float[n, 4] x, float[1] gate) => (float[n, 4] y)",
        initializers="<float[1] c = {2.0}, float[1] d = {2.0}, float[1] gate = {2.0}, float[1] dead = {1.0}>",
    )
    cleaned(model)
    clean(model)
    assert set(model.graph.initializers) == {"c", "gate"}


def test_zero_and_minus_zero_differ() -> None:
    model = model_of("t = Relu (x) y = Neg (t)", signature="(float[n, 4] x) => (float[n, 4] y)")
    (first, last) = model.graph
    for name, number in (("c", 0.0), ("d", -0.0)):
        tensor = ir.tensor(np.array([number], np.float32), name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT))
        model.graph.register_initializer(value)
        quotient = ir.node("Div", [last.inputs[0], value])
        quotient.outputs[0].name = f"over_{name}"
        model.graph.insert_before(last, quotient)
        last.replace_input_with(0, quotient.outputs[0])
    assert clean(model) == 0
    assert set(model.graph.initializers) == {"c", "d"}
    assert first.op_type == "Relu"


def test_bodies_and_functions_are_cleaned_and_unused_functions_go() -> None:
    model = modelio.load(
        onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17, "local": 1]> g (float[n, 4] x, bool flag) => (float[n, 4] y)
        { t = Relu (x)
          u = If (flag) <
            then_branch = a () => (float[n, 4] p) { i = Identity (t) j = Neg (i) d = Abs (t) p = Identity (j) },
            else_branch = e () => (float[n, 4] q) { q = Identity (t) }>
          y = local.used (u) }
        <domain: "local", opset_import: ["": 17]> used (a) => (b) { c = Identity (a) d = Neg (c) b = Identity (d) }
        <domain: "local", opset_import: ["": 17]> idle (a) => (b) { b = Neg (a) }""")
    )
    assert sorted(cleaned(model)) == sorted(["Relu", "If", "Neg", "Identity", "used", "Neg"])
    clean(model)
    assert [name for _, name, _ in model.functions] == ["used"]


@pytest.mark.parametrize("limit", [1_000, 10_000_000])
def test_constants_are_folded_only_where_the_model_does_not_grow(limit: int) -> None:
    nodes = (
        "s = Constant <value = int64[2] {64, 64}> () w = ConstantOfShape <value = float[1] {0.5}> (s) y = MatMul (x, w)"
    )
    model = model_of(nodes, signature="(float[n, 64] x) => (float[n, 64] y)")
    simple = simplify(model, max_constant=limit).model
    grew = len(modelio.to_bytes(simple)) > len(modelio.to_bytes(model)) + 5_000
    assert grew == (limit > 64 * 64 * 4)
    assert ("ConstantOfShape" in [node.op_type for node in simple.graph]) == (not grew)


def test_constants_stay_computed_on_request() -> None:
    nodes = "c = Constant <value = float[1] {2.0}> () d = Exp (c) y = Mul (x, d)"
    for fold in (True, False):
        simple = simplify(model_of(nodes), fold_constants=fold).model
        assert ("Exp" in [node.op_type for node in simple.graph]) != fold


def test_an_unknown_optimisation_to_skip_is_an_error_of_its_own() -> None:
    with pytest.raises(OptionError, match="no optimisation 'eliminate_everything'"):
        simplify(model_of("y = Relu (x)"), skip=("eliminate_everything",))


def test_a_shape_that_contradicts_the_input_is_an_error_of_its_own() -> None:
    with pytest.raises(OptionError, match="does not fit input 'x'"):
        simplify(model_of("y = Relu (x)"), fix_shapes={"x": (1, 3, 6, 5)})


def test_command_takes_the_options(tmp_path: Path, run_cli: Callable[..., Result]) -> None:
    nodes = "c = Constant <value = float[1] {2.0}> () d = Exp (c) t = Identity (x) y = Mul (t, d)"
    modelio.save(model_of(nodes), tmp_path / "in.onnx")
    options = ["--fix-shape", "x=2,4,6,5", "--skip", "eliminate_nop_pad", "--no-constant-folding", "--subgraphs"]
    result = run_cli("simplify", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", *options, "--max-constant", "0")
    assert result.exit_code == 0, result.output
    simple = modelio.load(tmp_path / "out.onnx")
    assert {"Exp", "Mul"} <= {node.op_type for node in simple.graph} <= {"Constant", "Exp", "Mul"}
    assert list(simple.graph.inputs[0].shape or ()) == [2, 4, 6, 5]
    refused = run_cli("simplify", tmp_path / "in.onnx", "-o", tmp_path / "no.onnx", "--skip", "everything")
    assert refused.exit_code == 2
    assert "no optimisation 'everything'" in refused.stderr


def test_where_onnxsim_fails_the_model_stays_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxsim

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("graph is\nodd")

    monkeypatch.setattr(onnxsim, "simplify", fail)
    model = model_of("t = Relu (x) y = Identity (t)")
    rewrite = simplify(model)
    assert [skip.reason for skip in rewrite.skipped] == ["onnxsim failed: graph is odd"]
    assert modelio.to_bytes(rewrite.model) == modelio.to_bytes(model)
