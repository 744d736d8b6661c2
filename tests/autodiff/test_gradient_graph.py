"""What `gradient_graph` promises about whole graphs; the rules themselves have tests of their own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from gradient_models import OPTIONS, make, run
from pgc_graph import modelio
from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.gradient import Gradient, GradientModel, gradient_graph
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.gates import insert_gates
from pgc_graph.runtime.session import open_session

CLASSIFIER = """(float[n, 4] x) => (float[n, 1] y)
   <float[4, 3] w = {1, -2, 0.5, 1, 0.25, -1, 2, 1, -0.5, 0.75, -1.5, 1}, float[3] b = {0.5, -0.25, 1},
    float[3, 1] v = {1, -2, 3}>
   { h = MatMul (x, w) i = Add (h, b) s = Sigmoid (i) m = Mul (i, s) z = MatMul (m, v) y = Sigmoid (z) }"""


def operators(gradient: GradientModel, before: ir.Model) -> Counter[str]:
    """Count the operators that were added."""
    return Counter(n.op_type for n in gradient.model.graph) - Counter(n.op_type for n in before.graph)


def classifier_in_torch(x: np.ndarray) -> dict[str, torch.Tensor]:
    model = make(CLASSIFIER)
    values = {name: torch.tensor(v.const_value.numpy().copy()) for name, v in model.graph.initializers.items()}
    values["x"] = torch.tensor(x)
    for value in values.values():
        value.requires_grad_(True)
    values["i"] = values["x"] @ values["w"] + values["b"]
    values["s"] = torch.sigmoid(values["i"])
    values["m"] = values["i"] * values["s"]
    values["y"] = torch.sigmoid(values["m"] @ values["v"])
    return values


X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def test_gradients_by_inputs_inner_tensors_and_initializers_at_once() -> None:
    wrt = ["x", "w", "b", "v", "i", "s", "m"]
    gradient = gradient_graph(make(CLASSIFIER), "y", wrt)
    results, expected = run(gradient.model, x=X), classifier_in_torch(X)
    assert list(results) == ["y", *(f"{name}_grad" for name in wrt)]
    assert gradient.gradients == tuple(Gradient(name, f"{name}_grad") for name in wrt)
    np.testing.assert_allclose(results["y"], expected["y"].detach(), atol=1e-6)
    slopes = torch.autograd.grad(expected["y"].sum(), [expected[name] for name in wrt])
    for name, slope in zip(wrt, slopes, strict=True):
        np.testing.assert_allclose(results[f"{name}_grad"], slope, atol=1e-6)


def test_each_row_has_its_own_gradient() -> None:
    gradient = gradient_graph(make(CLASSIFIER), "y", ["x", "m"]).model
    together = run(gradient, x=X)
    for row in range(len(X)):
        alone = run(gradient, x=X[row : row + 1])
        for name in ("x_grad", "m_grad"):
            np.testing.assert_allclose(together[name][row : row + 1], alone[name], atol=1e-6)


def test_forward_tensors_are_reused() -> None:
    model = make(CLASSIFIER)
    added = operators(gradient_graph(model, "y", ["x"]), model)
    assert added["Sigmoid"] == added["Transpose"] == 0
    assert added["Gemm"] == 2, "one product a product"


def test_only_the_part_between_is_differentiated() -> None:
    text = """(float[n, 4] x) => (float[n] y, int64[n] k) <int64[1] axes = {1}> { a = Sin (x) b = Sigmoid (a)
      c = ReduceSum <keepdims = 0> (b, axes) y = Exp (c) k = ArgMax <axis = 1, keepdims = 0> (b) }"""
    model = make(text)
    results = run(gradient_graph(model, "y", ["a"]).model, x=X)
    b = 1 / (1 + np.exp(-np.sin(X)))
    expected = np.exp(b.sum(1, keepdims=True)) * b * (1 - b)
    np.testing.assert_allclose(results["a_grad"], expected, rtol=1e-5)
    with pytest.raises(UnsupportedError) as raised:
        gradient_graph(model, "y", ["x"])
    assert "no gradient rule for node 'a' (Sin, tensor 'a')" in str(raised.value)


def test_what_has_no_gradient_needs_no_rule() -> None:
    """The condition of Where is a step function of x, by operators without rules."""
    text = """(float[n] x) => (float[n] y)
      { s = Sin (x) c = IsNaN (s) z = Neg (x) y = Where (c, x, z) }"""
    results = run(gradient_graph(make(text), "y", ["x"]).model, x=[1.0, -2.0])
    np.testing.assert_array_equal(results["x_grad"], [-1.0, -1.0])


def test_zero_gradients_are_there_and_are_said() -> None:
    text = "(float[n, 2] x, float[n, 2] other) => (float[n, 2] z, float[n, 2] y) { y = Neg (x) z = Exp (other) }"
    gradient = gradient_graph(make(text), "y", ["other", "x"], seeded=True)
    assert [(skip.subject, "zero" in skip.reason) for skip in gradient.skipped] == [("other", True)]
    ones = np.ones((3, 2))
    results = run(gradient.model, x=ones, other=ones, y_seed=2 * ones)
    np.testing.assert_array_equal(results["other_grad"], 0 * ones)
    np.testing.assert_array_equal(results["x_grad"], -2 * ones)


def test_gradient_of_an_output_by_itself_is_its_seed() -> None:
    gradient = gradient_graph(make("(float[n] x) => (float[n] y) { y = Exp (x) }"), "y", ["y", "x"], seeded=True)
    results = run(gradient.model, x=[0.0, 1.0], y_seed=[2.0, 3.0])
    np.testing.assert_array_equal(results["y_grad"], [2.0, 3.0])


def test_several_outputs_with_seeds() -> None:
    text = "(float[n, 2] x) => (float[n, 2] a, float[n, 2] b) { a = Exp (x) b = Mul (x, a) }"
    gradient = gradient_graph(make(text), ["a", "b"], ["x", "a"], seeded=True)
    assert gradient.seeds == (("a", "a_seed"), ("b", "b_seed"))
    x, p, q = np.random.default_rng(0).normal(size=(3, 4, 2))
    results = run(gradient.model, x=x, a_seed=p, b_seed=q)
    np.testing.assert_allclose(results["a_grad"], p + q * x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results["x_grad"], (p + q * x) * np.exp(x) + q * np.exp(x), rtol=1e-5, atol=1e-6)


def test_gates_are_differentiated_where_they_stand() -> None:
    model = insert_gates(make(CLASSIFIER), ["m", "h"]).model
    gradient = gradient_graph(model, "y", ["gate::m", "gate::h"]).model
    feeds = {"x": X, "gate::m": 0.5, "gate::h": 0.75}
    results = run(gradient, **feeds)
    for name in ("gate::m", "gate::h"):
        assert results[f"{name}_grad"].shape == ()
        high, low = (run(model, **{**feeds, name: feeds[name] + step})["y"].sum() for step in (0.01, -0.01))
        assert results[f"{name}_grad"] == pytest.approx((high - low) / 0.02, rel=1e-2)


def test_gradient_of_a_gradient() -> None:
    first = gradient_graph(make(CLASSIFIER), "y", ["i"])
    second = gradient_graph(first.model, "i_grad", ["x"], seeded=True)
    seed = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    values = classifier_in_torch(X)
    (once,) = torch.autograd.grad(values["y"].sum(), values["i"], create_graph=True)
    (twice,) = torch.autograd.grad((once * torch.tensor(seed)).sum(), values["x"])
    results = run(second.model, x=X, i_grad_seed=seed)
    np.testing.assert_allclose(results["x_grad"], twice, atol=1e-5)


def test_names_are_fresh_where_the_model_has_them_already() -> None:
    text = "(float[n] x, float[n] x_grad) => (float[n] y) { y = Mul (x, x_grad) }"
    gradient = gradient_graph(make(text), "y", ["x", "x_grad"])
    assert [g.output for g in gradient.gradients] == ["x_grad_1", "x_grad_grad"]
    results = run(gradient.model, x=[2.0], x_grad=[3.0])
    assert (results["x_grad_1"], results["x_grad_grad"]) == (3.0, 2.0)


def test_initializers_that_are_inputs_for_their_age_alone_stay_constants() -> None:
    text = "(float[n, 2] x, float[2] w) => (float[n, 2] y) { s = Exp (w) y = Mul (x, s) }"
    proto = onnx.parser.parse_model(f'<ir_version: 3, opset_import: ["": 9]> g {text}')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 1], np.float32), "w"))
    gradient = gradient_graph(modelio.load(proto), "y", ["w"], seeded=True).model
    assert [value.name for value in gradient.graph.inputs] == ["x", "y_seed"]
    results = run(gradient, x=[[1, 2], [3, 4]], y_seed=np.ones((2, 2)))
    np.testing.assert_allclose(results["w_grad"], [4, 6 * np.e], rtol=1e-5)


def test_functions_are_inlined() -> None:
    text = """(float[n] x) => (float[n] y) { h = local.silu (x) y = local.silu (h) }
      <domain: "local", opset_import: ["": 17]> silu (a) => (b) { s = Sigmoid (a) b = Mul (a, s) }"""
    gradient = gradient_graph(make(text), "y", ["x"]).model
    assert not gradient.functions
    x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    torch.nn.functional.silu(torch.nn.functional.silu(x)).sum().backward()
    np.testing.assert_allclose(run(gradient, x=x.detach())["x_grad"], x.grad, atol=1e-6)


def straight_through(context: Context) -> Gradients:
    return [context.gradient]


def test_a_rule_of_the_user_wins() -> None:
    model = make("(float[n] x) => (float[n] y) { r = Round (x) y = Mul (r, r) }")
    rules = {("", "Round"): straight_through}
    results = run(gradient_graph(model, "y", ["x"], rules=rules).model, x=[1.2, -2.7])
    np.testing.assert_array_equal(results["x_grad"], [2.0, -6.0])


def test_broadcasting_that_only_shows_at_run_time() -> None:
    text = "(float[n, 3] a, float[m, 3] b) => (float[k, 3] y) { y = Mul (a, b) }"
    gradient = gradient_graph(make(text), "y", ["a", "b"], seeded=True).model
    rng = np.random.default_rng(0)
    for rows in ((1, 4), (4, 1), (4, 4)):
        a, b, seed = (rng.normal(size=(n, 3)).astype(np.float32) for n in (*rows, 4))
        results = run(gradient, a=a, b=b, y_seed=seed)
        for name, own, other in (("a_grad", a, b), ("b_grad", b, a)):
            full = seed * other
            expected = full.sum(0, keepdims=True) if len(own) == 1 else full
            np.testing.assert_allclose(results[name], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UnsupportedError, match="only shows at run time, which takes opset 13"):
        gradient_graph(make(text, opset=12), "y", ["a", "b"], seeded=True)


@pytest.mark.parametrize("element", ["float16", "double"])
def test_gradients_have_the_type_of_their_tensors(element: str) -> None:
    text = f"({element}[n, 3] x, float[3] w) => ({element}[n] y) <int64[1] a = {{1}}> "
    number = 10 if element == "float16" else 11
    text += f"{{ c = Cast <to = {number}> (w) p = Mul (x, c) q = Sigmoid (p) y = ReduceSum <keepdims = 0> (q, a) }}"
    gradient = gradient_graph(make(text), "y", ["x", "w", "c"]).model
    modelio.check(gradient)
    dtype = np.float16 if element == "float16" else np.float64
    x, w = np.random.default_rng(0).normal(size=(2, 3)).astype(dtype), np.array([1, -1, 0.5], np.float32)
    y, gx, gw, gc = open_session(gradient, OPTIONS).run({"x": x, "w": w})
    assert [array.dtype for array in (y, gx, gw, gc)] == [dtype, dtype, np.float32, dtype]
    s = 1 / (1 + np.exp(-(x.astype(np.float64) * w)))
    np.testing.assert_allclose(gx, s * (1 - s) * w, atol=2e-3 if dtype == np.float16 else 1e-9)


def test_a_chain_of_nodes_longer_than_the_recursion_limit() -> None:
    lines = " ".join(f"t{i + 1} = Sigmoid (t{i})" for i in range(1200))
    model = make(f"(float[n] t0) => (float[n] t1200) {{ {lines} }}")
    gradient = gradient_graph(model, "t1200", ["t0", "t1190"])
    assert len(list(gradient.model.graph)) < 5 * 1200
    assert run(gradient.model, t0=[0.5])["t1190_grad"] > 0
