"""Rules of Resize and Upsample, judged by torch and by central differences."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gradient_check import OPSETS, check_rule, single_node_model
from pgc_graph import modelio
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.errors import UnsupportedError

WAYS = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
TORCH_MODES = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}, "cubic": {4: "bicubic"}}


def resize_inputs(x: np.ndarray, scales: list[float], sizes: list[int] | None, opset: int) -> list:
    """The inputs in the form of the opset, without those that are left out at the end."""
    factors = np.array(scales, np.float32)
    if opset < 11:
        return [x, factors]
    region = np.array([], np.float32) if opset < 13 else None
    if sizes is None:
        return [x, region, factors]
    return [x, region, np.array([], np.float32) if opset < 13 else None, np.array(sizes)]


def by_runtime(inputs: list, attributes: dict, opset: int, operator: str = "Resize") -> torch.Tensor:
    """The linear map of a resizing as a matrix (outputs, inputs), read off onnxruntime's run, one unit vector a row."""
    x = inputs[0]
    single = x[:1, :1].astype(np.float32)
    others = list(inputs[1:])
    if len(others) == 3:
        others[2] = np.concatenate([[1, 1], others[2][2:]])
    model = single_node_model(
        operator, [single, *others], attributes, opset=opset, constants=range(1, len(inputs)), symbolic={}
    )
    session = onnxruntime.InferenceSession(modelio.to_bytes(model), providers=["CPUExecutionProvider"])
    units = np.eye(single.size, dtype=np.float32).reshape(-1, *single.shape)
    rows = [session.run(None, {"x0": unit})[0].reshape(-1) for unit in units]
    return torch.tensor(np.stack(rows, 1).astype(np.float64)), session.run(None, {"x0": single})[0].shape[2:]


@st.composite
def resizings(draw: st.DrawFn, operator: str = "Resize") -> dict:
    opset = 9 if operator == "Upsample" else draw(st.sampled_from([opset for opset in OPSETS if opset >= 10]))
    mode = draw(st.sampled_from(("nearest", "linear", "cubic") if opset >= 11 else ("nearest", "linear")))
    rank = 4 if mode == "cubic" or opset < 11 else draw(st.sampled_from((3, 4, 5)))
    shape = [draw(st.integers(1, 2)), draw(st.integers(1, 2)), *(draw(st.integers(1, 5)) for _ in range(rank - 2))]
    factors = st.sampled_from((1.0, 2.0, 3.0) if operator == "Upsample" else (0.5, 1.0, 2.0, 3.0, 1.6, 0.75))
    scales = [1.0, 1.0, *(draw(factors) for _ in range(rank - 2))]
    assume(all(int(size * scale) >= 1 for size, scale in zip(shape, scales, strict=True)))
    attributes: dict = {"mode": mode}
    sizes = None
    if opset >= 11:
        attributes["coordinate_transformation_mode"] = draw(st.sampled_from(WAYS))
        if mode == "nearest":
            attributes["nearest_mode"] = draw(st.sampled_from(ROUNDINGS))
        if mode == "cubic":
            attributes |= {
                "cubic_coeff_a": draw(st.sampled_from((-0.75, -0.5))),
                "exclude_outside": draw(st.booleans()),
            }
        if draw(st.booleans()):
            sizes = [shape[0], shape[1], *(draw(st.integers(1, 7)) for _ in range(rank - 2))]
    return {"opset": opset, "shape": shape, "scales": scales, "sizes": sizes, "attributes": attributes}


def check(case: dict, operator: str) -> None:
    x = np.random.default_rng(0).normal(size=case["shape"])
    inputs = resize_inputs(x, case["scales"], case["sizes"], case["opset"])
    matrix, sizes = by_runtime(inputs, case["attributes"], case["opset"], operator)
    check_rule(
        operator,
        inputs,
        case["attributes"],
        opset=case["opset"],
        reference=lambda x, *_rest: (x.flatten(2) @ matrix.T).reshape(*x.shape[:2], *sizes),
        fixed=[1, 2],
        constants=[i for i, value in enumerate(inputs) if i and value is not None],
        symbolic={0: (0,) if case["sizes"] is None else ()},
    )


@given(case=resizings())
@settings(max_examples=80, deadline=None)
def test_resize_is_the_transpose_of_what_the_runtime_does(case: dict) -> None:
    check(case, "Resize")


@given(case=resizings(operator="Upsample"))
@settings(max_examples=20, deadline=None)
def test_upsample_is_the_transpose_of_what_the_runtime_does(case: dict) -> None:
    check(case, "Upsample")


@pytest.mark.parametrize("opset", [11, 13, 18, OPSETS[-1]])
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize(
    ("mode", "corners"), [("linear", True), ("linear", False), ("cubic", False), ("nearest", None)]
)
def test_resize_as_in_torch(mode: str, corners: bool | None, rank: int, opset: int) -> None:
    if mode == "cubic" and rank == 3:
        pytest.skip("torch has no cubic mode there")
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 5)[:rank])
    way = "align_corners" if corners else "asymmetric" if mode == "nearest" else "half_pixel"
    attributes = {"mode": mode, "coordinate_transformation_mode": way}
    attributes |= {"nearest_mode": "floor"} if mode == "nearest" else {}
    sizes = [7, 6][: rank - 2]
    name = TORCH_MODES.get(mode, {}).get(rank, mode)
    inputs = resize_inputs(x, [], [*x.shape[:2], *sizes], opset)
    check_rule(
        "Resize",
        inputs,
        attributes,
        opset=opset,
        reference=lambda x, *_rest: torch.nn.functional.interpolate(x, size=sizes, mode=name, align_corners=corners),
        fixed=[1, 2],
        constants=[i for i, value in enumerate(inputs) if i and value is not None],
        symbolic={},
    )


def test_doubling_pixels_knows_no_sizes() -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 5))
    gradient = check_rule(
        "Resize",
        [x, None, np.array([1, 1, 2, 2], np.float32)],
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        opset=17,
        reference=lambda x, _scales: torch.nn.functional.interpolate(x, scale_factor=2),
        fixed=[1, 2],
        constants=[2],
        symbolic={0: (0, 2, 3)},
    )
    assert {node.op_type for node in gradient.model.graph} == {"Resize", "AveragePool", "Mul", "Identity"} - {
        "Identity"
    }


def test_antialias_is_refused_by_name() -> None:
    inputs = [np.zeros((1, 1, 8, 8), np.float32), None, np.array([1, 1, 0.5, 0.5], np.float32)]
    model = single_node_model(
        "Resize", inputs, {"mode": "linear", "antialias": 1}, opset=18, constants=[2], symbolic={}
    )
    with pytest.raises(UnsupportedError, match="antialias"):
        gradient_graph(model, "y0", ["x0"], seeded=True)
