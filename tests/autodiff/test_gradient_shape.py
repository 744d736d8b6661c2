"""Rules of operators that rearrange or repeat elements, judged by torch and by central differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradient_check import OPSETS, check_rule

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)
OPSET = st.sampled_from(OPSETS)


def numbers(shape: list[int] | tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=tuple(shape))


def axes_of(operator: str, axes: list[int], opset: int) -> tuple[list[np.ndarray], dict]:
    """Axes as the operator takes them in an opset: an input, or an attribute."""
    return ([np.array(axes)], {}) if opset >= 13 else ([], {"axes": axes})


@given(shape=SHAPES, opset=OPSET, free=st.booleans(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_reshape(shape: list[int], opset: int, free: bool, data: st.DataObject) -> None:
    order = data.draw(st.permutations(shape))
    target = [-1, *order[1:]] if free else list(order)
    check_rule(
        "Reshape",
        [numbers(shape), np.array(target)],
        opset=opset,
        reference=lambda x, _shape: x.reshape(target),
        constants=[1],
        symbolic={0: (0,) if free else ()},
    )


@given(shape=SHAPES, opset=OPSET, free=st.booleans(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_flatten(shape: list[int], opset: int, free: bool, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape)))
    rows = int(np.prod(shape[:axis]))
    check_rule(
        "Flatten",
        [numbers(shape)],
        {"axis": axis},
        opset=opset,
        reference=lambda x: x.reshape(rows, -1),
        symbolic={0: (0, len(shape) - 1) if free else (0,)},
    )


@given(shape=SHAPES, opset=OPSET, back=st.booleans(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_squeeze_and_unsqueeze(shape: list[int], opset: int, back: bool, data: st.DataObject) -> None:
    rank = len(shape) + 2
    axes = sorted(data.draw(st.permutations(range(rank)))[:2])
    sizes = iter(shape)
    wide = [1 if axis in axes else next(sizes) for axis in range(rank)]
    operator, before, after = ("Squeeze", wide, shape) if back else ("Unsqueeze", shape, wide)
    inputs, attributes = axes_of(operator, axes, opset)
    check_rule(
        operator,
        [numbers(before), *inputs],
        attributes,
        opset=opset,
        reference=lambda x, *_axes: x.reshape(after),
        constants=[1] if inputs else [],
        symbolic={0: [axis for axis, size in enumerate(before) if size > 1]},
    )


def test_squeeze_of_all_axes_of_size_one() -> None:
    check_rule("Squeeze", [numbers([2, 1, 3, 1])], opset=13, reference=torch.squeeze, symbolic={})


@given(shape=SHAPES, opset=OPSET, given_order=st.booleans(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_transpose(shape: list[int], opset: int, given_order: bool, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape)))) if given_order else list(range(len(shape)))[::-1]
    check_rule(
        "Transpose",
        [numbers(shape)],
        {"perm": order} if given_order else {},
        opset=opset,
        reference=lambda x: x.permute(*order),
        symbolic={0: tuple(range(len(shape)))},
    )


@given(shape=SHAPES, opset=OPSET, front=st.integers(0, 2), data=st.data())
@settings(max_examples=30, deadline=None)
def test_expand(shape: list[int], opset: int, front: int, data: st.DataObject) -> None:
    wide = [2] * front + [data.draw(st.integers(1, 4)) if size == 1 else size for size in shape]
    check_rule(
        "Expand",
        [numbers(shape), np.array(wide)],
        opset=opset,
        reference=lambda x, _shape: x.expand(wide),
        constants=[1],
        symbolic={},
    )


@given(shape=SHAPES, opset=OPSET, data=st.data())
@settings(max_examples=30, deadline=None)
def test_tile(shape: list[int], opset: int, data: st.DataObject) -> None:
    repeats = [data.draw(st.integers(1, 3)) for _ in shape]
    check_rule(
        "Tile",
        [numbers(shape), np.array(repeats)],
        opset=opset,
        reference=lambda x, _repeats: x.repeat(*repeats),
        constants=[1],
    )


@pytest.mark.parametrize("opset", [9, 10, 11, 13, OPSETS[-1]])
@pytest.mark.parametrize("mode", ["DCR", "CRD", "gather"])
def test_depth_to_space_and_back(mode: str, opset: int) -> None:
    if mode == "CRD" and opset < 11:
        pytest.skip("the attribute mode came with opset 11")
    block, depth, height, width = 2, 3, 2, 4

    def spread(x: torch.Tensor) -> torch.Tensor:
        sizes = (block, block, depth) if mode == "DCR" else (depth, block, block)
        order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
        split = x.reshape(-1, *sizes, height, width).permute(*order)
        return split.reshape(-1, depth, height * block, width * block)

    def gathered(x: torch.Tensor) -> torch.Tensor:
        split = x.reshape(-1, depth, height, block, width, block).permute(0, 3, 5, 1, 2, 4)
        return split.reshape(-1, block * block * depth, height, width)

    attributes = {"blocksize": block, **({"mode": mode} if mode != "gather" and opset >= 11 else {})}
    if mode == "gather":
        check_rule(
            "SpaceToDepth",
            [numbers([2, depth, height * block, width * block])],
            {"blocksize": block},
            opset=opset,
            reference=gathered,
        )
    else:
        x = numbers([2, depth * block * block, height, width])
        check_rule("DepthToSpace", [x], attributes, opset=opset, reference=spread)
