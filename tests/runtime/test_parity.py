"""A comparison sees what differs, and only that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.errors import ModelError, OptionError, ParityError, UnsupportedError
from pgc_graph.runtime.parity import assert_parity, compare, random_feeds


def model(body: str, inputs: str = "float[n, 4] x", outputs: str = "float[n, 4] y") -> ir.Model:
    return modelio.load(
        onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}')
    )


def plus(delta: float) -> ir.Model:
    return model(f"c = Constant<value = float[1] {{{delta}}}>() y = Add(x, c)")


def scaled(factor: float, kind: str = "float", shape: str = "n, 4") -> ir.Model:
    """x * factor in a float type, with factor stored in that type."""
    text = f"c = Constant<value_float = {factor}>() k = CastLike(c, x) y = Mul(x, k)"
    return model(text, f"{kind}[{shape}] x", f"{kind}[{shape}] y")


# What is found.


@pytest.mark.parametrize("delta", [1e-3, 1e-4, 2e-5, -1e-3], ids=str)
def test_a_shift_is_found_and_measured(delta: float) -> None:
    with pytest.raises(ParityError, match="output 'y': max"):
        assert_parity(plus(0), plus(delta))
    report = compare(plus(0), plus(delta), feeds=list(random_feeds(plus(0))))
    assert not report.passed
    assert report.max_difference == pytest.approx(abs(delta), rel=1e-2)


def test_what_rounding_does_is_no_difference() -> None:
    report = assert_parity(plus(0), plus(1e-6))
    assert report.passed
    assert 0 < report.max_difference < 2e-6


@pytest.mark.parametrize(("scale", "passes"), [(1000.0, True), (1.0, False)], ids=["large", "small"])
def test_tolerance_grows_with_magnitude_above_one(scale: float, passes: bool) -> None:
    feeds = [{"x": np.full((2, 4), scale, np.float32)}]
    report = compare(plus(0), plus(1e-3), feeds=feeds)
    assert report.passed is passes
    assert report.outputs[0].max_magnitude == scale


def test_one_changed_element_among_many_is_found() -> None:
    wide = ("float[n, 1000] x", "float[n, 1000] y")
    bump = "c = Constant<value_ints = [0, 999]>() d = Constant<value_floats = [0.001]>() "
    bump += 'i = Unsqueeze(c, a) y = ScatterND<reduction = "add">(x, j, d)'
    changed = bump.replace("i = Unsqueeze(c, a)", "s = Constant<value_ints = [1, 2]>() j = Reshape(c, s)")
    assert_parity(model("y = Identity(x)", *wide), model("y = Identity(x)", *wide))
    with pytest.raises(ParityError):
        assert_parity(model("y = Identity(x)", *wide), model(changed, *wide))


@pytest.mark.parametrize(
    ("body", "outputs", "note"),
    [
        pytest.param("y = Cast<to = 11>(x)", "double[n, 4] y", "float64", id="dtype"),
        pytest.param("y = Transpose(x)", "float[4, n] y", r"float32\[4, 1\] instead of float32\[1, 4\]", id="shape"),
        pytest.param("s = Constant<value_ints = [-1]>() y = Reshape(x, s)", "float[m] y", "instead of", id="rank"),
        pytest.param("z = Sub(x, x) y = Div(z, z)", "float[n, 4] y", "non-finite values differ", id="nan"),
        pytest.param("z = Sub(x, x) y = Div(x, z)", "float[n, 4] y", "non-finite values differ", id="infinity"),
    ],
)
def test_a_difference_of_kind_is_named(body: str, outputs: str, note: str) -> None:
    with pytest.raises(ParityError, match=note):
        assert_parity(model("y = Identity(x)"), model(body, outputs=outputs))


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        pytest.param("z = Sub(x, x) y = Div(x, z)", True, id="same-infinity"),
        pytest.param("z = Sub(x, x) m = Neg(x) y = Div(m, z)", False, id="other-sign"),
        pytest.param("z = Sub(x, x) y = Div(z, z)", False, id="nan-for-infinity"),
    ],
)
def test_non_finite_values_must_be_the_same(body: str, passes: bool) -> None:
    infinite = model("z = Sub(x, x) y = Div(x, z)")
    feeds = [{"x": np.ones((2, 4), np.float32)}]
    assert compare(infinite, model(body), feeds=feeds).passed is passes


@pytest.mark.parametrize(("kind", "passes"), [("x", True), ("z", False)], ids=["equal", "different"])
def test_integers_must_be_equal(kind: str, passes: bool) -> None:
    text = "one = Constant<value_int = 1>() z = Add(x, one) w = Add(x, one) v = Sub(w, one) y = Identity({})"
    inputs, outputs = "int64[n] x", "int64[n] y"
    first, second = (model(text.format(name), inputs, outputs) for name in ("v", kind))
    feeds = [{"x": np.array([10**9, 3], np.int64)}]
    assert compare(first, second, feeds=feeds).passed is passes


def test_booleans_must_be_equal() -> None:
    inputs, outputs = "bool[n] x", "bool[n] y"
    with pytest.raises(ParityError, match="bool values differ"):
        assert_parity(model("y = Identity(x)", inputs, outputs), model("y = Not(x)", inputs, outputs))


def test_the_worst_output_is_named() -> None:
    outputs = "float[n, 4] a, float[n, 4] b"
    body = "c = Constant<value = float[1] {{{}}}>() d = Constant<value = float[1] {{{}}}>() a = Add(x, c) b = Add(x, d)"
    with pytest.raises(ParityError, match="output 'b': max"):
        assert_parity(model(body.format(0, 0), outputs=outputs), model(body.format(0.1, 0.2), outputs=outputs))


def test_a_missing_output_is_a_parity_error() -> None:
    two = model("y = Identity(x) z = Neg(x)", outputs="float[n, 4] y, float[n, 4] z")
    with pytest.raises(ParityError, match="1 outputs instead of 2"):
        assert_parity(two, plus(0))


def test_a_candidate_that_cannot_run_is_a_model_error() -> None:
    broken = model("s = Constant<value_ints = [7]>() y = Reshape(x, s)", outputs="float[7] y")
    with pytest.raises(ModelError, match="onnxruntime cannot run"):
        assert_parity(plus(0), broken)


# Coarse types.


@pytest.mark.parametrize("kind", ["float16", "float", "double"])
def test_one_unit_in_the_last_place_passes(kind: str) -> None:
    epsilon = {"float16": 2.0**-10, "float": 2.0**-23, "double": 2.0**-23}[kind]
    report = assert_parity(scaled(1.0, kind), scaled(1.0 + epsilon, kind))
    assert report.max_difference > 0


@pytest.mark.parametrize("kind", ["float16", "float", "double"])
def test_two_percent_do_not_pass_in_any_type(kind: str) -> None:
    with pytest.raises(ParityError):
        assert_parity(scaled(1.0, kind), scaled(1.02, kind))


def typed(untyped: ir.Model) -> ir.Model:
    """State the types inside, as exporters do."""
    return modelio.load(onnx.shape_inference.infer_shapes(modelio.to_proto(untyped)))


def test_float16_inside_a_float32_model_counts() -> None:
    body = (
        "h = Cast<to = 10>(x) c = Constant<value_float = {}>() k = Cast<to = 10>(c) m = Mul(h, k) y = Cast<to = 1>(m)"
    )
    first, second = model(body.format(1.0)), model(body.format(1.0 + 2.0**-10))
    report = assert_parity(typed(first), typed(second))
    assert report.outputs[0].tolerance > report.tolerance
    assert report.max_difference > 2e-4


def test_float16_that_is_only_stored_does_not_count() -> None:
    body = "c = Constant<value_float = {}>() k = Cast<to = 10>(c) b = Cast<to = 1>(k) y = Mul(x, b)"
    with pytest.raises(ParityError):
        assert_parity(typed(model(body.format(1.0))), typed(model(body.format(1.0 + 2.0**-9))))


# What is fed.


@pytest.mark.parametrize(
    ("inputs", "metadata", "expected"),
    [
        pytest.param("float[n, 3, 32, 48] x", {}, [(1, 3, 32, 48), (3, 3, 32, 48), (4, 3, 32, 48)], id="batch-varies"),
        pytest.param("float[n, 24, 32, 3] x", {}, [(1, 24, 32, 3), (3, 24, 32, 3), (4, 24, 32, 3)], id="nhwc"),
        pytest.param(
            "float[n, h, w, 3] x", {"pgc.image_size": "8x9"}, [(1, 8, 9, 3), (3, 8, 9, 3), (4, 8, 9, 3)], id="size"
        ),
        pytest.param("float[n, 3, h, w] x", {}, [(1, 3, 32, 32), (3, 3, 32, 32), (4, 3, 32, 32)], id="size-unknown"),
        pytest.param(
            "float[n, h, w, c] x", {"pgc.layout": "NHWC"}, [(1, 32, 32, 3), (3, 32, 32, 3), (4, 32, 32, 3)], id="layout"
        ),
        pytest.param("float[2, 5] x", {}, [(2, 5)] * 3, id="fixed"),
        pytest.param("float x", {}, [()] * 3, id="scalar"),
    ],
)
def test_feeds_have_the_shapes_of_the_input(
    inputs: str, metadata: dict[str, str], expected: list[tuple[int, ...]]
) -> None:
    fed = model("c = Constant<value_float = 1.0>() y = Add(x, c)", inputs, inputs.replace(" x", " y"))
    fed.metadata_props.update(metadata)
    feeds = list(random_feeds(fed, runs=3))
    assert [feed["x"].shape for feed in feeds] == expected
    assert all(feed["x"].dtype == np.float32 and feed["x"].min() >= 0 and feed["x"].max() < 1 for feed in feeds)


@pytest.mark.parametrize("kind", ["float16", "double", "int64", "uint8", "bool", "int32"])
def test_feeds_have_the_type_of_the_input(kind: str) -> None:
    fed = model("y = Identity(x)", f"{kind}[n, 50] x", f"{kind}[n, 50] y")
    (feed,) = random_feeds(fed, runs=1)
    assert feed["x"].dtype == np.dtype(kind)
    assert len(np.unique(feed["x"])) > 1
    assert assert_parity(fed, fed).max_difference == 0


def test_feeds_are_seeded() -> None:
    first, again, other = (next(random_feeds(plus(0), seed=seed))["x"] for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_given_shapes_are_fed() -> None:
    # The checker, and so modelio, wants a rank; onnxruntime does not.
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[] x) => (float[] y) { y = Relu(x) }'
    unranked = ir.from_proto(onnx.parser.parse_model(text))
    with pytest.raises(UnsupportedError, match="--input-shape x="):
        next(random_feeds(unranked))
    assert next(random_feeds(unranked, fixed={"x": (2, 7)}))["x"].shape == (2, 7)


@pytest.mark.parametrize("fixed", [{"z": (1, 4)}, {"x": (1, 5)}, {"x": (4,)}], ids=repr)
def test_a_shape_that_does_not_fit_is_an_option_error(fixed: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(OptionError):
        next(random_feeds(plus(0), fixed=fixed))


def test_text_cannot_be_drawn() -> None:
    with pytest.raises(UnsupportedError, match="'x'"):
        next(random_feeds(model("y = Identity(x)", "string[n] x", "string[n] y")))


def test_inputs_with_a_default_are_left_alone() -> None:
    gated = modelio.load(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x, float[1] gate) => (float[n, 4] y)'
            "<float[1] gate = {1}> { y = Mul(x, gate) }"
        )
    )
    assert list(next(random_feeds(gated))) == ["x"]
    assert assert_parity(plus(0), gated).passed
    assert assert_parity(gated, plus(0)).passed


def test_a_renamed_input_is_the_same_function() -> None:
    assert assert_parity(plus(0), model("y = Identity(z)", "float[n, 4] z")).passed


# Real models.


def test_a_small_change_in_a_real_model_is_found(pgc_model: Callable[[str], ir.Model]) -> None:
    original, changed = pgc_model("s"), pgc_model("s")
    assert assert_parity(original, changed).max_difference == 0
    value = changed.graph[0].inputs[1]
    assert value is not None
    assert value.const_value is not None
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.02), name=value.name)
    with pytest.raises(ParityError, match="'prob_pointing'"):
        assert_parity(original, changed)


def test_bytes_and_models_compare_alike(corpus_model: Callable[[str], Path]) -> None:
    path = corpus_model("resnet20_cifar10")
    loaded = modelio.load(path)
    report = compare(path.read_bytes(), loaded, feeds=list(random_feeds(loaded, runs=2)))
    assert (report.passed, report.max_difference, report.runs) == (True, 0.0, 2)
