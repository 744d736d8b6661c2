"""A part of a model computes what the whole computes there, and brings along what it needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from calibrated import smooth_images
from onnx.reference import ReferenceEvaluator
from sample_models import rich_model

from pgc_graph import modelio
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.passes.extract import extract
from pgc_graph.studies.rewrite_checks import check_part

STEM = "/base_model/stem/stem.2/Mul_output_0"
BLOCK = "/base_model/features/features.2/out_act/Mul_output_0"


def test_two_parts_of_pgc_in_a_row_are_the_whole(pgc_model: Any) -> None:
    model = pgc_model("s")
    images = smooth_images(2)
    front, back = extract(model, outputs=[BLOCK]).model, extract(model, inputs=[BLOCK]).model
    middle = ReferenceEvaluator(modelio.to_proto(front)).run(None, {"images": images})[0]
    (score,) = ReferenceEvaluator(modelio.to_proto(back)).run(None, {BLOCK: middle})
    (expected,) = ReferenceEvaluator(modelio.to_proto(model)).run(None, {"images": images})
    assert np.array_equal(score, expected)
    assert len(front.graph) + len(back.graph) == len(model.graph)
    assert {*front.graph.initializers, *back.graph.initializers} == {*model.graph.initializers}


@pytest.mark.parametrize(("inputs", "outputs"), [((STEM,), (BLOCK,)), ((), (STEM, BLOCK)), ((STEM,), ())])
def test_a_part_is_valid_pure_and_checked(pgc_model: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    model = pgc_model("s")
    before = modelio.to_bytes(model)
    part = extract(model, inputs, outputs).model
    assert modelio.to_bytes(model) == before
    modelio.check(part)
    assert part.metadata_props == model.metadata_props
    assert check_part(model, part).passed
    used = {value for node in part.graph for value in node.inputs}
    assert all(value in used for value in part.graph.initializers.values())


def test_a_wrong_part_fails_the_check(pgc_model: Any) -> None:
    model = pgc_model("s")
    part = extract(model, [STEM], [BLOCK]).model
    name, value = next((n, v) for n, v in part.graph.initializers.items() if n.endswith("weight"))
    assert value.const_value is not None
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.1), name=name)
    assert not check_part(model, part).passed


def test_every_cut_of_a_corpus_model_gives_a_part(corpus_model: Any) -> None:
    model = modelio.load(corpus_model("resnet20_cifar10"))
    sums = {node.outputs[0] for node in model.graph if node.op_type == "Add"}
    # Behind a sum nothing leads around the Relu; inside a residual block the skip connection does.
    cuts = [str(node.outputs[0].name) for node in model.graph if node.op_type == "Relu" and node.inputs[0] in sums]
    assert len(cuts) == 9
    for name in cuts[::3]:
        modelio.check(extract(model, outputs=[name]).model)
        assert check_part(model, extract(model, inputs=[name]).model, runs=1).passed


def test_a_way_around_through_shapes_counts(corpus_model: Any) -> None:
    # The dynamo exporter expands BatchNormalization's parameters by the shape of an earlier tensor.
    model = modelio.load(corpus_model("resnet20_cifar10_dynamo"))
    with pytest.raises(SelectionError, match=r"depends on the model's input 'x' by a way around relu_2"):
        extract(model, inputs=["relu_2"])
    part = extract(model, inputs=["relu_2", "x"]).model
    assert check_part(model, part, runs=1).passed


def test_functions_come_along_only_where_they_are_called() -> None:
    model = modelio.load(rich_model())
    with_function, without = extract(model, ["c"], ["a"]).model, extract(model, outputs=["c"]).model
    assert [node.op_type for node in with_function.graph] == ["swish"]
    assert (len(with_function.functions), with_function.opset_imports) == (1, {"": 17, "local": 1})
    assert (len(without.functions), without.opset_imports) == (0, {"": 17})
    assert check_part(model, with_function).passed
    assert without.doc_string == "about"


def test_captures_of_subgraphs_are_cut_like_inputs() -> None:
    model = modelio.load(rich_model())
    part = extract(model, ["a", "flag"]).model
    modelio.check(part)
    assert [value.name for value in part.graph.inputs] == ["a", "flag"]
    assert [node.op_type for node in part.graph] == ["If"]
    assert check_part(model, part).passed
    assert [len(value.consumers()) for value in part.graph.inputs] == [2, 1]


def test_a_default_stays_an_overridable_input() -> None:
    part = extract(modelio.load(rich_model()), ["a"]).model
    assert [value.name for value in part.graph.inputs] == ["a", "strength"]
    assert "strength" in part.graph.initializers


def test_a_weight_can_be_an_input() -> None:
    model = modelio.load(rich_model())
    part = extract(model, ["x", "w"], ["c"]).model
    assert not part.graph.initializers
    assert check_part(model, part).passed


@pytest.mark.parametrize(
    ("inputs", "outputs", "error", "words"),
    [
        ([], [], OptionError, "neither inputs nor outputs"),
        (["c"], ["c"], OptionError, "both an input and an output"),
        (["nowhere"], [], SelectionError, "no tensor 'nowhere'"),
        (["yt"], [], SelectionError, "inside a subgraph"),
        (["r"], [], SelectionError, "inside function 'swish'"),
        (["flag"], [], SelectionError, "depends on the model's input 'x' by a way around flag"),
        (["x"], ["strong"], SelectionError, "input 'x' leads to none of the outputs strong"),
        (["x", "c"], ["a"], SelectionError, "input 'x' leads to none"),
        ([], ["w"], SelectionError, "no node computes w"),
    ],
    ids=["nothing", "same", "missing", "subgraph", "function", "no-cut", "useless", "shadowed", "no-node"],
)
def test_what_is_no_part_is_refused_by_name(
    inputs: list[str], outputs: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        extract(modelio.load(rich_model()), inputs, outputs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sequence_is_no_place_to_cut() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y)
        <int64 i = {0}> { s = SequenceConstruct(x) y = SequenceAt(s, i) }"""
    with pytest.raises(UnsupportedError, match="'s' is not a plain tensor"):
        extract(modelio.load(onnx.parser.parse_model(text)), ["s"])
