"""Products that are differentiated in one step with what is around them: SiLU, gates, sums of repeated gradients."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from gradient_check import check_rule
from gradient_models import make, run
from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.gradient import GradientModel, gradient_graph

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
SILU = "(float[n, 4] x) => (float[n] y) { s = Sigmoid (x) m = Mul (x, s) y = ReduceSum <keepdims = 0> (m, axis) }"
HEADER = "<int64[1] axis = {1}>"


def silu(text: str = SILU) -> GradientModel:
    return gradient_graph(make(text.replace("{ s", f"{HEADER} {{ s")), "y", ["x"])


def operators(gradient: GradientModel) -> Counter[str]:
    return Counter(node.op_type for node in gradient.model.graph)


def slope(x: np.ndarray) -> np.ndarray:
    s = 1 / (1 + np.exp(-x.astype(np.float64)))
    return s * (1 + x * (1 - s))


@pytest.mark.parametrize("factors", ["x, s", "s, x"])
def test_silu_takes_two_products_and_a_sum(factors: str) -> None:
    gradient = silu(SILU.replace("x, s", factors))
    np.testing.assert_allclose(run(gradient.model, x=X)["x_grad"], slope(X), atol=1e-6)
    assert operators(gradient)["Mul"] == 1 + 2
    assert operators(gradient)["Add"] == 1


def test_silu_whose_sigmoid_is_read_elsewhere_too() -> None:
    gradient = silu(SILU.replace("y =", "t = Mul (m, s) y =").replace("(m, axis)", "(t, axis)"))
    x = torch.tensor(X.astype(np.float64), requires_grad=True)
    (expected,) = torch.autograd.grad((x * torch.sigmoid(x) ** 2).sum(), x)
    np.testing.assert_allclose(run(gradient.model, x=X)["x_grad"], expected, atol=1e-6)


def test_silu_whose_sigmoid_is_asked_for() -> None:
    gradient = gradient_graph(make(SILU.replace("{ s", f"{HEADER} {{ s")), "y", ["x", "s"])
    results = run(gradient.model, x=X)
    np.testing.assert_allclose(results["x_grad"], slope(X), atol=1e-6)
    np.testing.assert_array_equal(results["s_grad"], X)


def test_a_rule_of_ones_own_for_sigmoid_is_not_passed_over() -> None:
    def twice(context: Context) -> Gradients:
        return [context.emit("Add", context.gradient, context.gradient)]

    model = make(SILU.replace("{ s", f"{HEADER} {{ s"))
    gradient = gradient_graph(model, "y", ["x"], rules={("", "Sigmoid"): twice})
    expected = 1 / (1 + np.exp(-X)) + 2 * X
    np.testing.assert_allclose(run(gradient.model, x=X)["x_grad"], expected, atol=1e-6)


def test_a_gradient_of_a_gradient() -> None:
    first = silu()
    total = "x_grad"
    second = gradient_graph(first.model, total, ["x"], seeded=True)
    x = torch.tensor(X.astype(np.float64), requires_grad=True)
    (once,) = torch.autograd.grad(torch.nn.functional.silu(x).sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(once.sum(), x)
    results = run(second.model, x=X, **{second.seeds[0][1]: np.ones_like(X)})
    np.testing.assert_allclose(results[second.gradients[0].output], expected, atol=1e-6)


@pytest.mark.parametrize("swapped", [False, True], ids=["x gate", "gate x"])
@pytest.mark.parametrize("spatial", [(5,), (4, 3), (2, 3, 2)], ids=["1-D", "2-D", "3-D"])
def test_a_gate_over_channels(spatial: tuple[int, ...], swapped: bool) -> None:
    rng = np.random.default_rng(0)
    x, gate = rng.normal(size=(2, 3, *spatial)), rng.normal(size=(2, 3, *[1] * len(spatial)))
    gradient = check_rule(
        "Mul",
        [gate, x] if swapped else [x, gate],
        opset=17,
        reference=torch.mul,
        symbolic={0: (0,), 1: (0,)},
    )
    assert operators(gradient)["GlobalAveragePool"] == 1


def test_what_was_repeated_is_not_repeated_to_be_added() -> None:
    text = """(float[n, 2, 3, 3] x) => (float[n] y) <int64[3] axes = {1, 2, 3}>
       { p = GlobalAveragePool (x) q = Mul (p, p) m = Mul (x, q) a = Add (m, x) y = ReduceSum <keepdims = 0> (a, axes) }"""
    gradient = gradient_graph(make(text), "y", ["x"])
    images = np.random.default_rng(0).normal(size=(2, 2, 3, 3)).astype(np.float32)
    x = torch.tensor(images.astype(np.float64), requires_grad=True)
    (expected,) = torch.autograd.grad((x * x.mean((2, 3), keepdim=True) ** 2 + x).sum(), x)
    np.testing.assert_allclose(run(gradient.model, x=images)["x_grad"], expected, atol=1e-5)
    expanded = [str(node.outputs[0].name) for node in gradient.model.graph if node.op_type == "Expand"]
    assert expanded == ["y_grad/Expand_output_0", "a_grad"], "that of the ones to begin with, and the one that m reads"


def test_relu_passes_the_smallest_numbers() -> None:
    tiny = np.finfo(np.float32).tiny
    x = np.array([[-1, -tiny, 0, tiny, 2 * tiny, 1e30, np.inf, 1]], np.float32)
    gradient = gradient_graph(make("(float[n, 8] x) => (float[n, 8] y) { y = Relu (x) }"), "y", ["x"], seeded=True)
    results = run(gradient.model, x=x, y_seed=np.full_like(x, 3))
    np.testing.assert_array_equal(results["x_grad"], [[0, 0, 0, 3, 3, 3, 3, 3]])
