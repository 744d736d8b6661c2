"""Colour fronts against published values and against a float64 calculation written from the definitions."""

from __future__ import annotations

import colorsys

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from numpy.typing import NDArray

from pgc_graph.build.colour import colour_front
from pgc_graph.build.layers import Net
from pgc_graph.runtime.session import RuntimeOptions, open_session

# sRGB → L*, a*, b* and L*, u*, v* (D65, 2 degrees) as colour calculators print them.
PUBLISHED = {
    "red": ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20), (53.24, 175.01, 37.75)),
    "green": ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18), (87.73, -83.08, 107.40)),
    "blue": ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86), (32.30, -9.40, -130.34)),
    "yellow": ((1.0, 1.0, 0.0), (97.14, -21.55, 94.48), (97.14, 7.71, 106.79)),
    "white": ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0), (100.0, 0.0, 0.0)),
    "black": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
}


def convert(rgb: NDArray[np.float32], colour: str) -> NDArray[np.float32]:
    """Run a colour front alone over `(N, 3)` colours."""
    images = gs.Variable("images", np.float32, ["batch", 3, 1, 1])
    net = Net(gs.Graph(inputs=[images], opset=17), None)
    out = colour_front(net, "/colour", images, colour)
    out.dtype, out.shape = np.float32, ["batch", None, 1, 1]
    net.graph.outputs = [out]
    model: onnx.ModelProto = gs.export_onnx(net.graph)
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    session = open_session(model.SerializeToString(), RuntimeOptions(provider="cpu", optimise=False))
    return session.run({"images": rgb.reshape(-1, 3, 1, 1)})[0][:, :, 0, 0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_lab_and_luv_equal_published_values(name: str) -> None:
    rgb, lab, luv = PUBLISHED[name]
    colours = np.array([rgb], np.float32)
    np.testing.assert_allclose(convert(colours, "lab")[0], lab, atol=0.015)
    np.testing.assert_allclose(convert(colours, "luv")[0], luv, atol=0.015)


def test_lab_and_luv_equal_a_float64_calculation_over_all_of_rgb() -> None:
    steps = np.concatenate([np.linspace(0, 0.06, 9), np.linspace(0.1, 1, 8)])
    rgb = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    lab, luv = lab_and_luv(rgb)
    np.testing.assert_allclose(convert(rgb.astype(np.float32), "lab"), lab, atol=2e-4)
    # u* and v* of a nearly black colour are the most sensitive: 1e-7 in the denominator shows in the fourth digit.
    np.testing.assert_allclose(convert(rgb.astype(np.float32), "luv"), luv, atol=2e-3)


def lab_and_luv(rgb: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    white = matrix.sum(1)
    rows = []
    for colour in rgb:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        x, y, z = matrix @ linear
        f = [t ** (1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29 for t in (x, y, z) / white]
        light = 116 * f[1] - 16
        u, v = 0.0, 0.0
        if x + y + z > 0:
            total, white_total = x + 15 * y + 3 * z, white @ (1, 15, 3)
            u = 13 * light * (4 * x / total - 4 * white[0] / white_total)
            v = 13 * light * (9 * y / total - 9 * white[1] / white_total)
        rows.append(([light, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], [light, u, v]))
    lab, luv = (np.array(part) for part in zip(*rows, strict=True))
    return lab, luv


def test_luma_is_the_y_of_yiq() -> None:
    rgb = np.random.default_rng(0).random((20, 3), np.float32)
    # The standard library rounds the weights to two digits.
    expected = [[colorsys.rgb_to_yiq(*map(float, colour))[0]] for colour in rgb]
    np.testing.assert_allclose(convert(rgb, "luma"), expected, atol=5e-3)
    np.testing.assert_allclose(convert(np.eye(3, dtype=np.float32), "luma")[:, 0], [0.299, 0.587, 0.114], atol=1e-7)


@pytest.mark.parametrize("colour", ["luma", "lab", "luv"])
def test_values_outside_the_range_stay_finite(colour: str) -> None:
    rgb = np.array([[-0.5, 2.0, 0.5], [1e-9, 1e-9, 1e-9]], np.float32)
    assert np.isfinite(convert(rgb, colour)).all()
