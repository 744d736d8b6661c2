"""What differs is found and named; what does not differ is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from conftest import CORPUS_NAMES
from hypothesis import HealthCheck, given, settings
from random_networks import networks
from sample_models import rich_model

from pgc_graph import modelio
from pgc_graph.analysis.diff import ModelDiff, diff_models
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.rename import rename

SECTIONS = ("header", "opsets", "metadata", "inputs", "outputs", "nodes", "weights", "tensors", "functions")
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def filled(diff: ModelDiff) -> list[str]:
    return [name for name in SECTIONS if getattr(diff, name)]


def compare(before: onnx.ModelProto, after: onnx.ModelProto) -> ModelDiff:
    return diff_models(modelio.load(before), modelio.load(after))


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_a_model_equals_itself_and_not_its_renamed_copy(corpus_model: Any, name: str) -> None:
    path = corpus_model(name)
    model = modelio.load(path)
    assert diff_models(model, modelio.load(path)).equal
    renamed = rename(model, "^", "n::").model
    diff = diff_models(model, renamed)
    assert {change.kind for change in diff.nodes} == {"renamed"}
    assert {change.kind for change in diff.weights} == {"renamed"}
    assert len(diff.nodes) == model.graph.num_nodes()
    assert [change.after for change in diff.weights] == [f"n::{change.before}" for change in diff.weights]
    assert all(change.changed_elements == 0 for change in diff.weights)


def test_folding_removes_batchnorms_and_changes_weights(pgc_model: Any) -> None:
    model = pgc_model("s")
    folded = fold_batchnorm(model).model
    diff = diff_models(model, folded)
    removed = [change for change in diff.nodes if change.kind == "removed"]
    count = sum(node.op_type == "BatchNormalization" for node in model.graph)
    assert [change.operator for change in removed] == ["BatchNormalization"] * count
    assert not any(change.kind == "added" for change in diff.nodes)
    changed = {change.before: change for change in diff.weights if change.kind == "changed"}
    for name, change in changed.items():
        tensors = [m.graph.initializers[str(name)].const_value for m in (model, folded)]
        left, right = (tensor.numpy().astype(np.float64) for tensor in tensors if tensor is not None)
        assert change.max_difference == np.abs(left - right).max()
        assert change.changed_elements == (left != right).sum()


def test_one_weight_is_named_with_its_largest_difference() -> None:
    other = rich_model()
    weight = onnx.numpy_helper.to_array(other.graph.initializer[0]).copy()
    weight[2, 1] += 0.5
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
    diff = compare(rich_model(), other)
    assert filled(diff) == ["weights"]
    (change,) = diff.weights
    assert (change.before, change.max_difference, change.changed_elements, change.elements) == ("w", 0.5, 1, 12)


def _rename_function(proto: onnx.ModelProto) -> None:
    proto.functions[0].doc_string = "new"


def _body(proto: onnx.ModelProto) -> onnx.NodeProto:
    (branch,) = (node for node in proto.graph.node if node.op_type == "If")
    body = next(attribute.g for attribute in branch.attribute if attribute.name == "else_branch")
    node: onnx.NodeProto = body.node[0]
    return node


EDITS: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "ir-version": (lambda p: setattr(p, "ir_version", 9), "header"),
    "doc-string": (lambda p: setattr(p, "doc_string", "other"), "header"),
    "graph-name": (lambda p: setattr(p.graph, "name", "other"), "header"),
    "opset": (lambda p: setattr(p.opset_import[0], "version", 18), "opsets"),
    "metadata": (lambda p: setattr(p.metadata_props[0], "value", "GPL"), "metadata"),
    "input-shape": (lambda p: setattr(p.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 9), "inputs"),
    "input-denotation": (lambda p: setattr(p.graph.input[0].type, "denotation", "SOUND"), "inputs"),
    "output-symbol": (lambda p: setattr(p.graph.output[0].type.tensor_type.shape.dim[0], "dim_param", "m"), "outputs"),
    "node-name": (lambda p: setattr(p.graph.node[0], "name", "second"), "nodes"),
    "node-doc": (lambda p: setattr(p.graph.node[0], "doc_string", "other"), "nodes"),
    "attribute": (lambda p: p.graph.node[0].attribute.append(onnx.helper.make_attribute("group", 1)), "nodes"),
    "constant": (lambda p: setattr(p.graph.node[2].attribute[0].t, "raw_data", b"\0\0\0\0"), "nodes"),
    "body-operator": (lambda p: setattr(_body(p), "op_type", "Abs"), "nodes"),
    "function-node": (lambda p: setattr(p.functions[0].node[0], "op_type", "Tanh"), "nodes"),
    "function-doc": (_rename_function, "functions"),
    "default": (lambda p: p.graph.initializer[1].float_data.__setitem__(0, 0.25), "weights"),
    "stated-shape": (
        lambda p: p.graph.value_info.append(onnx.helper.make_tensor_value_info("c", 1, ["n", 4, 8, 8])),
        "tensors",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_is_found_in_its_section(name: str) -> None:
    edit, section = EDITS[name]
    other = rich_model()
    if name == "constant":
        other.graph.node[2].attribute[0].t.ClearField("float_data")
    edit(other)
    assert filled(compare(rich_model(), other)) == [section]
    assert filled(compare(other, rich_model())) == [section]


def test_a_node_in_a_body_is_named_with_its_scope() -> None:
    other = rich_model()
    _body(other).op_type = "Abs"
    (change,) = compare(rich_model(), other).nodes
    assert (change.kind, change.scope, change.operator) == ("changed", "y.else_branch", "Abs")
    assert "operator Neg -> Abs" in change.details


def test_order_alone_is_a_difference() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y)
        { [a] a = Neg(x) [b] b = Abs(x) [c] y = Add(a, b) }"""
    first, second = onnx.parser.parse_model(text), onnx.parser.parse_model(text)
    nodes = [second.graph.node[place] for place in (1, 0, 2)]
    second.graph.ClearField("node")
    second.graph.node.extend(nodes)
    (difference,) = compare(first, second).header
    assert difference.name == "order of nodes"


def test_an_added_node_is_added_and_its_reader_changed() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) {{ {} }}'
    first = onnx.parser.parse_model(text.format("a = Neg(x) y = Abs(a)"))
    second = onnx.parser.parse_model(text.format("a = Neg(x) b = Relu(a) y = Abs(b)"))
    diff = compare(first, second)
    assert [(change.kind, change.operator) for change in diff.nodes] == [("changed", "Abs"), ("added", "Relu")]
    assert diff.nodes[0].details == ("input 0: a -> b",)


def test_nan_and_infinity_are_values() -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }'
    )
    models = []
    for values in ([np.nan, 1], [np.nan, 1], [np.inf, 1]):
        proto = onnx.parser.parse_model(text)
        proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.asarray(values, np.float32), "w"))
        models.append(modelio.load(proto))
    assert diff_models(models[0], models[1]).equal
    (change,) = diff_models(models[0], models[2]).weights
    assert (change.max_difference, change.changed_elements) == (np.inf, 1)


@given(networks(), networks())
@QUICK
def test_equal_means_the_same_file(first: onnx.ModelProto, second: onnx.ModelProto) -> None:
    models: list[ir.Model] = [modelio.load(first), modelio.load(second)]
    same = modelio.to_bytes(models[0]) == modelio.to_bytes(models[1])
    assert diff_models(*models).equal == same
    assert diff_models(models[0], modelio.load(first)).equal
