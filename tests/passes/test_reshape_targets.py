"""Computed Reshape targets become constants exactly where that says the same."""

from __future__ import annotations

import onnx
import pytest

from pgc_graph import modelio
from pgc_graph.passes.cleanup import clean
from pgc_graph.runtime.parity import compare, random_feeds

HEAD = '<ir_version: 8, opset_import: ["": 17]> g (float[n, 2, 4] x, float[k, 8] z) => (float y)'
CONSTANTS = """<int64 zero = {0}, int64 one = {1}, int64[1] at0 = {0}, int64[1] at1 = {1}, int64[1] rest = {-1},
    int64[1] eight = {8}, int64[1] one1 = {1}, int64[1] none = {0}>"""
BATCH = "s = Shape (x) b = Gather <axis = 0> (s, zero) u = Unsqueeze (b, at0)"


def cleaned(nodes: str) -> tuple[list[str], bool]:
    proto = onnx.parser.parse_model(f"{HEAD} {CONSTANTS} {{ {nodes} }}")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(proto)
    model, original = modelio.load(inferred), modelio.load(inferred)
    clean(model)
    feeds = list(random_feeds(original, runs=3, fixed={"z": (3, 8)}))
    same = compare(original, model, feeds=feeds, tolerance=0).passed
    return [node.op_type for node in model.graph], same


@pytest.mark.parametrize(
    "nodes",
    [
        f"{BATCH} t = Concat <axis = 0> (u, rest) y = Reshape (x, t)",
        f"{BATCH} t = Concat <axis = 0> (u, eight) y = Reshape (x, t)",
        "s = Shape (x) b = Slice (s, at0, at1) t = Concat <axis = 0> (b, rest) y = Reshape (x, t)",
        "b = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (b, rest) y = Reshape (x, t)",
        f"{BATCH} r = Relu (x) t = Concat <axis = 0> (u, rest) y = Reshape (r, t)",
        "b = Shape <start = 0, end = 1> (x) q = Squeeze (b) u = Reshape (q, one1) "
        "t = Concat <axis = 0> (u, rest) y = Reshape <allowzero = 1> (x, t)",
        f"{BATCH} t = Concat <axis = 0> (u, eight) y = Reshape <allowzero = 1> (x, t)",
    ],
    ids=[
        *("gather", "constant rest", "slice", "shape with bounds", "shape of another tensor with the same batch"),
        *("single number squeezed and reshaped", "zeros mean zero but there are none"),
    ],
)
def test_kept_dimension_becomes_a_zero(nodes: str) -> None:
    operators, same = cleaned(nodes)
    assert [name for name in operators if name != "Relu"] == ["Reshape"]
    assert same


@pytest.mark.parametrize(
    "nodes",
    [
        f"{BATCH} t = Concat <axis = 0> (rest, u) y = Reshape (x, t)",
        "s = Shape (z) b = Gather <axis = 0> (s, zero) u = Unsqueeze (b, at0) "
        "t = Concat <axis = 0> (u, rest) y = Reshape (z, t) w = Relu (x)",
        f"{BATCH} t = Concat <axis = 0> (u, rest) y = Reshape <allowzero = 1> (x, t)",
        "s = Shape (x) b = Gather <axis = 0> (s, one) u = Unsqueeze (b, at0) "
        "t = Concat <axis = 0> (u, rest) y = Reshape (x, t)",
    ],
    ids=["at another place", "of its own tensor", "zeros mean zero", "another dimension"],
)
def test_function_stays_whatever_is_decided(nodes: str) -> None:
    assert cleaned(nodes)[1]


def test_batch_of_an_unrelated_input_is_not_taken_for_ones_own() -> None:
    operators, _ = cleaned(
        "s = Shape (x) b = Gather <axis = 0> (s, zero) u = Unsqueeze (b, at0) "
        "t = Concat <axis = 0> (u, rest) y = Reshape (z, t)"
    )
    assert "Concat" in operators


def test_a_literal_zero_keeps_its_meaning() -> None:
    """With allowzero = 1 a constant 0 is a length; a target of zeros that copy would say something else."""
    proto = onnx.parser.parse_model(f"""{HEAD.replace("float[n, 2, 4] x", "float[n, 0, 4] x")} {CONSTANTS}
        {{ {BATCH} t = Concat <axis = 0> (u, eight, none) y = Reshape <allowzero = 1> (x, t) }}""")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    model = modelio.load(onnx.shape_inference.infer_shapes(proto))
    clean(model)
    assert "Concat" in [node.op_type for node in model.graph]
