"""What `gradient_graph` declines, and in which words."""

from __future__ import annotations

import pytest

from gradient_models import make
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError


def test_every_operator_without_a_rule_is_named() -> None:
    text = "(float[n] x) => (float[n] y) { a = Sin (x) b = Cos (a) e = Exp (b) c = Tan (e) d = Sinh (c) y = Neg (d) }"
    with pytest.raises(UnsupportedError, match=r"'d' \(Sinh.*'c' \(Tan.*'b' \(Cos.* and 1 more") as raised:
        gradient_graph(make(text), "y", ["x"])
    assert "\n" not in str(raised.value)


def test_subgraphs_are_refused_by_name() -> None:
    text = """(float[n] x, bool c) => (float[n] y) { h = Neg (x) [branch] y = If (c) <
        then_branch = g () => (float[n] t) { t = Neg (h) }, else_branch = f () => (float[n] e) { e = Exp (h) }> }"""
    with pytest.raises(UnsupportedError, match=r"node 'branch' \(If, tensor 'y'\)"):
        gradient_graph(make(text), "y", ["x"])


def test_a_gradient_of_the_wrong_shape_is_refused() -> None:
    model = make("(float[n, 2] x) => (float[n, 2] y) <int64[1] a = {1}> { s = ReduceSum (x, a) y = Add (x, s) }")
    rules = {("", "ReduceSum"): lambda context: [context.gradient]}
    with pytest.raises(UnsupportedError, match=r"its rule returned a gradient of FLOAT \[n,1\] for tensor 'x'"):
        gradient_graph(model, "y", ["x"], seeded=True, rules=rules)


@pytest.mark.parametrize(
    ("outputs", "wrt", "error", "message"),
    [
        pytest.param("z", ["x"], SelectionError, "no tensor of the main graph is named 'z'", id="unknown-output"),
        pytest.param("y", ["z"], SelectionError, "no tensor of the main graph is named 'z'", id="unknown-tensor"),
        pytest.param("y", ["k"], SelectionError, "tensor 'k' holds INT64, expected floats", id="integers"),
        pytest.param("y", [], OptionError, "no tensors given as wrt", id="nothing-asked-for"),
        pytest.param([], ["x"], OptionError, "no tensors given as outputs", id="nothing-to-differentiate"),
        pytest.param("y", ["x", "x"], OptionError, "tensor 'x' is given twice as wrt", id="twice"),
        pytest.param(
            "h", ["x"], UnsupportedError, r"output 'h' is of shape \[n,2\], expected one number a row", id="row"
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    outputs: str | list[str], wrt: list[str], error: type[Exception], message: str
) -> None:
    text = """(float[n, 2] x) => (float[n] y, int64[2] k) <int64[1] a = {1}>
      { h = Exp (x) y = ReduceSum <keepdims = 0> (h, a) k = Shape (h) }"""
    with pytest.raises(error, match=message) as raised:
        gradient_graph(make(text), outputs, wrt)
    assert "\n" not in str(raised.value)


def test_an_old_opset_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="gradients need opset 9, the model has 8; convert it first"):
        gradient_graph(make("(float[n] x) => (float[n] y) { y = Exp (x) }", opset=8), "y", ["x"])
