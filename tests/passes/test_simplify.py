"""simplify: onnxsim's work without onnxsim's losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from conftest import CORPUS_NAMES
from pgc_graph import modelio
from pgc_graph.errors import OptionError
from pgc_graph.passes.simplify import simplify
from pgc_graph.runtime.parity import compare, random_feeds
from pgc_graph.runtime.session import RuntimeOptions, open_session

GATED = """
<ir_version: 8, opset_import: ["": 17], domain: "ours", model_version: 7, doc_string: "kept", metadata_props: ["k": "v"]>
g (float[n, 4] x, float gate) => (float[n, 4] y)
<float gate = {1.0}, float[4] c = {1.0, 2.0, 3.0, 4.0}> {
    d = Add (c, c) t = Identity (x) u = Mul (t, gate) y = Add (u, d) }
"""
HEAD = '<ir_version: 8, opset_import: ["": 17]> g (float[n, 4, 6, 5] x) => (float[n, 4, 6, 5] y)'


def test_overridable_initializer_survives_and_still_overrides() -> None:
    model = modelio.load(onnx.parser.parse_model(GATED))
    simple = simplify(model).model
    assert [node.op_type for node in simple.graph] == ["Mul", "Add"]
    session = open_session(simple, RuntimeOptions("cpu"))
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(session.run({"x": x})[0], [[3, 5, 7, 9]] * 2)
    np.testing.assert_array_equal(session.run({"x": x, "gate": np.float32(0)})[0], [[2, 4, 6, 8]] * 2)


def test_what_the_model_says_of_itself_stays() -> None:
    model = modelio.load(onnx.parser.parse_model(GATED))
    simple = simplify(model).model
    for field in ("doc_string", "domain", "model_version", "producer_name", "ir_version", "metadata_props"):
        assert getattr(simple, field) == getattr(model, field)
    assert simple.graph.name == "g"


@pytest.mark.parametrize("name", ["resnet20_cifar10_dynamo", "mnasnet_small"])
def test_corpus_gets_smaller_and_stays_the_same_function(corpus_model: Any, name: str) -> None:
    path: Path = corpus_model(name)
    model = modelio.load(path)
    rewrite = simplify(model)
    assert not rewrite.skipped
    modelio.check(rewrite.model)
    assert rewrite.model.graph.num_nodes() < model.graph.num_nodes()
    assert all(node.name for node in rewrite.model.graph)
    feeds = list(random_feeds(model, runs=2))
    assert compare(model, rewrite.model, feeds=feeds).passed


def test_shape_is_fixed_on_request() -> None:
    model = modelio.load(onnx.parser.parse_model(GATED))
    simple = simplify(model, fix_shapes={"x": (1, 4)}).model
    assert list(simple.graph.inputs[0].shape or ()) == [1, 4]
    with pytest.raises(OptionError, match="no input 'z'"):
        simplify(model, fix_shapes={"z": (1, 4)})


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_second_run_changes_not_one_byte(corpus_model: Any, name: str) -> None:
    once = simplify(modelio.load(corpus_model(name))).model
    assert modelio.to_bytes(simplify(once).model) == modelio.to_bytes(once)


@pytest.mark.parametrize(
    ("skip", "nodes"),
    [
        ("eliminate_identity", "t = Relu (x) i = Identity (t) y = Neg (i)"),
        ("eliminate_nop_dropout", "t = Relu (x) i = Dropout (t) y = Neg (i)"),
        ("eliminate_nop_cast", "t = Relu (x) i = Cast <to = 1> (t) y = Neg (i)"),
        ("eliminate_nop_transpose", "t = Relu (x) i = Transpose <perm = [0, 1, 2, 3]> (t) y = Neg (i)"),
        ("eliminate_nop_concat", "t = Relu (x) i = Concat <axis = 1> (t) y = Neg (i)"),
        ("eliminate_common_subexpression", "t = Relu (x) i = Relu (x) y = Add (t, i)"),
        ("eliminate_deadend", "t = Relu (x) y = Neg (t) i = Abs (t)"),
    ],
)
def test_what_is_skipped_by_name_stays(skip: str, nodes: str) -> None:
    model = modelio.load(onnx.parser.parse_model(f"{HEAD} {{ {nodes} }}"))
    assert len(simplify(model).model.graph) < 3
    assert len(simplify(model, skip=(skip,)).model.graph) == 3
