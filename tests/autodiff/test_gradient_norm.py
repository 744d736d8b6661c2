"""Rules of normalisation, judged by torch and by central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from torch.nn import functional as F

from gradient_check import check_rule, opsets
from pgc_graph.errors import UnsupportedError

Tensor = torch.Tensor
SEEDS = st.integers(0, 2**31)
SOFT = {"Softmax": torch.softmax, "LogSoftmax": torch.log_softmax}
EPSILON = st.sampled_from([1e-5, 1e-2])


def stored(number: float) -> float:
    """A number as attributes hold it, in float32."""
    return float(np.float32(number))


@pytest.mark.parametrize("op_type", SOFT)
@given(data=st.data(), shape=array_shapes(min_dims=1, max_dims=4, max_side=4), opset=opsets(), seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_softmax_in_both_meanings(op_type: str, data: Any, shape: tuple[int, ...], opset: int, seed: int) -> None:
    rank = len(shape)
    lowest = -rank if opset >= 11 else 0
    default = st.none() if opset >= 13 or rank > 1 else st.nothing()
    axis = data.draw(default | st.integers(lowest, rank - 1))
    x = np.random.default_rng(seed).normal(size=shape) * 2

    def reference(x: Tensor) -> Tensor:
        if opset >= 13:
            return SOFT[op_type](x, -1 if axis is None else axis)
        first = 1 if axis is None else axis % rank
        rows = x.reshape(int(np.prod(shape[:first])), -1)
        return SOFT[op_type](rows, 1).reshape(shape)

    check_rule(op_type, [x], {} if axis is None else {"axis": axis}, opset=opset, reference=reference, seed=seed)


@given(spatial=array_shapes(min_dims=0, max_dims=3, max_side=3), epsilon=EPSILON, opset=opsets(), seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_batch_normalization(spatial: tuple[int, ...], epsilon: float, opset: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, (scale, bias, mean), variance = (
        rng.normal(size=(2, 3, *spatial)),
        rng.normal(size=(3, 3)),
        rng.uniform(0.5, 2, 3),
    )

    def reference(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, bias, training=False, eps=stored(epsilon))

    def by_hand(x: Tensor, *parameters: Tensor) -> Tensor:
        # torch's own function has no gradient to the statistics.
        scale, bias, mean, variance = (p.reshape(-1, *[1] * len(spatial)) for p in parameters)
        return scale * (x - mean) / torch.sqrt(variance + stored(epsilon)) + bias

    inputs = [x, scale, bias, mean, variance]
    options: dict[str, Any] = {"opset": opset, "seed": seed, "tolerance": 3e-5}
    check_rule("BatchNormalization", inputs, {"epsilon": epsilon}, reference=by_hand, **options)
    fixed = {"constants": [1, 2, 3, 4], "wrt": [0], "reference": reference}
    model = check_rule("BatchNormalization", inputs, {"epsilon": epsilon}, **fixed, **options)
    written = [node.op_type for node in model.model.graph][1:]
    assert written == ["Mul"], "what depends on constants alone is computed at once"


def test_batch_normalization_in_training_is_refused() -> None:
    inputs = [np.ones((2, 3)), *(np.ones(3) for _ in range(4))]
    with pytest.raises(UnsupportedError, match="training mode"):
        check_rule("BatchNormalization", inputs, {"training_mode": 1}, opset=15, reference=torch.clone, outputs=3)


@given(data=st.data(), shape=array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=4), opset=opsets(17), seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_layer_normalization(data: Any, shape: tuple[int, ...], opset: int, seed: int) -> None:
    rng, rank = np.random.default_rng(seed), len(shape)
    axis = data.draw(st.none() | st.integers(1, rank - 1) | st.integers(1 - rank, -1))
    inner = shape[rank - 1 if axis is None else axis % rank :]
    inputs = [rng.normal(size=shape), rng.normal(size=inner)]
    inputs += [rng.normal(size=inner)] if data.draw(st.booleans()) else []
    attributes = {} if axis is None else {"axis": axis, "epsilon": 1e-3}
    epsilon = stored(attributes.get("epsilon", 1e-5))

    def reference(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.layer_norm(x, inner, scale, bias, epsilon)

    check_rule(
        "LayerNormalization",
        inputs,
        attributes,
        opset=opset,
        reference=reference,
        tolerance=2e-4,
        smooth=False,
        seed=seed,
    )


def test_layer_normalization_by_central_differences() -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(2, 3, 8)), rng.normal(size=8), rng.normal(size=8)]
    check_rule(
        "LayerNormalization",
        inputs,
        opset=17,
        reference=lambda x, s, b: F.layer_norm(x, (8,), s, b, stored(1e-5)),
        tolerance=1e-4,
    )


def test_layer_normalization_whose_statistics_are_used_is_refused() -> None:
    inputs = [np.ones((2, 4)), np.ones(4), np.ones(4)]
    with pytest.raises(UnsupportedError, match="only its first output can be differentiated, and 'y1' is used"):
        check_rule("LayerNormalization", inputs, opset=17, reference=lambda *_: torch.ones(1), outputs=2)


@given(spatial=array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=4), opset=opsets(), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_instance_normalization(spatial: tuple[int, ...], opset: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(2, 3, *spatial)), rng.normal(size=3), rng.normal(size=3)]
    check_rule(
        "InstanceNormalization",
        inputs,
        {"epsilon": 1e-3},
        opset=opset,
        reference=lambda x, s, b: F.instance_norm(x, weight=s, bias=b, eps=stored(1e-3)),
        tolerance=2e-4,
        smooth=False,
        seed=seed,
    )


def test_instance_normalization_by_central_differences() -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(2, 3, 4, 4)), rng.normal(size=3), rng.normal(size=3)]
    check_rule(
        "InstanceNormalization",
        inputs,
        opset=13,
        reference=lambda x, s, b: F.instance_norm(x, weight=s, bias=b, eps=stored(1e-5)),
        tolerance=1e-4,
    )


@pytest.mark.parametrize("opset", [21, 22])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_normalization(groups: int, opset: int) -> None:
    rng = np.random.default_rng(groups)
    inputs = [rng.normal(size=(2, 4, 3, 5)), rng.normal(size=4), rng.normal(size=4)]
    check_rule(
        "GroupNormalization",
        inputs,
        {"num_groups": groups, "epsilon": 1e-3},
        opset=opset,
        reference=lambda x, scale, bias: F.group_norm(x, groups, scale, bias, stored(1e-3)),
        tolerance=1e-4,
        exact=1e-6,  # the operator itself takes its statistics in float32
    )


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization(axis: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4))
    inner = x.shape[axis:]
    inputs, attributes = [x, rng.normal(size=inner)], {"axis": axis, "epsilon": 1e-3}
    check_rule(
        "RMSNormalization",
        inputs,
        attributes,
        opset=23,
        reference=lambda x, s: F.rms_norm(x, inner, s, stored(1e-3)),
        tolerance=1e-4,
    )
