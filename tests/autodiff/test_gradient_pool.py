"""Rules of poolings, judged by torch and by central differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gradient_check import OPSETS, check_rule

MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values far enough from each other, and from 0, that no maximum is in doubt."""
    count = int(np.prod(shape))
    return ((rng.permutation(count) + 0.5) * 0.05 * rng.choice([-1, 1], count)).reshape(shape)


@st.composite
def poolings(draw: st.DrawFn, dilated_from: int, ceil_from: int) -> dict:
    """Sizes and attributes of a pooling that fits its input."""
    opset = draw(st.sampled_from(OPSETS))
    rank = draw(st.sampled_from((1, 2, 2, 3)))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    auto_pad = draw(st.sampled_from(("NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")))
    free = auto_pad == "NOTSET"
    # Windows further apart than they are long need negative padding to be the SAME: onnxruntime's poolings disagree there.
    strides = [draw(st.integers(1, k if auto_pad.startswith("SAME") else 3)) for k in kernel]
    dilations = [draw(st.integers(1, 2)) if free and opset >= dilated_from else 1 for _ in range(rank)]
    spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    pads = [draw(st.integers(0, k // 2)) if free else 0 for k in kernel * 2]
    sizes = [draw(st.integers(max(span + 1, s, 2), span + s + 4)) for span, s in zip(spans, strides, strict=True)]
    attributes = {"kernel_shape": kernel, "strides": strides, "auto_pad": auto_pad}
    if free:
        attributes["pads"] = pads
    if max(dilations) > 1:
        attributes["dilations"] = dilations
    if free and opset >= ceil_from and draw(st.booleans()):
        attributes["ceil_mode"] = 1
    # A last window that begins behind the end is left out by onnxruntime, but counted by onnx below opset 19.
    facts = zip(sizes, pads, pads[rank:], spans, strides, strict=False)
    assume("ceil_mode" not in attributes or all(-(-(n + b + e - w - 1) // s) * s < n + b for n, b, e, w, s in facts))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sizes)
    return {"opset": opset, "attributes": attributes, "shape": shape, "seed": draw(st.integers(0, 2**31))}


def window_places(case: dict) -> list[list[list[int]]]:
    """For each axis and each window the positions it covers, in the plain way; those in the padding included."""
    given, places = case["attributes"], []
    rank = len(given["kernel_shape"])
    dilations = given.get("dilations", [1] * rank)
    for axis, (k, s, d) in enumerate(zip(given["kernel_shape"], given["strides"], dilations, strict=True)):
        size, span = case["shape"][2 + axis], d * (k - 1) + 1
        begin, end = (given["pads"][axis], given["pads"][axis + rank]) if "pads" in given else (0, 0)
        if given["auto_pad"].startswith("SAME"):
            total = max((-(-size // s) - 1) * s + span - size, 0)
            begin = total // 2 if given["auto_pad"] == "SAME_UPPER" else total - total // 2
            end = total - begin
        room = size + begin + end - span
        count = (-(-room // s) if given.get("ceil_mode") else room // s) + 1
        limit = size + end  # beyond the padded end nothing is read
        windows = [[o * s - begin + t * d for t in range(k)] for o in range(count)]
        places.append([[place for place in window if place < limit] for window in windows])
    return places


def pooled(x: torch.Tensor, case: dict, reduce: object) -> torch.Tensor:
    """Apply a function to the elements of each window and the number of padded ones beside them."""
    places = window_places(case)
    results = []
    for window in itertools.product(*places):
        inside = [[p for p in axis if 0 <= p < size] for axis, size in zip(window, x.shape[2:], strict=True)]
        total = int(np.prod([len(axis) for axis in window]))
        chosen = x
        for axis, kept in enumerate(inside, 2):
            chosen = chosen.index_select(axis, torch.tensor(kept, dtype=torch.long))
        results.append(reduce(chosen.flatten(2), total))  # type: ignore[operator]
    return torch.stack(results, -1).reshape(*x.shape[:2], *map(len, places))


@given(case=poolings(dilated_from=19, ceil_from=10), padding_counts=st.booleans())
@settings(max_examples=60, deadline=None)
def test_average_pool(case: dict, padding_counts: bool) -> None:
    attributes = {**case["attributes"], "count_include_pad": int(padding_counts)}

    def mean(elements: torch.Tensor, total: int) -> torch.Tensor:
        return elements.sum(-1) / (total if padding_counts else max(elements.shape[-1], 1))

    x = np.random.default_rng(case["seed"]).normal(size=case["shape"])
    check_rule("AveragePool", [x], attributes, opset=case["opset"], reference=lambda x: pooled(x, case, mean))


@given(case=poolings(dilated_from=18, ceil_from=18), norm=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_lp_pool(case: dict, norm: int) -> None:
    def length(elements: torch.Tensor, _total: int) -> torch.Tensor:
        return (elements.abs() ** norm).sum(-1) ** (1 / norm)

    x = distinct(np.random.default_rng(case["seed"]), case["shape"])
    attributes = {**case["attributes"], "p": norm}
    check_rule("LpPool", [x], attributes, opset=case["opset"], reference=lambda x: pooled(x, case, length))


@given(case=poolings(dilated_from=10, ceil_from=10), column_major=st.booleans())
@settings(max_examples=60, deadline=None)
def test_max_pool(case: dict, column_major: bool) -> None:
    x = distinct(np.random.default_rng(case["seed"]), case["shape"])
    attributes = {**case["attributes"], "storage_order": int(column_major)}
    check_rule(
        "MaxPool",
        [x],
        attributes,
        opset=case["opset"],
        reference=lambda x: pooled(x, case, lambda elements, _total: elements.max(-1).values),
    )


@pytest.mark.parametrize("opset", [9, 15, OPSETS[-1]])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_max_pool_gives_the_first_of_equal_maxima_as_torch(kernel: int, stride: int, opset: int) -> None:
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 7, 6)).astype(np.float64)
    check_rule(
        "MaxPool",
        [x],
        {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4},
        opset=opset,
        reference=lambda x: functional.max_pool2d(x, kernel, stride, kernel // 2),
        smooth=False,
    )


@given(
    shape=st.lists(st.integers(1, 4), min_size=3, max_size=5),
    opset=st.sampled_from(OPSETS),
    free=st.booleans(),
    kind=st.sampled_from(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
    norm=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_global_pools(shape: list[int], opset: int, free: bool, kind: str, norm: int, seed: int) -> None:
    axes = tuple(range(2, len(shape)))
    opset = min(opset, 21) if kind == "GlobalLpPool" else opset  # onnxruntime has no newer one
    reference = {
        "GlobalAveragePool": lambda x: x.mean(axes, keepdim=True),
        "GlobalMaxPool": lambda x: x.amax(axes, keepdim=True),
        "GlobalLpPool": lambda x: (x.abs() ** norm).sum(axes, keepdim=True) ** (1 / norm),
    }[kind]
    check_rule(
        kind,
        [distinct(np.random.default_rng(seed), tuple(shape))],
        {"p": norm} if kind == "GlobalLpPool" else {},
        opset=opset,
        reference=reference,
        symbolic={0: tuple(range(len(shape)))} if free and opset >= 10 else None,
        seed=seed,
    )
