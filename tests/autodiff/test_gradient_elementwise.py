"""Rules of elementwise arithmetic, judged by torch and by central differences."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

from gradient_check import check_rule, off_kinks, opsets
from pgc_graph.errors import UnsupportedError

BINARY = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Pow": torch.pow}
UNARY = {
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Identity": torch.clone,
    "Dropout": torch.clone,
    "Erf": torch.erf,
}
SEVERAL = {
    "Sum": lambda *values: sum(values),
    "Mean": lambda *values: sum(values) / len(values),
    "Max": lambda *values: reduce(torch.maximum, values),
    "Min": lambda *values: reduce(torch.minimum, values),
}
SEEDS = st.integers(0, 2**31)
PAIRS = mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=1)
TRIPLES = mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=1)


@pytest.mark.parametrize("op_type", BINARY)
@given(shapes=PAIRS, opset=opsets(), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_two_operands_with_broadcasting(op_type: str, shapes: Any, opset: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0.5, 2, shape) for shape in shapes.input_shapes)
    if op_type != "Pow":
        a, b = (x * rng.choice([-1, 1], x.shape) for x in (a, b))
    check_rule(op_type, [a, b], opset=opset, reference=BINARY[op_type], symbolic={}, seed=seed)


@pytest.mark.parametrize("op_type", UNARY)
@given(shape=array_shapes(min_dims=0, max_dims=4, max_side=4), opset=opsets(), seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_one_operand(op_type: str, shape: tuple[int, ...], opset: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 2, shape)
    if op_type not in ("Log", "Sqrt"):
        x = x * rng.choice([-1, 1], shape)
    check_rule(op_type, [x], opset=opset, reference=UNARY[op_type], seed=seed)


@pytest.mark.parametrize("op_type", SEVERAL)
@given(shapes=TRIPLES, count=st.integers(1, 3), opset=opsets(), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_several_operands_with_broadcasting(op_type: str, shapes: Any, count: int, opset: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Multiples of 0.02, each operand with a remainder of its own: no two are equal.
    values = [off_kinks(rng, shape) + 0.004 * i for i, shape in enumerate(shapes.input_shapes[:count])]
    check_rule(op_type, values, opset=opset, reference=SEVERAL[op_type], symbolic={}, seed=seed)


@pytest.mark.parametrize("op_type", ["Max", "Min"])
def test_ties_of_two_operands_share_as_in_torch(op_type: str) -> None:
    a, b = np.array([1.0, 2, 3]), np.array([1.0, 3, 2])
    check_rule(op_type, [a, b], opset=17, reference=SEVERAL[op_type], symbolic={}, smooth=False)
    check_rule(op_type, [a, b], opset=9, reference=SEVERAL[op_type], symbolic={}, smooth=False)


@pytest.mark.parametrize("exponent", [-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("opset", [9, 17])
def test_constant_exponent(exponent: float, opset: int) -> None:
    base = np.array([0.3, 1.0, 2.5]) if exponent in (0.5,) else np.array([-2.5, 0.3, 1.0, 2.5])
    check_rule("Pow", [base, np.array(exponent)], opset=opset, reference=torch.pow, wrt=[0], constants=[1])


def test_powers_of_zero_are_those_of_torch() -> None:
    base, exponent = np.array([0.0, 0.0, 0.0, 2.0]), np.array([0.0, 1.0, 2.0, 0.0])
    check_rule("Pow", [base, exponent], opset=17, reference=torch.pow, smooth=False)


def test_integer_exponent() -> None:
    base, exponent = np.array([[-2.0, 0.5, 3.0]]), np.array([2, 3, 1])
    model = check_rule("Pow", [base, exponent], opset=15, reference=torch.pow, wrt=[0])
    assert not model.skipped


@given(shapes=TRIPLES, opset=opsets(), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_where(shapes: Any, opset: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    condition = rng.choice([True, False], shapes.input_shapes[0])
    a, b = (rng.normal(size=shape) for shape in shapes.input_shapes[1:])
    check_rule("Where", [condition, a, b], opset=opset, reference=torch.where, symbolic={}, seed=seed)


def test_dropout_with_training_mode_off_is_the_identity() -> None:
    inputs = [np.ones((2, 3)), np.array(0.5), np.array(False)]
    check_rule("Dropout", inputs, opset=13, reference=lambda x, *_: x.clone(), wrt=[0], constants=[1, 2])


def test_dropout_in_training_is_refused() -> None:
    inputs = [np.ones((2, 3)), np.array(0.5), np.array(True)]
    with pytest.raises(UnsupportedError, match=r"node 'node' \(Dropout\): it is in training mode"):
        check_rule("Dropout", inputs, opset=13, reference=lambda x, *_: x.clone(), wrt=[0], constants=[1, 2])


@pytest.mark.parametrize("op_type", ["Ceil", "Floor", "Round", "Sign"])
def test_steps_have_no_gradient(op_type: str) -> None:
    reference = {"Ceil": torch.ceil, "Floor": torch.floor, "Round": torch.round, "Sign": torch.sign}[op_type]
    model = check_rule(op_type, [np.array([[0.3, -1.6, 2.2]])], opset=13, reference=reference)
    assert [skip.subject for skip in model.skipped] == ["x0"]
