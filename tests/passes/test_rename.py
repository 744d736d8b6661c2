"""Renaming reaches every scope, changes nothing else, and refuses what would be ambiguous."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import pytest
from conftest import CORPUS_NAMES
from sample_models import rich_model

from pgc_graph import modelio
from pgc_graph.analysis.names import node_names, tensor_names
from pgc_graph.errors import OptionError, SelectionError
from pgc_graph.passes.rename import rename
from pgc_graph.runtime.parity import compare, random_feeds


def exact(before: ir.Model, after: ir.Model) -> bool:
    return compare(before, after, feeds=list(random_feeds(before, runs=2)), tolerance=0).passed


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_there_and_back_again_is_the_same_file(corpus_model: Any, name: str) -> None:
    model = modelio.load(corpus_model(name))
    data = modelio.to_bytes(model)
    renamed = rename(model, "^", "net::").model
    assert modelio.to_bytes(model) == data
    assert tensor_names(renamed) == {f"net::{tensor}" for tensor in tensor_names(model)}
    assert node_names(renamed) == {f"net::{node}" for node in node_names(model)}
    assert modelio.to_bytes(rename(renamed, "^net::", "").model) == data


@pytest.mark.parametrize("variant", ["s", "l"])
def test_a_renamed_pgc_is_valid_and_equal_to_the_bit(pgc_model: Any, variant: str) -> None:
    model = pgc_model(variant)
    renamed = rename(model, r"^/base_model/(\w+)/", r"/\g<1>_of_net/").model
    modelio.check(renamed)
    assert exact(model, renamed)
    assert renamed.metadata_props == model.metadata_props


def test_captures_functions_inputs_and_outputs_follow() -> None:
    model = modelio.load(rich_model())
    renamed = rename(model, "^(.*)$", r"my_\1").model
    modelio.check(renamed)
    assert exact(model, renamed)
    assert [value.name for value in renamed.graph.inputs] == ["my_x", "my_strength"]
    (branch,) = (node for node in renamed.graph if node.op_type == "If")
    inner = next(iter(branch.attributes["then_branch"].as_graph()))
    assert inner.inputs[0] is not None
    assert inner.inputs[0].name == "my_a"
    (function,) = renamed.functions.values()
    assert [value.name for value in function.inputs] == ["my_p"]


def test_weights_of_the_original_keep_their_own_names() -> None:
    model = modelio.load(rich_model())
    rename(model, "^w$", "weight")
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    assert tensor.name == "w"


def test_names_can_be_swapped() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y)
        <float[2] a1 = {1.0, 2.0}, float[2] a2 = {3.0, 4.0}> { t = Mul(x, a1) y = Sub(t, a2) }"""
    model = modelio.load(onnx.parser.parse_model(text))
    renamed = rename(model, "^a(?=[12]$)", "b").model
    assert list(renamed.graph.initializers) == ["b1", "b2"]
    assert exact(model, renamed)


@pytest.mark.parametrize(
    ("tensors", "nodes", "expected"),
    [(True, False, (["my_c"], "first")), (False, True, (["c"], "my_first"))],
    ids=["tensors", "nodes"],
)
def test_only_what_is_asked_for_is_renamed(tensors: bool, nodes: bool, expected: tuple[list[str], str]) -> None:
    renamed = rename(modelio.load(rich_model()), "^", "my_", tensors=tensors, nodes=nodes).model
    node = next(iter(renamed.graph))
    assert ([value.name for value in node.outputs], node.name) == expected


def test_quantisation_annotations_follow() -> None:
    proto = rich_model()
    annotation = proto.graph.quantization_annotation.add(tensor_name="c")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="strength")
    renamed = modelio.to_proto(rename(modelio.load(proto), "^(c|strength)$", r"\1_new").model)
    (kept,) = renamed.graph.quantization_annotation
    assert kept.tensor_name == "c_new"
    assert kept.quant_parameter_tensor_names[0].value == "strength_new"


def test_branches_may_share_a_name_before_and_after() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] o) { o = Neg(x) }, else_branch = e () => (float[2] o) { o = Abs(x) }>
    }"""
    model = modelio.load(onnx.parser.parse_model(text))
    renamed = rename(model, "^o$", "out").model
    assert exact(model, renamed)
    with pytest.raises(OptionError, match=r"'x' and 'o' would both be named"):
        rename(model, "^[xo]$", "same")


@pytest.mark.parametrize(
    ("pattern", "replacement", "words"),
    [
        ("^(w|x)$", "same", "tensors 'x' and 'w' would both be named 'same'"),
        ("^w$", "x", "would both be named 'x'"),
        ("^w$", "", "'w' would be left without a name"),
        ("(", "x", "expected Python's re syntax"),
        ("w", r"\3", "invalid group reference"),
        ("w", r"\g<no>", "unknown group"),
    ],
    ids=["two-become-one", "taken", "empty", "bad-pattern", "bad-group", "unknown-group"],
)
def test_what_cannot_be_is_refused_by_name(pattern: str, replacement: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        rename(modelio.load(rich_model()), pattern, replacement)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pattern_that_changes_nothing_is_refused() -> None:
    with pytest.raises(SelectionError, match="changes no tensor name"):
        rename(modelio.load(rich_model()), "nothing", "x", nodes=False)
