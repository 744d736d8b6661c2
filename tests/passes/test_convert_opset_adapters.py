"""Every adapter of the opset pass, down and up, against onnxruntime and onnx.reference."""

from __future__ import annotations

import pytest

from opset_judge import assert_same_function, from_text, operators
from pgc_graph.passes.opset import convert_opset, plan_conversion
from pgc_graph.passes.opset.table import ADAPTERS

NEWEST = 26
IMAGE = "(float[n, 4, 6, 6] x) => (float[n, a, b, c] y) "
FOUR, SIX = (
    "float[4] s = {1, 2, 3, 4}, float[4] z = {0, 1, 2, 3}",
    "float[6] s = {1, 2, 3, 4, 5, 6}, float[6] z = {0, 1, 2, 3, 4, 5}",
)

# id: (graph, its opset, opsets to go down to, operators at the lowest)
EXACT = {
    "HardSwish": ("{ y = HardSwish (x) }", 22, (21, 13, 7), "HardSigmoid Mul"),
    "Mish": ("{ y = Mish (x) }", 22, (18, 17, 9), "Softplus Tanh Mul"),
    "Gelu": ("{ y = Gelu (x) }", 20, (19, 13, 9), "Mul Erf Add Mul Mul"),
    "Gelu by tanh": ('{ y = Gelu <approximate = "tanh"> (x) }', 20, (19, 9), "Mul Mul Mul Add Mul Tanh Add Mul Mul"),
    "Swish": ("{ y = Swish (x) }", 24, (23, 9), "Sigmoid Mul"),
    "Swish with alpha": ("{ y = Swish <alpha = 1.5> (x) }", 24, (23, 9), "Mul Sigmoid Mul"),
    "Celu": ("{ y = Celu <alpha = 1.5> (x) }", 12, (11, 7), "Div Elu Mul"),
    "Softmax on channels": ("{ y = Softmax <axis = 1> (x) }", 13, (12, 10, 7), "Transpose Softmax Transpose"),
    "Softmax on the last": ("{ y = Softmax (x) }", 13, (12, 10, 7), "Softmax"),
    "LogSoftmax from behind": ("{ y = LogSoftmax <axis = -2> (x) }", 13, (12, 9), "Transpose LogSoftmax Transpose"),
    "Hardmax on the batch": ("{ y = Hardmax <axis = 0> (x) }", 13, (12, 7), "Transpose Hardmax Transpose"),
    "ReduceMean": ("<int64[2] k = {-1, 2}> { y = ReduceMean (x, k) }", 18, (17, 11, 9), "ReduceMean"),
    "ReduceMax of nothing": (
        "<int64[0] k = {}> { y = ReduceMax <noop_with_empty_axes = 1> (x, k) }",
        18,
        (17, 9),
        "Identity",
    ),
    "GroupNormalization": (
        f"<{FOUR}> {{ y = GroupNormalization <num_groups = 2> (x, s, z) }}",
        21,
        (20, 17, 9),
        "Shape Reshape InstanceNormalization Reshape Reshape Reshape Mul Add",
    ),
    "LayerNormalization": (
        f"<{SIX}> {{ y = LayerNormalization (x, s, z) }}",
        17,
        (16, 13, 10, 7),
        "ReduceMean Sub Mul ReduceMean Add Sqrt Div Mul Add",
    ),
    "LayerNormalization of images": (
        f"<{SIX}> {{ y = LayerNormalization <axis = 1> (x, s) }}",
        17,
        (16, 9),
        "ReduceMean Sub Mul ReduceMean Add Sqrt Div Mul",
    ),
    "RMSNormalization": (
        f"<{SIX}> {{ y = RMSNormalization (x, s) }}",
        23,
        (22, 17, 9),
        "Mul ReduceMean Add Sqrt Div Mul",
    ),
    "BatchNormalization": (
        f"<{FOUR}, float[4] v = {{1, 1, 2, 3}}> {{ y = BatchNormalization (x, s, z, z, v) }}",
        15,
        (14, 13, 9, 7),
        "BatchNormalization",
    ),
    "Clip": ("<float lo = {-1.0}, float hi = {1.0}> { y = Clip (x, lo, hi) }", 13, (12, 11, 10, 7), "Clip"),
    "Clip above": ("<float hi = {1.0}> { y = Clip (x, , hi) }", 13, (11, 10, 7), "Clip"),
    "Clip at run time": (
        "<float lo = {-1.0}> { hi = ReduceMax <keepdims = 0> (x) y = Clip (x, lo, hi) }",
        13,
        (11, 10, 8),
        "ReduceMax Max Min",
    ),
    "Dropout": ("<float r = {0.4}> { y = Dropout <seed = 3> (x, r) }", 13, (12, 11, 7), "Dropout"),
    "Dropout with its mode": (
        "<float r = {0.4}, bool t = {0}> { y = Dropout (x, r, t) }",
        22,
        (13, 11, 7),
        "Dropout",
    ),
    "Pad some axes": (
        "<int64[4] p = {1, 1, 0, 2}, int64[2] k = {2, 3}, float v = {1.5}> { y = Pad (x, p, v, k) }",
        18,
        (17, 13, 11, 10, 7),
        "Pad",
    ),
    "Pad by reflection": (
        '<int64[8] p = {0, 0, 1, 1, 0, 0, 2, 1}> { y = Pad <mode = "reflect"> (x, p) }',
        13,
        (11, 10),
        "Pad",
    ),
    "Split in equal parts": ("{ y, w = Split <axis = 1, num_outputs = 2> (x) }", 18, (17, 13, 9), "Split"),
    "Split in unequal parts": (
        "<int64[1] b = {0}, int64[1] e = {5}, int64[1] k = {3}> { q = Slice (x, b, e, k) "
        "y, w = Split <axis = -1, num_outputs = 2> (q) }",
        18,
        (17, 13, 9),
        "Slice Split",
    ),
    "Slice": (
        "<int64[2] b = {1, -5}, int64[2] e = {3, 9223372036854775807}, int64[2] k = {1, -1}> { y = Slice (x, b, e, k) }",
        13,
        (11, 10, 9),
        "Slice",
    ),
    "Slice with steps": (
        "<int64[2] b = {1, -1}, int64[2] e = {6, -9223372036854775807}, int64[2] k = {2, -1}, int64[2] p = {2, -2}>"
        "{ y = Slice (x, b, e, k, p) }",
        13,
        (10, 9),
        "Gather Gather",
    ),
    "TopK": ("<int64[1] k = {3}> { y, i = TopK <axis = 2> (x, k) }", 11, (10, 9), "TopK"),
    "Gemm without bias": (
        "{ f = Flatten (x) g = Gemm <transB = 1> (f, f) y = Unsqueeze <axes = [0, 1]> (g) }",
        11,
        (10, 7),
        "Flatten Gemm Unsqueeze",
    ),
    "Reshape allowing zero": (
        "<int64[4] t = {-1, 2, 2, 36}> { y = Reshape <allowzero = 1> (x, t) }",
        14,
        (13, 9),
        "Reshape",
    ),
    "part of Shape": (
        "<int64[1] m = {-1}, int64[1] o = {6}> { t = Shape <start = 1, end = -1> (x) w = Concat <axis = 0> (m, t, o) "
        "y = Reshape (x, w) }",
        15,
        (14, 13, 9),
        "Shape Slice Concat Reshape",
    ),
    "CastLike": (
        "{ d = Constant <value = double[1] {2.0}> () e = CastLike (d, x) y = Mul (x, e) }",
        15,
        (14, 9),
        "Cast Mul",
    ),
    "Constant of numbers": (
        "<int64[1] u = {1}> { d = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]> () "
        "i = Constant <value_int = 1> () w = Mul (x, d) g = Gather <axis = 1> (w, i) y = Unsqueeze (g, u) }",
        13,
        (12, 11, 9, 7),
        "Mul Gather Unsqueeze",
    ),
    "MaxPool that fits": (
        "{ y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x) }",
        12,
        (11, 10, 9),
        "MaxPool",
    ),
    "MaxPool that rounds up": (
        "{ y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x) }",
        12,
        (10, 9),
        "MaxPool",
    ),
    "AveragePool that rounds up": (
        "{ y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x) }",
        19,
        (11, 10, 9),
        "AveragePool",
    ),
    "axes from behind": (
        "<int64[2] u = {0, -1}> { f = Flatten <axis = -2> (x) w = Concat <axis = -1> (f, f) y = Unsqueeze (w, u) }",
        13,
        (11, 10, 9),
        "Flatten Concat Unsqueeze",
    ),
    "indices from behind": ("<int64[2] i = {-1, 0}> { y = Gather <axis = 1> (x, i) }", 13, (11, 10, 9), "Gather"),
    "less or equal": (
        "<float[1] k = {0.5}> { z = Relu (x) b = LessOrEqual (x, k) y = Where (b, x, z) }",
        16,
        (12, 11, 10, 9),
        "Relu Greater IsNaN Or Not Where",
    ),
    "greater or equal": (
        "{ z = Relu (x) b = GreaterOrEqual (x, z) y = Where (b, x, z) }",
        16,
        (12, 11, 9),
        "Relu Less IsNaN Or IsNaN Or Not Where",
    ),
    "equal floats": (
        "<float[1] k = {0.0}> { z = Relu (x) b = Equal (z, k) y = Cast <to = 1> (b) }",
        13,
        (11, 10, 7),
        "Relu Less Greater Or Greater Less Or Not Or Not Cast",
    ),
    "Pow with an integer": ("<int64 two = {2}> { y = Pow (x, two) }", 13, (12, 11, 7), "Cast Pow"),
    "ScatterElements": (
        "<int64[1, 1, 1, 1] i = {2}> { u = Constant <value = float[1, 1, 1, 1] {9.0}> () "
        "y = ScatterElements <axis = 1> (x, i, u) }",
        13,
        (11, 10, 9),
        "Scatter",
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_down_and_back_up_is_the_same_function(name: str) -> None:
    text, opset, targets, lowest = EXACT[name]
    model = from_text(IMAGE + text, opset)
    for target in targets:
        converted = convert_opset(model, target).model
        assert converted.opset_imports[""] == target
        assert_same_function(model, converted)
        back = convert_opset(converted, opset).model
        assert_same_function(model, back)
    assert operators(converted) == lowest.split()
    assert [value.name for value in converted.graph.outputs] == ["y"]


@pytest.mark.parametrize("name", EXACT)
def test_up_to_the_newest_is_the_same_function(name: str) -> None:
    text, opset, _, _ = EXACT[name]
    model = from_text(IMAGE + text, opset)
    converted = convert_opset(model, NEWEST).model
    assert_same_function(model, converted)
    if "Swish" not in name or "Hard" in name:  # onnxruntime has no kernel for it there
        assert operators(converted) == operators(model)


@pytest.mark.parametrize("opset", range(9, NEWEST + 1))
def test_plan_and_conversion_agree_at_every_opset(opset: int) -> None:
    model = from_text(
        IMAGE + f"<{SIX}> {{ a = LayerNormalization (x, s, z) b = Softmax <axis = 1> (a) y = HardSwish (b) }}", 17
    )
    plan = plan_conversion(model, opset)
    assert [verdict.op_type for verdict in plan] == ["LayerNormalization", "Softmax", "HardSwish"]
    assert [verdict.action == "adapter" for verdict in plan] == [opset < 17, opset < 13, opset < 14]
    changes = convert_opset(model, opset).changes
    assert [(c.subject, c.action) for c in changes] == [
        (v.node, f"{v.action}: {v.detail}") for v in plan if v.action != "same"
    ]


def test_every_adapter_stands_at_a_border_of_its_operator() -> None:
    from pgc_graph.passes.opset.schemas import changes_at

    misplaced = [key for key in ADAPTERS if not changes_at(key[0], key[1] - 1) and key != ("Swish", 25)]
    assert misplaced == []
