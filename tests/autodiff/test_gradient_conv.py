"""Rules of Conv and ConvTranspose, judged by torch and by central differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gradient_check import OPSETS, check_rule
from pgc_graph.errors import UnsupportedError

CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
PADDING = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def both_sides(begins: list[int], ends: list[int]) -> list[int]:
    """Padding as torch's `pad` wants it: last axis first; below 0 it cuts."""
    return [side for pair in zip(reversed(begins), reversed(ends), strict=True) for side in pair]


@st.composite
def convolutions(draw: st.DrawFn, transposed: bool = False) -> dict:
    """Sizes and attributes of a convolution that fits its input."""
    rank = draw(st.sampled_from((1, 2, 2, 2, 3)))
    largest = 3 if rank == 3 else 4
    kernel = [draw(st.integers(1, largest)) for _ in range(rank)]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    auto_pad = draw(st.sampled_from(PADDING))
    if auto_pad.startswith("SAME"):
        dilations, spans = [1] * rank, [k - 1 for k in kernel]  # onnxruntime takes no others there
    pads = [draw(st.integers(0, span + 1)) for span in spans * 2] if auto_pad == "NOTSET" else [0] * 2 * rank
    sizes = [draw(st.integers(1, 4)) if transposed else draw(st.integers(span + 1, span + 5)) for span in spans]
    extra = [draw(st.integers(0, s - 1)) for s in strides]
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    return {
        "groups": groups,
        "each": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "batch": draw(st.integers(1, 3)),
        "kernel": kernel,
        "strides": strides,
        "dilations": dilations,
        "spans": spans,
        "auto_pad": auto_pad,
        "pads": pads,
        "sizes": sizes,
        "extra": extra,
        "bias": draw(st.booleans()),
        "constants": draw(st.sampled_from(((), (1,)))),
        "opset": draw(st.sampled_from(OPSETS)),
        "seed": draw(st.integers(0, 2**31)),
    }


def attributes_of(case: dict) -> dict:
    found = {name: case[name] for name in ("strides", "dilations", "auto_pad")}
    return {**found, "group": case["groups"], **({"pads": case["pads"]} if case["auto_pad"] == "NOTSET" else {})}


def same_padding(case: dict, totals: list[int]) -> tuple[list[int], list[int]]:
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if case["auto_pad"] == "SAME_UPPER" else (large, small)


def draw_inputs(case: dict, kernel_shape: tuple[int, int], channels: int, outputs: int) -> list[np.ndarray]:
    rng = np.random.default_rng(case["seed"])
    shapes = [(case["batch"], channels, *case["sizes"]), (*kernel_shape, *case["kernel"]), (outputs,)]
    return [rng.normal(size=shape) for shape in shapes[: 3 if case["bias"] else 2]]


@given(case=convolutions(), free=st.booleans())
@settings(max_examples=60, deadline=None)
def test_conv(case: dict, free: bool) -> None:
    rank, groups, (ins, outs) = len(case["kernel"]), case["groups"], case["each"]
    begins, ends = case["pads"][:rank], case["pads"][rank:]
    if case["auto_pad"].startswith("SAME"):
        along = zip(case["sizes"], case["strides"], case["spans"], strict=True)
        begins, ends = same_padding(case, [max((-(-n // s) - 1) * s + span + 1 - n, 0) for n, s, span in along])

    def reference(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        padded = functional.pad(x, both_sides(begins, ends))
        return CONV[rank](padded, w, b, stride=case["strides"], dilation=case["dilations"], groups=groups)

    # Spatial sizes may stay open, but for what depends on them.
    opened = free and groups == 1 and case["opset"] >= 10 and not case["auto_pad"].startswith("SAME")
    check_rule(
        "Conv",
        draw_inputs(case, (groups * outs, ins), groups * ins, groups * outs),
        attributes_of(case),
        opset=case["opset"],
        reference=reference,
        constants=case["constants"],
        symbolic={0: (0, *range(2, 2 + rank))} if opened else None,
        seed=case["seed"],
    )


@given(case=convolutions(transposed=True), shaped=st.booleans())
@settings(max_examples=60, deadline=None)
def test_conv_transpose(case: dict, shaped: bool) -> None:
    rank, groups, (ins, outs) = len(case["kernel"]), case["groups"], case["each"]
    along = zip(case["sizes"], case["strides"], case["spans"], strict=True)
    full = [(n - 1) * s + span + 1 for n, s, span in along]
    begins, ends = case["pads"][:rank], case["pads"][rank:]
    lengths = [n + e for n, e in zip(full, case["extra"], strict=True)]
    attributes = {**attributes_of(case), "output_padding": case["extra"]}
    if case["auto_pad"].startswith("SAME") or shaped:
        if shaped:
            attributes.pop("output_padding")
            lengths = full
            wanted = [max(n - 1, size) for n, size in zip(full, case["sizes"], strict=True)]  # onnx infers no less
        else:
            wanted = [n * s for n, s in zip(case["sizes"], case["strides"], strict=True)]
        attributes.pop("pads", None)
        attributes["output_shape"] = wanted
        begins, ends = same_padding(case, [n - kept for n, kept in zip(lengths, wanted, strict=True)])
        if min(begins + ends) < 0 or any(w < n for w, n in zip(wanted, case["sizes"], strict=True)):
            return  # onnx infers a wrong shape where the output is to be smaller than the input: refused below
    elif case["auto_pad"] == "VALID":
        begins = ends = [0] * rank
    if min(n - b - e for n, b, e in zip(lengths, begins, ends, strict=True)) < 1:
        return

    def reference(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        whole = TRANSPOSED[rank](x, w, None, stride=case["strides"], dilation=case["dilations"], groups=groups)
        right = [kept - n - e for kept, n, e in zip(lengths, full, ends, strict=True)]
        y = functional.pad(whole, both_sides([-side for side in begins], right))
        return y if b is None else y + b.reshape(-1, *[1] * rank)

    check_rule(
        "ConvTranspose",
        draw_inputs(case, (groups * ins, outs), groups * ins, groups * outs),
        attributes,
        opset=case["opset"],
        reference=reference,
        constants=case["constants"],
        seed=case["seed"],
    )


def test_an_output_of_unknown_shape_is_refused() -> None:
    inputs = [np.ones((1, 1, 1, 2)), np.ones((1, 1, 1, 1))]
    with pytest.raises(
        UnsupportedError, match=r"\(ConvTranspose\): its output is said to be of shape \[axis0of1,1,1\]"
    ):
        check_rule("ConvTranspose", inputs, {"output_shape": [1, 1]}, opset=9, reference=lambda x, w: x[..., :1] * w)


@pytest.mark.parametrize("opset", [9, 13, OPSETS[-1]])
@pytest.mark.parametrize("size", [7, 8])
def test_strided_depthwise_conv_becomes_a_plain_conv(size: int, opset: int) -> None:
    rng = np.random.default_rng(0)
    gradient = check_rule(
        "Conv",
        [rng.normal(size=(2, 4, size, size)), rng.normal(size=(4, 1, 3, 3))],
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 4},
        opset=opset,
        reference=lambda x, w: functional.conv2d(x, w, stride=2, padding=1, groups=4),
        constants=[1],
    )
    assert "ConvTranspose" not in [node.op_type for node in gradient.model.graph]
