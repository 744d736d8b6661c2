"""Which input is the image, which output the score, and what shape to feed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.analysis.interface import dimensions, feed_shapes, image_input, real_inputs, score_output
from pgc_graph.errors import OptionError, UnsupportedError


def model(inputs: str, outputs: str = "float[1] y", metadata: dict[str, str] | None = None) -> ir.Model:
    """A model with these inputs and outputs, declared in ONNX text; outputs are constants."""
    names = [part.split()[-1] for part in outputs.split(";")]
    nodes = "".join(f"{name} = Constant<value = float[1] {{1}}>()\n" for name in names)
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs.replace(";", ",")}) {{ {nodes} }}'
    proto = onnx.parser.parse_model(text)
    onnx.helper.set_model_props(proto, metadata or {})
    return ir.from_proto(proto)


@pytest.mark.parametrize(
    ("inputs", "shape", "batch"),
    [
        pytest.param("float[n, 3, 32, 48] x", (None, 3, 32, 48), None, id="nchw"),
        pytest.param("float16[n, 32, 48, 3] x", (None, 32, 48, 3), None, id="nhwc-float16"),
        pytest.param("double[8, 3, 32, 32] x", (8, 3, 32, 32), 8, id="fixed-batch-float64"),
        pytest.param("float[n, c, h, w] x", (None, None, None, None), None, id="all-open"),
    ],
)
def test_image_input_is_found(inputs: str, shape: tuple[int | None, ...], batch: int | None) -> None:
    found = image_input(model(inputs))
    assert (found.name, found.shape, found.fixed_batch) == ("x", shape, batch)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        pytest.param("", r"0 inputs \(none\)", id="no-input"),
        pytest.param("float[n, 3, 32, 32] x, float[n, 3, 32, 32] z", "2 inputs \\('x', 'z'\\)", id="two-inputs"),
        pytest.param("float[n, 1, 32, 32] x", "nx1x32x32; expected 3 channels", id="one-channel"),
        pytest.param("float[n, 4, h, w] x", "expected 3 channels", id="four-channels"),
        pytest.param("float[n, 3] x", "expected a batch of images", id="rank-two"),
        pytest.param("float x", "a scalar", id="scalar"),
        pytest.param("float[] x", "of unknown rank", id="unknown-rank"),
        pytest.param("int8[n, 3, 32, 32] x", "INT8", id="signed-bytes"),
    ],
)
def test_what_is_no_image_input_is_unsupported(inputs: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        image_input(model(inputs))
    assert "\n" not in str(caught.value)


def test_inputs_with_a_default_need_not_be_fed() -> None:
    gated = model("float[n, 3, 8, 8] x, float[1] gate")
    gate = next(value for value in gated.graph.inputs if value.name == "gate")
    gate.const_value = ir.tensor([1.0], name="gate")
    gated.graph.register_initializer(gate)
    assert [value.name for value in real_inputs(gated)] == ["x"]
    assert image_input(gated).name == "x"


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        pytest.param("float[n] a", "a", id="probability"),
        pytest.param("float[n, 10] a", "a", id="classes"),
        pytest.param("float[n, 8, 4, 4] a; float[n, 1] b", "b", id="features-then-score"),
        pytest.param("float[n] a; float[n, 10] b", "b", id="last-of-two"),
        pytest.param("float[n, 2] a; float[n, 8, 4, 4] b", "a", id="score-then-features"),
    ],
)
def test_score_output_is_found(outputs: str, expected: str) -> None:
    assert score_output(model("float[n, 3, 8, 8] x", outputs)).name == expected


def test_a_model_without_a_score_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="'a'"):
        score_output(model("float[n, 3, 8, 8] x", "float[n, 8, 4, 4] a"))


def test_dimensions_are_none_where_open() -> None:
    value = model("float[n, 3, ?, 8] x").graph.inputs[0]
    assert dimensions(value) == (None, 3, None, 8)
    assert dimensions(model("float[] x").graph.inputs[0]) is None


SIZE = {"pgc.image_size": "24x40"}


@pytest.mark.parametrize(
    ("inputs", "metadata", "expected"),
    [
        pytest.param("float[n, 3, h, w] x", SIZE, (2, 3, 24, 40), id="size-from-metadata"),
        pytest.param("float[n, h, w, 3] x", SIZE, (2, 24, 40, 3), id="channels-last"),
        pytest.param("float[n, h, w, c] x", SIZE | {"pgc.layout": "NHWC"}, (2, 24, 40, 3), id="layout-from-metadata"),
        pytest.param("float[n, 3, h, w] x", {}, (2, 3, None, None), id="size-unknown"),
        pytest.param("float[1, 3, 8, 8] x", SIZE, (1, 3, 8, 8), id="all-fixed"),
        pytest.param("float[n, t, 16] x", SIZE, (2, None, 16), id="no-image"),
        pytest.param("float[] x", SIZE, None, id="unknown-rank"),
        pytest.param("float x", SIZE, (), id="scalar"),
    ],
)
def test_feed_shapes_come_from_the_model(
    inputs: str, metadata: dict[str, str], expected: tuple[int | None, ...] | None
) -> None:
    assert feed_shapes(model(inputs, metadata=metadata), {}, batch=2) == {"x": expected}


def test_given_shapes_win_over_metadata() -> None:
    open_size = model("float[n, 3, h, w] x, float[n] z", metadata=SIZE)
    assert feed_shapes(open_size, {"x": (5, 3, 8, 8)}) == {"x": (5, 3, 8, 8), "z": (1,)}


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        pytest.param("y", (1, 3, 8, 8), "no input 'y'.*has x", id="unknown-name"),
        pytest.param("x", (1, 3, 8), "1x3x8 does not fit input 'x'", id="rank"),
        pytest.param("x", (1, 1, 8, 8), r"\?x3x\?x8", id="channels"),
    ],
)
def test_a_shape_that_does_not_fit_is_an_option_error(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        feed_shapes(model("float[n, 3, h, 8] x"), {name: shape})


def test_corpus_models_are_classifiers(corpus_model: Callable[[str], Path], corpus_names: tuple[str, ...]) -> None:
    for name in corpus_names:
        loaded = modelio.load(corpus_model(name))
        assert image_input(loaded).name == "x"
        assert score_output(loaded).name == "y"
