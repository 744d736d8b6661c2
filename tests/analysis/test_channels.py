"""Which axis holds a tensor's channels, followed back through a graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from pgc_graph import modelio
from pgc_graph.analysis.channels import channel_axis, channel_count
from pgc_graph.passes.shapes import infer_shapes

TEXT = """<ir_version: 8, opset_import: ["": 17]>
agraph (float[n, 8, 8, 3] x, float[n, 2, 4, 4] plain, float[n, 5, 7] unknown) => (float[n, 6] y)
<float[6, 3, 3, 3] w, float[6, 6] m, float[6] s> {
    relu = Relu (x)
    first = Transpose <perm = [0, 3, 1, 2]> (relu)
    conv = Conv (first, w)
    act = Sigmoid (conv)
    flat = Flatten <axis = 2> (conv)
    tokens = Transpose <perm = [0, 2, 3, 1]> (act)
    mixed = MatMul (tokens, m)
    normed = LayerNormalization (mixed, s)
    scaled = Mul (s, normed)
    swapped = Transpose <perm = [0, 3, 2, 1]> (scaled)
    guess = Neg (plain)
    odd = Neg (unknown)
    row = ReduceMean <axes = [2, 3], keepdims = 0> (conv)
    total = ReduceSum <keepdims = 0> (row)
    y = Identity (row)
}"""


@pytest.mark.parametrize(
    ("name", "axis", "count"),
    [
        ("relu", 3, 3),
        ("first", 1, 3),
        ("conv", 1, 6),
        ("act", 1, 6),
        ("tokens", 3, 6),
        ("mixed", 3, 6),
        ("normed", 3, 6),
        ("scaled", 3, 6),
        ("swapped", 1, 6),
        ("guess", 1, 2),
        ("odd", None, None),
        ("row", 1, 6),
        ("total", None, None),
    ],
)
def test_channel_axis(name: str, axis: int | None, count: int | None) -> None:
    model = onnx.parser.parse_model(
        TEXT.replace("float[6, 3, 3, 3] w, float[6, 6] m, float[6] s", "float unused = {0}")
    )
    for weight, shape in (("w", (6, 3, 3, 3)), ("m", (6, 6)), ("s", (6,))):
        model.graph.initializer.append(onnx.helper.make_tensor(weight, 1, shape, [0.5] * int(np.prod(shape))))
    graph = infer_shapes(modelio.load(model)).graph
    value = next(v for node in graph for v in node.outputs if v.name == name)
    assert channel_axis(value) == axis
    assert channel_count(value) == count
