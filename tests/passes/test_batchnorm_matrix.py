"""fold_batchnorm where today's tools keep, break or refuse: each case by name, judged by onnxruntime and onnx.reference."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from folding import BN, bn_parameters, check, make, operators, random
from pgc_graph import modelio
from pgc_graph.analysis.names import all_nodes
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.runtime.session import RuntimeOptions, open_session

IMAGE = "(float[n, 4, 6, 5] x) => (float[n, 4, h, k] y)"
KEEP = "pads = [1, 1, 1, 1]"
VECTOR = {"p": random(1, 4, 1, 1, seed=11), "q": random(4, 1, 1, seed=12), "one": np.float32([1.5])}


def image_model(nodes: str, *, kernel: int = 3, **extra: np.ndarray) -> ir.Model:
    weights = {"w": random(4, 4, kernel, kernel), **bn_parameters(4), **extra}
    used = {name: array for name, array in weights.items() if name in re.findall(r"\w+", nodes)}
    return make(f"{IMAGE} {{ {nodes.replace('BN', BN)} }}", used)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("t = Conv (x, w) i = Identity (t) y = BN (i, s, b, m, v)", ["Conv", "Identity"]),
        ("t = Conv (x, w) i = Dropout (t) y = BN (i, s, b, m, v)", ["Conv", "Dropout"]),
        ("t = Conv (x, w) i = Mul (t, p) y = BN (i, s, b, m, v)", ["Conv"]),
        ("t = Conv (x, w) i = Mul (p, t) y = BN (i, s, b, m, v)", ["Conv"]),
        ("t = Conv (x, w) i = Add (q, t) y = BN (i, s, b, m, v)", ["Conv"]),
        ("t = Conv (x, w) i = Sub (t, p) y = BN (i, s, b, m, v)", ["Conv"]),
        ("t = Conv (x, w) i = Sub (p, t) y = BN (i, s, b, m, v)", ["Conv"]),
        ("t = Conv (x, w) i = Div (t, p) y = BN (i, s, b, m, v)", ["Conv"]),
        ("t = Conv (x, w) i = Div (t, one) j = Identity (i) k = Add (j, q) y = BN (k, s, b, m, v)", ["Conv", "Identity"]),
        ("t = Conv (x, w) i = BN (t, s, b, m, v) j = Mul (i, p) y = Add (j, q)", ["Conv"]),
        ("t = Conv (x, w) i = BN (t, s, b, m, v) j = Div (i, one) y = Sub (q, j)", ["Conv"]),
        ("t = Relu (x) i = BN (t, s, b, m, v) j = BN (i, s, b, m, v) y = BN (j, s, b, m, v)", ["Relu", "Mul", "Add"]),
        ("t = Relu (x) i = BN (t, s, b, m, v) j = Mul (i, p) y = Add (j, q)", ["Relu", "Mul", "Add"]),
        ("t = Mul (x, p) i = BN (t, s, b, m, v) y = Conv <pads = [0, 0, 0, 0]> (i, w)", ["Conv"]),
        ("i = BN (x, s, b, m, v) j = Mul (i, p) d = Dropout (j) y = Conv (d, w)", ["Dropout", "Conv"]),
        ("t = Conv (x, w) i = Div (p, t) y = BN (i, s, b, m, v)", ["Conv", "Div", "Mul", "Add"]),
        ("t = Conv (x, w) i = Mul (t, t) y = BN (i, s, b, m, v)", ["Conv", "Mul", "Mul", "Add"]),
        ("t = Conv (x, w) i = Pad (t, around) y = BN (i, s, b, m, v)", ["Conv", "Pad", "Mul", "Add"]),
        (f"i = BN (x, s, b, m, v) y = Conv <{KEEP}> (i, w)", ["Mul", "Add", "Conv"]),
        ('i = BN (x, s, b, m, v) y = Conv <auto_pad = "SAME_UPPER"> (i, w)', ["Mul", "Add", "Conv"]),
        ("i = BN (x, s, b, m, v) j = Relu (i) y = Conv (j, w)", ["Mul", "Add", "Relu", "Conv"]),
        ("i = BN (x, s, b, m, v) y = ConvTranspose (i, w)", ["Mul", "Add", "ConvTranspose"]),
    ],
)  # fmt: skip
def test_run_of_nodes_around_a_batchnorm(nodes: str, expected: list[str]) -> None:
    model = image_model(nodes, around=np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), **VECTOR)
    assert operators(check(model, {"x": random(3, 4, 6, 5)}).model) == expected


@pytest.mark.parametrize(
    ("constant", "shape"),
    [((5,), "W"), ((6, 1), "H"), ((4, 6, 5), "C, H, W"), ((2, 1, 1, 1), "batch"), ((1, 1, 1, 1, 1), "rank")],
    ids=lambda item: str(item),
)
def test_constant_that_is_not_per_channel_stays_apart(constant: tuple[int, ...], shape: str) -> None:
    nodes = "t = Conv <pads = [1, 1, 1, 1]> (x, w) i = Mul (t, c) y = BN (i, s, b, m, v)"
    if len(constant) == 5:
        nodes = "t = Conv <pads = [1, 1, 1, 1]> (x, w) y0 = BN (t, s, b, m, v) u = Mul (y0, c) y = Squeeze (u, zero)"
    model = image_model(nodes, c=random(*constant), zero=np.array([0], np.int64))
    rewrite = check(model, {"x": random(2, 4, 6, 5)})
    assert operators(rewrite.model)[:1] == ["Conv"]
    assert "Mul" in operators(rewrite.model)


def test_constant_that_gives_the_tensor_its_channels_is_not_folded_away() -> None:
    text = f"""(float[n, 1, 6, 5] x) => (float[n, 4, h, k] y) {{
        t = Conv (x, w) i = Mul (t, p) y = {BN} (i, s, b, m, v) }}"""
    model = make(text, {"w": random(1, 1, 3, 3), "p": VECTOR["p"], **bn_parameters(4)})
    rewrite = check(model, {"x": random(2, 1, 6, 5)})
    assert operators(rewrite.model) == ["Conv", "Mul", "Mul", "Add"]


@pytest.mark.parametrize("bias", [(6,), (1, 6), (1,), ()], ids=str)
def test_matmul_add_batchnorm_is_one_matmul_and_one_add(bias: tuple[int, ...]) -> None:
    text = f"(float[n, 4] x) => (float[n, 6] y) {{ t = MatMul (x, w) u = Add (t, c) y = {BN} (u, s, b, m, v) }}"
    weights = {"w": random(4, 6), "c": np.asarray(random(*bias), np.float32), **bn_parameters(6)}
    assert operators(check(make(text, weights), {"x": random(5, 4)}).model) == ["MatMul", "Add"]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("t = BN (x, s, b, m, v) y = MatMul (t, w)", ["MatMul", "Add"]),
        ("t = BN (x, s, b, m, v) u = MatMul (t, w) y = Add (u, c)", ["MatMul", "Add"]),
        ("t = BN (x, s, b, m, v) u = MatMul (t, w) y = Add (c, u)", ["MatMul", "Add"]),
        ("t = BN (x, s, b, m, v) d = Dropout (t) y = Gemm (d, w, c)", ["Dropout", "Gemm"]),
        ("t = BN (x, s, b, m, v) u = MatMul (t, w) r = Relu (u) y = Add (r, u)", ["MatMul", "Add", "Relu", "Add"]),
    ],
)
def test_batchnorm_in_front_of_a_matmul(nodes: str, expected: list[str]) -> None:
    text = f"(float[n, 4] x) => (float[n, 6] y) {{ {nodes.replace('BN', BN)} }}"
    weights = {"w": random(4, 6), **({"c": random(6)} if " c)" in nodes or "(c," in nodes else {}), **bn_parameters(4)}
    assert operators(check(make(text, weights), {"x": random(5, 4)}).model) == expected


def test_conv_transpose_takes_a_batchnorm_without_shift_in_front_of_it() -> None:
    text = f"(float[n, 4, 5, 5] x) => (float[n, 3, h, k] y) {{ t = {BN} (x, s, b, m, v) y = ConvTranspose (t, w) }}"
    weights = {"w": random(4, 3, 3, 3), **bn_parameters(4)}
    weights["b"] = weights["m"] = np.zeros(4, np.float32)
    assert operators(check(make(text, weights), {"x": random(2, 4, 5, 5)}).model) == ["ConvTranspose"]


@pytest.mark.parametrize(
    ("nodes", "kept"),
    [
        ("t = Conv (x, w) y0 = BN (t, s, b, m, v) y1 = BN (t, s, b, m, v) y = Add (y0, y1)", {"Mul": 2}),
        ("t = Conv (x, w) i = Identity (t) y0 = BN (i, s, b, m, v) r = Relu (t) y = Add (y0, r)", {"Mul": 1}),
        ("t = Conv (x, w) i = Mul (t, p) y0 = BN (i, s, b, m, v) r = Relu (i) y = Add (y0, r)", {"Mul": 2}),
        ("t = Conv (x, w) y0 = BN (t, s, b, m, v) j = Mul (y0, p) y = Add (j, y0)", {"Mul": 1}),
    ],
    ids=["two batchnorms", "identity and relu", "inside the run", "after the batchnorm"],
)
def test_tensor_with_several_users_keeps_its_values(nodes: str, kept: dict[str, int]) -> None:
    rewrite = check(image_model(nodes, **VECTOR), {"x": random(3, 4, 6, 5)})
    assert {name: operators(rewrite.model).count(name) for name in kept} == kept


def test_weight_shared_by_two_convs_that_both_fold_is_folded_once_each() -> None:
    nodes = "t = Conv <pads = [1, 1, 1, 1]> (x, w) i = BN (t, s, b, m, v) u = Conv (i, w) y = BN (u, s, b, m, v)"
    rewrite = check(image_model(nodes), {"x": random(2, 4, 6, 5)})
    assert operators(rewrite.model) == ["Conv", "Conv"]
    weights = [node.inputs[1].name for node in rewrite.model.graph]  # type: ignore[union-attr]
    assert len(set(weights)) == 2


def quantized(nodes: str) -> ir.Model:
    scale = {"qs": np.float32(0.05), "z": np.int8(0), "w8": (random(4, 4, 3, 3) * 20).astype(np.int8)}
    return image_model(nodes, **{name: np.asarray(array) for name, array in scale.items()})


@pytest.mark.parametrize(
    "nodes",
    [
        "t = Conv (x, w) q = QuantizeLinear (t, qs, z) d = DequantizeLinear (q, qs, z) y = BN (d, s, b, m, v)",
        "dw = DequantizeLinear (w8, qs, z) t = Conv (x, dw) y = BN (t, s, b, m, v)",
        "i = BN (x, s, b, m, v) q = QuantizeLinear (i, qs, z) d = DequantizeLinear (q, qs, z) y = Conv (d, w)",
    ],
    ids=["between", "on the weight", "in front"],
)
def test_quantization_keeps_the_batchnorm_out_of_the_conv(nodes: str) -> None:
    model = quantized(nodes)
    rewrite = fold_batchnorm(model)
    modelio.check(rewrite.model)
    assert operators(rewrite.model).count("Mul") == 1
    for name in ("w", "w8"):
        if name in model.graph.initializers:
            old, new = (m.graph.initializers[name].const_value.numpy() for m in (model, rewrite.model))  # type: ignore[union-attr]
            np.testing.assert_array_equal(new, old)
    feeds = {"x": random(2, 4, 6, 5)}
    want, got = (open_session(m, RuntimeOptions("cpu", optimise=False)).run(feeds)[0] for m in (model, rewrite.model))
    # A value on the border of two steps may round to either.
    assert np.mean(np.abs(got - want) > 1e-4) < 0.01


@pytest.mark.parametrize("opset", [9, 13, 14, 15, 17, 22])
@pytest.mark.parametrize("form", ["conv", "alone", "matmul"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=["float32", "float64", "float16"])
def test_every_type_stays_what_it_is(form: str, opset: int, dtype: type) -> None:
    name = {np.float32: "float", np.float64: "double", np.float16: "float16"}[dtype]
    nodes = {"conv": f"t = Conv (x, w) y = {BN} (t, s, b, m, v)", "alone": f"y = {BN} (x, s, b, m, v)"}
    text = f"({name}[n, 4, 5, 5] x) => ({name}[n, 4, h, k] y) {{ {nodes.get(form)} }}"
    if form == "matmul":
        text = f"({name}[n, 4] x) => ({name}[n, 4] y) {{ t = MatMul (x, w) y = {BN} (t, s, b, m, v) }}"
    weights = {"w": random(4, 4) if form == "matmul" else random(4, 4, 1, 1), **bn_parameters(4)}
    weights = {key: array.astype(dtype) for key, array in weights.items() if key != "w" or form != "alone"}
    model = make(text, weights, opset=opset)
    rewrite = fold_batchnorm(model)
    modelio.check(rewrite.model)
    assert len(rewrite.changes) == 1
    feeds = {"x": random(3, 4, *(() if form == "matmul" else (5, 5))).astype(dtype)}
    # onnx.reference (1.23) takes BatchNormalization 9 to 13 for training, as their momentum has a default.
    newer = make(text, weights, opset=max(opset, 14))
    want, got = (ReferenceEvaluator(modelio.to_proto(m)).run(None, feeds)[0] for m in (newer, rewrite.model))
    assert got.dtype == want.dtype == dtype
    tolerance = {np.float32: 1e-5, np.float64: 1e-12, np.float16: 2e-2}[dtype]
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("with_conv", [True, False], ids=["conv", "alone"])
def test_parameters_of_another_type_leave_the_type_of_the_tensor(with_conv: bool) -> None:
    conv = "t = Conv (x, w)" if with_conv else "t = Relu (x)"
    text = f"(float16[n, 4, 5, 5] x) => (float16[n, 4, h, k] y) {{ {conv} y = {BN} (t, s, b, m, v) }}"
    weights = {**bn_parameters(4), **({"w": random(4, 4, 1, 1).astype(np.float16)} if with_conv else {})}
    weights["s"], weights["b"] = weights["s"].astype(np.float16), weights["b"].astype(np.float16)
    model = make(text, weights)
    rewrite = fold_batchnorm(model)
    modelio.check(rewrite.model)
    feeds = {"x": random(2, 4, 5, 5).astype(np.float16)}
    got = ReferenceEvaluator(modelio.to_proto(rewrite.model)).run(None, feeds)[0]
    want = ReferenceEvaluator(modelio.to_proto(model)).run(None, feeds)[0]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), atol=2e-2)


def half(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float16) for name, array in weights.items()}


HALF = """(float16[n, 4, 5, 5] x) => (float16[n, 4, h, k] y) {
    t = Conv (x, w) y = BatchNormalization <epsilon = 1e-7> (t, s, b, m, v) }"""


def test_float16_with_a_variance_near_its_smallest_number_is_folded_from_exact_numbers() -> None:
    weights = half({"w": random(4, 4, 1, 1) * 1e-3, **bn_parameters(4)})
    weights["v"] = np.full(4, 6e-8, np.float16)
    rewrite = fold_batchnorm(make(HALF, weights))
    assert operators(rewrite.model) == ["Conv"]
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    scale = exact["s"] / np.sqrt(exact["v"] + np.float64(np.float32(1e-7)))
    folded = rewrite.model.graph.initializers["w"].const_value.numpy()  # type: ignore[union-attr]
    want = exact["w"] * scale.reshape(4, 1, 1, 1)
    np.testing.assert_allclose(folded.astype(np.float64), want, rtol=2**-11)


def test_float16_weight_that_would_vanish_is_not_folded() -> None:
    weights = half({"w": random(4, 4, 1, 1) * 1e-3, **bn_parameters(4)})
    weights["s"] = np.full(4, 1e-5, np.float16)
    (change,) = fold_batchnorm(make(HALF, weights)).changes or fold_batchnorm(make(HALF, weights)).skipped
    assert "too small for the precision of FLOAT16" in str(change)


def test_dropout_that_trains_stays_in_the_way() -> None:
    nodes = "t = Conv (x, w) d = Dropout (t, ratio, yes) y = BN (d, s, b, m, v)"
    model = image_model(nodes, ratio=np.float32(0.5), yes=np.array(True))
    assert operators(fold_batchnorm(model).model) == ["Conv", "Dropout", "Mul", "Add"]


def test_dropout_whose_mask_is_used_stays_in_the_way() -> None:
    text = f"""(float[n, 4, 6, 5] x) => (float[n, 4, h, k] y, bool[n, 4, h, k] mask) {{
        t = Conv (x, w) d, mask = Dropout (t) y = {BN} (d, s, b, m, v) }}"""
    rewrite = check(make(text, {"w": random(4, 4, 3, 3), **bn_parameters(4)}), {"x": random(2, 4, 6, 5)})
    assert operators(rewrite.model) == ["Conv", "Dropout", "Mul", "Add"]


@pytest.mark.parametrize("opset", [1, 6])
def test_old_operator_versions_broadcast_by_attribute(opset: int) -> None:
    attributes = "is_test = 1, epsilon = 0.01" + (", consumed_inputs = [0, 0, 0, 1, 1]" if opset == 1 else "")
    text = f"(float[n, 4, 6, 4] x) => (float[n, 4, 6, 4] y) {{ y = BatchNormalization <{attributes}> (x, s, b, m, v) }}"
    model = make(text, bn_parameters(4), opset=opset)
    rewrite = fold_batchnorm(model)
    modelio.check(rewrite.model)
    assert operators(rewrite.model) == ["Mul", "Add"]
    for node in rewrite.model.graph:
        assert (node.attributes.get_int("broadcast"), node.attributes.get_int("axis")) == (1, 1)
    scale, shift = (node.inputs[1].const_value.numpy() for node in rewrite.model.graph)  # type: ignore[union-attr]
    own = bn_parameters(4)
    np.testing.assert_allclose(scale, own["s"] / np.sqrt(own["v"] + 0.01), rtol=1e-6)
    np.testing.assert_allclose(shift, own["b"] - own["m"] * own["s"] / np.sqrt(own["v"] + 0.01), rtol=1e-4)


@pytest.mark.parametrize(
    ("opset", "attributes"), [(6, "epsilon = 0.01"), (7, "spatial = 0")], ids=["is_test", "spatial"]
)
def test_old_forms_that_are_no_affine_map_stay(opset: int, attributes: str) -> None:
    text = f"(float[n, 4, 6, 4] x) => (float[n, 4, 6, 4] y) {{ y = BatchNormalization <{attributes}> (x, s, b, m, v) }}"
    rewrite = fold_batchnorm(make(text, bn_parameters(4), opset=opset))
    assert operators(rewrite.model) == ["BatchNormalization"]
    assert rewrite.skipped


def test_epsilon_by_default_is_1e_5() -> None:
    text = "(float[n, 4] x) => (float[n, 4] y) { y = BatchNormalization (x, s, b, m, v) }"
    weights = {**bn_parameters(4), "v": np.full(4, 1e-6, np.float32)}
    rewrite = check(make(text, weights), {"x": random(3, 4) * 1e-3})
    scale = next(iter(rewrite.model.graph)).inputs[1].const_value.numpy()  # type: ignore[union-attr]
    np.testing.assert_allclose(scale, weights["s"] / np.sqrt(1.1e-5), rtol=1e-5)


def test_convolution_with_a_bias_computed_at_run_time_keeps_its_batchnorm_as_mul_and_add() -> None:
    text = f"""(float[n, 4, 6, 5] x, float[4] c) => (float[n, 4, h, k] y) {{
        t = Conv (x, w, c) y = {BN} (t, s, b, m, v) }}"""
    model = make(text, {"w": random(4, 4, 3, 3), **bn_parameters(4)})
    rewrite = check(model, {"x": random(2, 4, 6, 5), "c": random(4)})
    assert operators(rewrite.model) == ["Conv", "Mul", "Add"]
    assert "c of" in rewrite.changes[0].action


def test_unknown_rank_is_a_reason() -> None:
    text = f"(float[n] x) => (float[n] y) {{ i = other.Mystery (x) j = {BN} (i, s, b, m, v) y = other.Mystery (j) }}"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17, "other": 1]> g {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, k) for k, a in bn_parameters(4).items())
    rewrite = fold_batchnorm(modelio.load(proto))
    assert not rewrite.changes
    assert "rank or type of its input is unknown" in rewrite.skipped[0].reason


LOOP = f"""(float[2, 4, 6, 6] x, int64 count, bool go) => (float[2, 4, 6, 6] y) {{
    y = Loop (count, go, x) <
        body = body (int64 i, bool c, float[2, 4, 6, 6] state) => (bool again, float[2, 4, 6, 6] next) {{
        again = Identity (c) t = Conv <{KEEP}> (state, w) next = {BN} (t, s, b, m, v) }}> }}"""
SCAN = f"""(float[3, 2, 4, 6, 6] x) => (float[3, 2, 4, 6, 6] y) {{
    y = Scan <num_scan_inputs = 1, body = body (float[2, 4, 6, 6] item) => (float[2, 4, 6, 6] out) {{
        t = Conv <{KEEP}> (item, w) out = {BN} (t, s, b, m, v) }}> (x) }}"""


@pytest.mark.parametrize("form", ["loop", "scan"])
def test_batchnorm_in_the_body_of_a_loop_folds_there(form: str) -> None:
    feeds: dict[str, np.ndarray] = {"x": random(2, 4, 6, 6), "count": np.array(2, np.int64), "go": np.array(True)}
    if form == "scan":
        feeds = {"x": random(3, 2, 4, 6, 6)}
    model = make(LOOP if form == "loop" else SCAN, {"w": random(4, 4, 3, 3) / 4, **bn_parameters(4)})
    rewrite = check(model, feeds, by_reference=form == "loop")
    assert all(node.op_type != "BatchNormalization" for node in all_nodes(rewrite.model))
    assert len(rewrite.changes) == 1


def test_function_without_shapes_takes_rank_and_type_from_the_weights() -> None:
    vector = "<value = float[2] {1.5, 0.5}>"
    proto = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17, "local": 1]>
        g (float[n, 2, 5, 5] x) => (float[n, 2, 5, 5] y) {{ y = local.block (x) }}
        <domain: "local", opset_import: ["": 17]>
        block (a) => (b) {{
            w = Constant <value = float[2, 2, 1, 1] {{1.0, 2.0, 3.0, 4.0}}> () s = Constant {vector} ()
            t = Conv (a, w) u = Relu (t) r = {BN} (u, s, s, s, s) z = Relu (r) b = Add (z, u) }}""")
    model = modelio.load(proto)
    rewrite = fold_batchnorm(model)
    modelio.check(rewrite.model)
    (function,) = rewrite.model.functions.values()
    assert [n.op_type for n in function if n.op_type != "Constant"] == ["Conv", "Relu", "Mul", "Add", "Relu", "Add"]
    feeds = {"x": random(2, 2, 5, 5)}
    want, got = (open_session(m, RuntimeOptions("cpu", optimise=False)).run(feeds)[0] for m in (model, rewrite.model))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_weight_that_is_an_input_with_a_default_keeps_its_value_for_those_who_override_it() -> None:
    text = f"""(float[n, 4, 6, 5] x, float[4, 4, 1, 1] w) => (float[n, 4, h, k] y) {{
        t = Conv (x, w) y = {BN} (t, s, b, m, v) }}"""
    weights = {"w": random(4, 4, 1, 1), **bn_parameters(4)}
    model = make(text, weights)
    assert operators(fold_batchnorm(model).model) == ["Conv", "Mul", "Add"]
    rewrite = check(model, {"x": random(2, 4, 6, 5)}, by_reference=False, assume_default_inputs=True)
    assert operators(rewrite.model) == ["Conv"]
    np.testing.assert_array_equal(rewrite.model.graph.initializers["w"].const_value.numpy(), weights["w"])  # type: ignore[union-attr]


@pytest.mark.parametrize("operator", ["Relu", "Neg"])
def test_order_is_topological_and_names_are_new(operator: str) -> None:
    nodes = f"n = {operator} (x) y0 = BN (n, s, b, m, v) y1 = Mul (y0, x) y = Add (y1, n)"
    rewrite = check(image_model(nodes), {"x": random(2, 4, 6, 5)})
    seen = {"x", *rewrite.model.graph.initializers}
    for node in rewrite.model.graph:
        assert {str(value.name) for value in node.inputs if value is not None} <= seen
        seen |= {str(value.name) for value in node.outputs}


@pytest.mark.parametrize("ir_version", [3, 8])
def test_the_reason_names_inputs_with_defaults(ir_version: int) -> None:
    extra = ", ".join(f"float[4] {name}" for name in "sbmv")
    text = f"(float[n, 4, 6, 5] x, {extra}) => (float[n, 4, h, k] y) {{ y = {BN} (x, s, b, m, v) }}"
    (skip,) = fold_batchnorm(make(text, bn_parameters(4), ir_version=ir_version)).skipped
    assert skip.reason == "scale is a graph input with a default that can be overridden"
