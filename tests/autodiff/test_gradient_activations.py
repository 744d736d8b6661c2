"""Rules of activation functions, judged by torch and by central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from torch.nn import functional as F

from gradient_check import check_rule, off_kinks, opsets

Tensor = torch.Tensor
SEEDS = st.integers(0, 2**31)
SHAPES = array_shapes(min_dims=1, max_dims=4, max_side=4)
ALPHA, GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # Selu's, as ONNX has them
ALPHAS = st.sampled_from([0.1, 0.5, 1.0, 1.7])


def plain(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x: function(x)


PLAIN = {
    "Sigmoid": (9, plain(torch.sigmoid)),
    "Tanh": (9, plain(torch.tanh)),
    "Relu": (9, plain(torch.relu)),
    "Selu": (9, lambda x: GAMMA * torch.where(x > 0, x, ALPHA * torch.expm1(x))),
    "Elu": (9, plain(F.elu)),
    "Celu": (12, plain(F.celu)),
    "LeakyRelu": (9, plain(F.leaky_relu)),
    "ThresholdedRelu": (10, lambda x: F.threshold(x, 1.0, 0.0)),
    "Softplus": (9, plain(F.softplus)),
    "Softsign": (9, plain(F.softsign)),
    "Mish": (18, plain(F.mish)),
    "HardSigmoid": (9, lambda x: torch.clamp(float(np.float32(0.2)) * x + 0.5, 0, 1)),
    "HardSwish": (14, plain(F.hardswish)),
    "Erf": (9, plain(torch.erf)),
    "Gelu": (20, plain(F.gelu)),
    "Swish": (24, plain(F.silu)),
}
WITH_ALPHA = {
    "Elu": (9, lambda x, alpha: F.elu(x, alpha)),
    "Celu": (12, lambda x, alpha: F.celu(x, alpha)),
    "LeakyRelu": (9, lambda x, alpha: F.leaky_relu(x, alpha)),
    "ThresholdedRelu": (10, lambda x, alpha: F.threshold(x, alpha, 0.0)),
    "Swish": (24, lambda x, alpha: x * torch.sigmoid(alpha * x)),
}
LAST = {"Swish": 24}  # onnxruntime 1.31 expands it in models of this opset alone


@pytest.mark.parametrize("op_type", PLAIN)
@given(data=st.data(), shape=SHAPES, seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_activation_with_its_defaults(op_type: str, data: Any, shape: tuple[int, ...], seed: int) -> None:
    since, reference = PLAIN[op_type]
    x = off_kinks(np.random.default_rng(seed), shape)
    opset = data.draw(opsets(since, LAST.get(op_type, 99)))
    exact = 1e-7 if op_type == "HardSwish" else 1e-9  # onnxruntime has 1/6 in float32
    check_rule(op_type, [x], opset=opset, reference=reference, seed=seed, exact=exact)


@pytest.mark.parametrize("op_type", WITH_ALPHA)
@given(data=st.data(), alpha=ALPHAS, seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_activation_with_alpha(op_type: str, data: Any, alpha: float, seed: int) -> None:
    since, reference = WITH_ALPHA[op_type]
    rounded = float(np.float32(alpha))  # as attributes are stored
    x = off_kinks(np.random.default_rng(seed), (2, 3))
    opset = data.draw(opsets(since, LAST.get(op_type, 99)))
    check_rule(op_type, [x], {"alpha": alpha}, opset=opset, reference=lambda x: reference(x, rounded), seed=seed)


@pytest.mark.parametrize("alpha", [-1.5, 0.0])
def test_negative_threshold(alpha: float) -> None:
    x = np.array([[-2.0, -1.0, 0.5, 2.0]])
    check_rule("ThresholdedRelu", [x], {"alpha": alpha}, opset=13, reference=lambda x: F.threshold(x, alpha, 0.0))


def test_selu_with_other_numbers() -> None:
    x = off_kinks(np.random.default_rng(0), (3, 4))
    attributes = {"alpha": 1.5, "gamma": 0.75}
    check_rule("Selu", [x], attributes, opset=9, reference=lambda x: 0.75 * torch.where(x > 0, x, 1.5 * torch.expm1(x)))


def test_hard_sigmoid_with_other_numbers() -> None:
    x = off_kinks(np.random.default_rng(0), (3, 4))
    attributes = {"alpha": 0.25, "beta": 0.375}
    check_rule("HardSigmoid", [x], attributes, opset=9, reference=lambda x: torch.clamp(0.25 * x + 0.375, 0, 1))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_in_both_forms(approximate: str) -> None:
    x = np.linspace(-6, 6, 40).reshape(4, 10)
    attributes = {"approximate": approximate}
    check_rule("Gelu", [x], attributes, opset=20, reference=lambda x: F.gelu(x, approximate=approximate))


@given(opset=opsets(), shape=st.sampled_from([(1,), (3, 1, 1), (2, 3, 4, 4), (4,), (1, 3, 1, 4)]), seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_prelu_with_a_slope_of_any_shape(opset: int, shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, slope = off_kinks(rng, (2, 3, 4, 4)), rng.normal(size=shape)
    # torch's own prelu has one slope a channel at most.
    check_rule("PRelu", [x, slope], opset=opset, reference=lambda x, s: torch.where(x > 0, x, s * x), symbolic={})


KINKS = {
    "Relu": (9, {}, torch.relu),
    "LeakyRelu": (9, {"alpha": 0.5}, lambda x: F.leaky_relu(x, 0.5)),
    "Elu": (9, {"alpha": 0.5}, lambda x: F.elu(x, 0.5)),
    "Celu": (12, {"alpha": 0.5}, lambda x: F.celu(x, 0.5)),
    "HardSwish": (14, {}, F.hardswish),
    "HardSigmoid": (9, {"alpha": 1 / 6}, F.hardsigmoid),
    "Abs": (9, {}, torch.abs),
    "Softsign": (9, {}, F.softsign),
}


@pytest.mark.parametrize("op_type", KINKS)
def test_at_a_kink_the_slope_is_that_of_torch(op_type: str) -> None:
    opset, attributes, reference = KINKS[op_type]
    x = np.array([[-3.0, 0.0, 3.0]])
    check_rule(op_type, [x], attributes, opset=opset, reference=reference, smooth=False)


@pytest.mark.parametrize("op_type", ["Relu", "LeakyRelu", "Softplus", "Mish", "Sigmoid", "Tanh", "Selu", "Elu"])
def test_large_inputs_have_finite_gradients(op_type: str) -> None:
    since, reference = PLAIN[op_type]
    x = np.array([[-300.0, -80.0, 80.0, 300.0]])
    check_rule(op_type, [x], opset=max(since, 17), reference=reference, smooth=False)


BOUNDS = [(-1.0, 1.5), (None, 0.5), (-0.5, None), (None, None)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_clip_with_attributes(low: float | None, high: float | None) -> None:
    attributes = {name: bound for name, bound in (("min", low), ("max", high)) if bound is not None}
    x = off_kinks(np.random.default_rng(0), (3, 4))
    reference = torch.clone if (low, high) == (None, None) else lambda x: torch.clamp(x, low, high)
    check_rule("Clip", [x], attributes, opset=9, reference=reference)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_clip_with_inputs(low: float | None, high: float | None, constant: bool) -> None:
    x = off_kinks(np.random.default_rng(0), (3, 4))
    bounds = [None if bound is None else np.array(bound) for bound in (low, high)]
    given_bounds = [i + 1 for i, bound in enumerate(bounds) if bound is not None]

    def reference(x: Tensor, *rest: Tensor) -> Tensor:
        given = dict(zip(given_bounds, rest, strict=True))
        return torch.clamp(x, given.get(1), given.get(2)) if given else x.clone()

    constants = given_bounds if constant else []
    check_rule("Clip", [x, *bounds], opset=13, reference=reference, constants=constants)


def test_clip_at_its_bounds_and_with_crossed_bounds() -> None:
    x = np.array([[-1.0, 0.0, 1.0]])
    for low, high in ((-1.0, 1.0), (1.0, -1.0), (0.5, 0.25)):
        inputs = [x, np.array(low), np.array(high)]
        check_rule("Clip", inputs, opset=13, reference=torch.clamp, smooth=False)
