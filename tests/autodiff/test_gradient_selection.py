"""Rules of operators that join, cut, extend or pick elements, judged by torch and by central differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gradient_check import OPSETS, OPTIONS, check_rule, single_node_model
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.errors import UnsupportedError
from pgc_graph.runtime.session import open_session

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)
OPSET = st.sampled_from(OPSETS)


def numbers(shape: list[int] | tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=tuple(shape))


@given(shape=SHAPES, opset=OPSET, data=st.data())
@settings(max_examples=40, deadline=None)
def test_concat(shape: list[int], opset: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1)) if opset >= 11 else len(shape) - 1
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    place = axis % len(shape)
    parts = [numbers([*shape[:place], size, *shape[place + 1 :]], seed) for seed, size in enumerate(sizes)]
    wanted = sorted(data.draw(st.sets(st.sampled_from(range(len(sizes))), min_size=1)))
    free = dict.fromkeys(range(len(sizes)), (0,)) if place > 0 else {}
    check_rule(
        "Concat",
        parts,
        {"axis": axis},
        opset=opset,
        reference=lambda *parts: torch.cat(parts, axis),
        wrt=wanted,
        symbolic=free,
    )


@given(shape=SHAPES, opset=OPSET, data=st.data())
@settings(max_examples=40, deadline=None)
def test_split(shape: list[int], opset: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    x = numbers([*shape[:axis], sum(sizes), *shape[axis + 1 :]])
    newer = opset >= 13
    check_rule(
        "Split",
        [x, np.array(sizes)] if newer else [x],
        {"axis": axis} if newer else {"axis": axis, "split": sizes},
        opset=opset,
        reference=lambda x, *_sizes: torch.split(x, sizes, axis),
        constants=[1] if newer else [],
        symbolic={0: (0,) if axis > 0 else ()},
        outputs=len(sizes),
    )


def test_split_with_an_output_that_nothing_reads() -> None:
    model = single_node_model(
        "Split", [numbers([3, 5]), np.array([2, 3])], {"axis": 1}, opset=13, constants=[1], outputs=2
    )
    gradient = gradient_graph(model, "y1", ["x0"], seeded=True)
    seed = numbers([3, 3], 1).astype(np.float64)
    got = open_session(gradient.model, OPTIONS).run({"x0": numbers([3, 5]), "y1_seed": seed}, ["x0_grad"])[0]
    np.testing.assert_array_equal(got, np.concatenate([np.zeros((3, 2)), seed], 1))


@given(shape=SHAPES, opset=OPSET, data=st.data())
@settings(max_examples=60, deadline=None)
def test_slice(shape: list[int], opset: int, data: st.DataObject) -> None:
    axes = sorted(data.draw(st.sets(st.sampled_from(range(len(shape))), min_size=1)))
    bound = st.one_of(st.integers(-6, 6), st.sampled_from((2**31 - 1, 2**63 - 1, -(2**31), -(2**63))))
    starts = [data.draw(st.integers(-6, 6)) for _ in axes]
    ends = [data.draw(bound) for _ in axes]
    steps = [data.draw(st.sampled_from((1, 1, 2, -1, -2))) if opset >= 10 else 1 for _ in axes]
    chosen = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # The ONNX page: negative bounds count from the end, then bounds are clamped to what the step can reach.
        size = shape[axis]
        low, high = (0, size) if step > 0 else (-1, size - 1)
        first = min(max(start + size if start < 0 else start, 0), high)
        last = min(max(end + size if end < 0 else end, low), size)
        chosen.append(list(range(first, last, step)))
    if any(not kept for kept in chosen):
        return

    def reference(x: torch.Tensor, *_bounds: torch.Tensor) -> torch.Tensor:
        for axis, kept in zip(axes, chosen, strict=True):
            x = x.index_select(axis, torch.tensor(kept))
        return x

    newer = opset >= 10
    bounds = [np.array(starts), np.array(ends), np.array(axes), np.array(steps)]
    check_rule(
        "Slice",
        [numbers(shape), *bounds] if newer else [numbers(shape)],
        {} if newer else {"starts": starts, "ends": ends, "axes": axes},
        opset=opset,
        reference=reference,
        constants=[1, 2, 3, 4] if newer else [],
        symbolic={0: (0,) if 0 not in axes else ()},
    )


@given(shape=SHAPES, opset=OPSET, mode=st.sampled_from(("constant", "reflect", "edge", "wrap")), data=st.data())
@settings(max_examples=60, deadline=None)
def test_pad(shape: list[int], opset: int, mode: str, data: st.DataObject) -> None:
    opset = max(opset, 19) if mode == "wrap" else opset
    least = -1 if mode == "constant" else 0
    # onnxruntime 1.30 pads wrongly where a tensor is wrapped around more than once
    most = [{"reflect": size - 1, "wrap": min(size, 3)}.get(mode, 3) for size in shape]
    begins = [data.draw(st.integers(max(least, 1 - size), top)) for size, top in zip(shape, most, strict=True)]
    ends = [data.draw(st.integers(0, top)) for top in most]
    value = np.array(0.75)
    with_value = mode == "constant" and opset >= 11
    newer = opset >= 11
    inputs = [numbers(shape), *([np.array(begins + ends)] if newer else []), *([value] if with_value else [])]

    def reference(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if mode == "constant":
            sides = [side for pair in zip(reversed(begins), reversed(ends), strict=True) for side in pair]
            # Where the border is, the value.
            within = functional.pad(torch.ones_like(x), sides)
            return functional.pad(x, sides) + (1 - within) * (rest[1] if with_value else 0.0)
        for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            sources = np.pad(np.arange(shape[axis]), (begin, end), mode=mode)
            x = x.index_select(axis, torch.tensor(sources))
        return x

    check_rule(
        "Pad",
        inputs,
        {"mode": mode} if newer else {"mode": mode, "pads": begins + ends},
        opset=opset,
        reference=reference,
        constants=[1] if newer else [],
        symbolic={0: (0,) if mode == "constant" else ()},
    )


@pytest.mark.parametrize("opset", [18, OPSETS[-1]])
def test_pad_of_some_axes(opset: int) -> None:
    check_rule(
        "Pad",
        [numbers([2, 3, 4]), np.array([1, -1, 2, 1]), None, np.array([-1, 1])],
        opset=opset,
        reference=lambda x, _pads, _axes: functional.pad(x, [1, 2, -1, 1]),
        constants=[1, 3],
    )


@given(shape=SHAPES, opset=OPSET, rank=st.integers(0, 2), data=st.data())
@settings(max_examples=60, deadline=None)
def test_gather(shape: list[int], opset: int, rank: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    size = shape[axis]
    index_shape = [data.draw(st.integers(1, 4)) for _ in range(rank)]
    low = -size if opset >= 11 else 0
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    indices = rng.integers(low, size, index_shape)

    def reference(x: torch.Tensor, _indices: torch.Tensor) -> torch.Tensor:
        flat = x.index_select(axis, torch.tensor(indices.reshape(-1) % size))
        return flat.reshape([*shape[:axis], *index_shape, *shape[axis + 1 :]])

    check_rule(
        "Gather",
        [numbers(shape), np.asarray(indices)],
        {"axis": axis},
        opset=opset,
        reference=reference,
        constants=[1],
        symbolic={0: (0,) if axis > 0 else ()},
    )


def test_gather_of_one_element_many_times_is_a_product() -> None:
    check_rule(
        "Gather",
        [numbers([2, 3, 4]), np.array([1] * 9 + [0])],
        {"axis": 1},
        opset=13,
        reference=lambda x, indices: x.index_select(1, indices),
        constants=[1],
    )


def test_indices_that_are_fed_are_refused_by_name() -> None:
    model = single_node_model("Gather", [numbers([3, 2]), np.array([0, 2])], {"axis": 0}, opset=13, symbolic={})
    with pytest.raises(UnsupportedError, match=r"'node' \(Gather\): its indices \(x1\) is computed at run time"):
        gradient_graph(model, "y0", ["x0"], seeded=True)
