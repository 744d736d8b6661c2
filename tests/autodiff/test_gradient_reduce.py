"""Rules of reductions, judged by torch and by central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from gradient_check import check_rule, opsets
from pgc_graph.errors import UnsupportedError

Tensor = torch.Tensor
Axes = tuple[int, ...]


def product(x: Tensor, axes: Axes, keepdims: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keepdims)
    return x


REFERENCES: dict[str, Callable[[Tensor, Axes, bool], Tensor]] = {
    "ReduceSum": lambda x, axes, keep: torch.sum(x, axes, keep),
    "ReduceMean": lambda x, axes, keep: torch.mean(x, axes, keep),
    "ReduceMax": lambda x, axes, keep: torch.amax(x, axes, keep),
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keep),
    "ReduceL1": lambda x, axes, keep: torch.linalg.vector_norm(x, 1, axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceProd": product,
    "ReduceSumSquare": lambda x, axes, keep: torch.sum(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: torch.log(torch.sum(x, axes, keep)),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keep),
}


def check_reduction(op_type: str, x: np.ndarray, axes: Sequence[int] | None, opset: int, **options: Any) -> None:
    """Judge a reduction; axes are an attribute or an input, whichever the opset has."""
    keepdims, smooth = options.get("keepdims"), options.get("smooth", True)
    attributes: dict[str, Any] = {} if keepdims is None else {"keepdims": int(keepdims)}
    inputs: list[np.ndarray | None] = [x]
    if axes is not None and opset >= (13 if op_type == "ReduceSum" else 18):
        inputs.append(np.array(axes, np.int64))
    elif axes is not None:
        attributes["axes"] = list(axes)
    listed = tuple(range(x.ndim)) if axes is None else tuple(axes)
    check_rule(
        op_type,
        inputs,
        attributes,
        opset=opset,
        reference=lambda x, *_: REFERENCES[op_type](x, listed, keepdims is not False),
        constants=range(1, len(inputs)),
        smooth=smooth,
        seed=options.get("seed", 0),
    )


@pytest.mark.parametrize("op_type", REFERENCES)
@given(
    data=st.data(),
    shape=array_shapes(min_dims=1, max_dims=4, max_side=3),
    keepdims=st.sampled_from([None, True, False]),
    opset=opsets(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=12, deadline=None)
def test_reduction(
    op_type: str, data: Any, shape: tuple[int, ...], keepdims: bool | None, opset: int, seed: int
) -> None:
    rank = len(shape)
    chosen = data.draw(st.none() | st.sets(st.integers(0, rank - 1), min_size=1))
    negative = opset >= 11 and data.draw(st.booleans())
    axes = None if chosen is None else [axis - rank if negative else axis for axis in sorted(chosen)]
    rng = np.random.default_rng(seed)
    # All different by 0.02 at least, so that no step of a central difference changes which one is largest.
    x = rng.permutation(np.arange(int(np.prod(shape)))).reshape(shape) * 0.02 + 0.5
    if op_type != "ReduceLogSum":
        x = x * rng.choice([-1, 1], shape)
    check_reduction(op_type, x, axes, opset, keepdims=keepdims, seed=seed)


@pytest.mark.parametrize("opset", [9, 12, 17, 18])
@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceMin"])
def test_ties_share_the_gradient(op_type: str, opset: int) -> None:
    x = np.array([[1.0, 3, 3, 1], [2, 2, 2, 2]])
    check_reduction(op_type, x, [1], opset, smooth=False)
    check_reduction(op_type, x, None, opset, keepdims=False, smooth=False)


@pytest.mark.parametrize("opset", [9, 13, 18])
@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_product_with_zeros(zeros: int, opset: int) -> None:
    x = np.array([[1.5, -2, 0.5, 3], [0.25, 1, -1, 2]])
    x[0, :zeros] = 0
    check_reduction("ReduceProd", x, [1], opset)
    check_reduction("ReduceProd", x, [1], opset, keepdims=False)


def test_norm_of_zeros_has_the_gradient_zero() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    check_reduction("ReduceL2", x, [1], 13, smooth=False)
    check_reduction("ReduceL1", x, [1], 13, smooth=False)


def test_large_numbers_do_not_overflow_log_sum_exp() -> None:
    check_reduction("ReduceLogSumExp", np.array([[500.0, 499.0], [-500.0, -501.0]]), [1], 13, smooth=False)


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceProd"])
def test_reduction_over_no_axes(op_type: str) -> None:
    x = np.array([[1.5, -2.0]])
    check_rule(op_type, [x], {"noop_with_empty_axes": 1}, opset=18, reference=torch.clone)


def test_norm_over_no_axes_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="reduces over no axes"):
        check_rule("ReduceL2", [np.ones((1, 2))], {"noop_with_empty_axes": 1}, opset=18, reference=torch.abs)


def test_mean_over_an_axis_of_unknown_size() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    for axes in ([0], [0, 1]):
        check_reduction("ReduceMean", x, axes, 13)
        check_reduction("ReduceMean", x, axes, 13, keepdims=False)
    check_reduction("ReduceMean", x, None, 13, keepdims=False)


def test_axes_computed_at_run_time_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"its axes \(x1\) is computed at run time"):
        check_rule("ReduceSum", [np.ones((2, 3)), np.array([1])], opset=13, reference=torch.sum, wrt=[0])
