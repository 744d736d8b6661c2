"""Rules of matrix products, judged by torch and by central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from gradient_check import check_rule, opsets

SEEDS = st.integers(0, 2**31)
SIZES = st.integers(1, 4)
SCALES = st.sampled_from([1.0, 0.5, -2.0])
PRODUCTS = mutually_broadcastable_shapes(signature="(m?,n),(n,p?)->(m?,p?)", max_dims=2, max_side=3, min_side=1)


@given(data=st.data(), m=SIZES, k=SIZES, n=SIZES, alpha=SCALES, beta=SCALES, opset=opsets(), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_gemm(data: Any, m: int, k: int, n: int, alpha: float, beta: float, opset: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turned_a, turned_b = data.draw(st.booleans()), data.draw(st.booleans())
    a = rng.normal(size=(k, m) if turned_a else (m, k))
    b = rng.normal(size=(n, k) if turned_b else (k, n))
    c_shapes = [(m, n), (n,), (1, n), (m, 1), (1, 1), (1,), ()] + ([None] if opset >= 11 else [])
    c_shape = data.draw(st.sampled_from(c_shapes))
    inputs = [a, b, *([] if c_shape is None else [rng.normal(size=c_shape)])]
    attributes = {"transA": int(turned_a), "transB": int(turned_b), "alpha": alpha, "beta": beta}

    def reference(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        product = alpha * (a.T if turned_a else a) @ (b.T if turned_b else b)
        return product if c is None else product + beta * c

    constants = data.draw(st.sampled_from([[], [1]]))
    batch = {} if c_shape in ((m, n), (m, 1)) and opset < 13 else {0: (1 if turned_a else 0,)}
    check_rule("Gemm", inputs, attributes, opset=opset, reference=reference, constants=constants, symbolic=batch)


@given(shapes=PRODUCTS, opset=opsets(), constant=st.sampled_from([None, 0, 1]), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_matmul_of_any_ranks(shapes: Any, opset: int, constant: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=shape) for shape in shapes.input_shapes)
    constants = [] if constant is None else [constant]
    check_rule("MatMul", [a, b], opset=opset, reference=torch.matmul, constants=constants, symbolic={}, seed=seed)


@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize("shapes", [((2, 4), (4, 3)), ((2, 5, 4), (4, 3)), ((2, 3, 5, 4), (4, 6)), ((2, 4), (4,))])
def test_matmul_of_a_symbolic_batch_with_weights(shapes: tuple[tuple[int, ...], ...], opset: int) -> None:
    a, b = (np.random.default_rng(0).normal(size=shape) for shape in shapes)
    model = check_rule("MatMul", [a, b], opset=opset, reference=torch.matmul, constants=[1], wrt=[0])
    written = [node.op_type for node in model.model.graph][1:]
    assert "Transpose" not in written, "a constant matrix is transposed at every run"
    check_rule("MatMul", [a, b], opset=opset, reference=torch.matmul, constants=[1])


@pytest.mark.parametrize("opset", [9, 17])
def test_attention_scores_with_a_symbolic_batch_and_sequence(opset: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 3, 4, 6))
    symbolic = {0: (0, 2), 1: (0,)}
    check_rule("MatMul", [a, b], opset=opset, reference=torch.matmul, symbolic=symbolic)


def test_matmul_whose_broadcasting_only_shows_at_run_time() -> None:
    rng = np.random.default_rng(0)
    for first, second in ((1, 3), (3, 1), (3, 3)):
        a, b = rng.normal(size=(first, 5, 4)), rng.normal(size=(second, 4, 6))
        check_rule("MatMul", [a, b], opset=17, reference=torch.matmul, symbolic={0: (0,), 1: (0,)})
