"""Upsample and Resize through all their versions, against onnxruntime and onnx.reference."""

from __future__ import annotations

import pytest

from opset_judge import assert_same_function, from_text, operators
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.opset import convert_opset

NEWEST = 26
IMAGE = "(float[n, 4, 6, 6] x) => (float[n, a, b, c] y) "
ONE = "(float[1, 4, 6, 6] x) => (float[1, a, b, c] y) "
OPEN = "(float[n, 4, h, w] x) => (float[n, a, b, c] y) "


def resize(attributes: str = "", scales: str = "1, 1, 2, 2", sizes: str = "") -> str:
    inputs = "x, , , z" if sizes else "x, , s"
    numbers = (
        f"int64[{len(sizes.split(','))}] z = {{{sizes}}}"
        if sizes
        else f"float[{len(scales.split(','))}] s = {{{scales}}}"
    )
    return f"<{numbers}> {{ y = Resize <{attributes}> ({inputs}) }}".replace("Resize <>", "Resize")


LINEAR, ASYMMETRIC = 'mode = "linear"', 'coordinate_transformation_mode = "asymmetric"'

# id: (graph, its opset, opsets to go down to, operators at the lowest)
DOWN = {
    "nearest twice": (IMAGE + resize(), 13, (11, 10, 9, 7), "Upsample"),
    "nearest thrice, open size": (OPEN + resize(scales="1, 1, 3, 3"), 13, (11, 10, 7), "Upsample"),
    "nearest half, open size": (OPEN + resize(scales="1, 1, 0.5, 0.5"), 13, (11, 10), "Resize"),
    "nearest to sizes": (ONE + resize(sizes="1, 4, 12, 18"), 13, (11, 9), "Upsample"),
    "nearest by odd scales": (IMAGE + resize(scales="1, 1, 1.5, 2.5"), 13, (11, 10, 7), "Gather Gather"),
    "nearest, corners aligned": (
        IMAGE + resize('coordinate_transformation_mode = "align_corners"', scales="1, 1, 1.5, 1.5"),
        13,
        (10, 7),
        "Gather Gather",
    ),
    "nearest, rounded up": (IMAGE + resize(f'{ASYMMETRIC}, nearest_mode = "ceil"'), 13, (10, 9), "Gather Gather"),
    "linear": (IMAGE + resize(LINEAR), 13, (12, 11, 10, 7), "MatMul MatMul"),
    "linear, asymmetric": (IMAGE + resize(f"{LINEAR}, {ASYMMETRIC}"), 13, (11, 10, 9), "Upsample"),
    "linear, smaller": (IMAGE + resize(LINEAR, scales="1, 1, 0.5, 0.4"), 13, (11, 10, 9), "MatMul MatMul"),
    "cubic": (IMAGE + resize('mode = "cubic"', scales="1, 1, 1.5, 2"), 13, (11, 10, 9), "MatMul MatMul"),
    "antialias": (IMAGE + resize(f"{LINEAR}, antialias = 1", scales="1, 1, 0.5, 0.5"), 18, (17, 9), "MatMul MatMul"),
    "axes": (IMAGE + resize(f"{LINEAR}, axes = [2, 3]", scales="2, 3"), 18, (17, 13, 11), "Resize"),
    "sizes on axes": (IMAGE + resize(f"{LINEAR}, axes = [2, 3]", sizes="9, 13"), 18, (17, 9), "MatMul MatMul"),
    "half_pixel_symmetric": (
        IMAGE + resize(f'{LINEAR}, coordinate_transformation_mode = "half_pixel_symmetric"', scales="1, 1, 1.5, 1.3"),
        19,
        (18, 13, 9),
        "MatMul MatMul",
    ),
}
UP = {
    "Upsample-7": (IMAGE + "{ y = Upsample <scales = [1.0, 1.0, 2.0, 3.0]> (x) }", 7),
    "Upsample-7 linear": (IMAGE + '{ y = Upsample <scales = [1.0, 1.0, 2.0, 2.0], mode = "linear"> (x) }', 7),
    "Upsample-9": (IMAGE + "<float[4] s = {1, 1, 2, 3}> { y = Upsample (x, s) }", 9),
    "Resize-10": (IMAGE + "<float[4] s = {1, 1, 2.5, 1.4}> { y = Resize (x, s) }", 10),
    "Resize-10 smaller": (IMAGE + "<float[4] s = {1, 1, 0.6, 0.4}> { y = Resize (x, s) }", 10),
    "Resize-10 linear": (IMAGE + '<float[4] s = {1, 1, 0.7, 1.4}> { y = Resize <mode = "linear"> (x, s) }', 10),
}
REFUSED = {
    "linear, open size": (OPEN + resize(LINEAR), 13, 10, "size is open"),
    "aspect ratio": (
        ONE + resize('keep_aspect_ratio_policy = "not_larger"', sizes="1, 4, 9, 12"),
        18,
        17,
        "aspect ratio",
    ),
    "Upsample cannot shrink": (IMAGE + "<float[4] s = {1, 1, 0.5, 0.5}> { y = Resize (x, s) }", 10, 9, "cannot shrink"),
    "larger and smaller": (IMAGE + "<float[4] s = {1, 1, 2, 0.5}> { y = Resize (x, s) }", 10, 11, "one axis"),
}


@pytest.mark.parametrize("name", DOWN)
def test_resize_down_and_back_up(name: str) -> None:
    text, opset, targets, lowest = DOWN[name]
    model = from_text(text, opset)
    for target in targets:
        converted = convert_opset(model, target).model
        assert_same_function(model, converted)
        assert_same_function(model, convert_opset(converted, opset).model)
    assert operators(converted) == lowest.split()
    assert_same_function(model, convert_opset(model, NEWEST).model)


@pytest.mark.parametrize("target", [10, 11, 13, 18, 19, NEWEST])
@pytest.mark.parametrize("name", UP)
def test_old_forms_go_up(name: str, target: int) -> None:
    text, opset = UP[name]
    model = from_text(text, opset)
    converted = convert_opset(model, target).model
    assert operators(converted) == ["Resize"]
    # The reference has no version that leaves the coordinates open.
    assert_same_function(model, converted, reference=target > 10)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_expressed_is_refused(name: str) -> None:
    text, opset, target, words = REFUSED[name]
    with pytest.raises(UnsupportedError, match=words):
        convert_opset(from_text(text, opset), target)
