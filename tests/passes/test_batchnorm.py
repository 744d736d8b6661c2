"""fold_batchnorm against onnx.reference and onnxruntime, case by case."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from folding import BN, bn_parameters, check, make, operators, random
from pgc_graph import modelio
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.runtime.session import RuntimeOptions, open_session


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(
    ("shape", "weight", "attributes"),
    [
        ((3, 4, 9), (6, 4, 3), "pads = [1, 1]"),
        ((3, 4, 7, 5), (6, 4, 3, 3), "pads = [1, 0, 1, 0], strides = [2, 1]"),
        ((3, 4, 7, 5), (6, 2, 3, 1), "group = 2"),
        ((3, 4, 7, 5), (4, 1, 3, 3), "group = 4, dilations = [2, 1], pads = [2, 1, 2, 1]"),
        ((2, 4, 5, 5, 5), (6, 4, 3, 3, 3), 'auto_pad = "SAME_UPPER"'),
    ],
    ids=["1-D", "2-D strided", "grouped", "depthwise dilated", "3-D auto_pad"],
)
def test_conv_then_batchnorm_folds_into_the_conv(
    shape: tuple[int, ...], weight: tuple[int, ...], attributes: str, bias: bool
) -> None:
    dims = ", ".join("n" if i == 0 else str(d) for i, d in enumerate(shape))
    out = ", ".join(["n", str(weight[0]), *(f"d{i}" for i in range(len(shape) - 2))])
    inputs = "x, w, c" if bias else "x, w"
    text = f"(float[{dims}] x) => (float[{out}] y) {{ t = Conv <{attributes}> ({inputs}) y = {BN} (t, s, b, m, v) }}"
    weights = {"w": random(*weight), **({"c": random(weight[0], seed=2)} if bias else {}), **bn_parameters(weight[0])}
    rewrite = check(make(text, weights), {"x": random(*shape, seed=3)})
    assert operators(rewrite.model) == ["Conv"]
    assert set(rewrite.model.graph.initializers) <= {"w", "c", "w_bias"}
    assert rewrite.model.graph.outputs[0].name == "y"


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_conv_transpose_scales_its_own_weight_layout(groups: int, bias: bool) -> None:
    inputs = "x, w, c" if bias else "x, w"
    attributes = f"group = {groups}, strides = [2, 2], output_padding = [1, 0]"
    text = f"""(float[n, 4, 5, 6] x) => (float[n, {groups * 2}, h, k] y) {{
        t = ConvTranspose <{attributes}> ({inputs}) y = {BN} (t, s, b, m, v) }}"""
    channels = groups * 2
    weights = {"w": random(4, 2, 3, 3), **({"c": random(channels)} if bias else {}), **bn_parameters(channels)}
    # onnx.reference (1.23) fails on grouped ConvTranspose with several channels a group.
    rewrite = check(make(text, weights), {"x": random(3, 4, 5, 6)}, by_reference=groups == 1)
    assert operators(rewrite.model) == ["ConvTranspose"]


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("bias_shape", [None, (6,), (1,), (5, 1), (5, 6), ()], ids=str)
def test_gemm_then_batchnorm_folds_with_all_its_attributes(
    trans_b: int, alpha: float, beta: float, bias_shape: tuple[int, ...] | None
) -> None:
    inputs = "x, w" if bias_shape is None else "x, w, c"
    attributes = f"transB = {trans_b}, alpha = {alpha}, beta = {beta}"
    text = f"(float[5, 4] x) => (float[5, 6] y) {{ t = Gemm <{attributes}> ({inputs}) y = {BN} (t, s, b, m, v) }}"
    weights = {"w": random(6, 4) if trans_b else random(4, 6), **bn_parameters(6)}
    if bias_shape is not None:
        weights["c"] = random(*bias_shape, seed=4).reshape(bias_shape)
    rewrite = check(make(text, weights), {"x": random(5, 4)})
    assert operators(rewrite.model) == ["Gemm"]


def test_matmul_then_batchnorm_becomes_matmul_and_add() -> None:
    text = f"(float[n, 4] x) => (float[n, 6] y) {{ t = MatMul (x, w) y = {BN} (t, s, b, m, v) }}"
    rewrite = check(make(text, {"w": random(4, 6), **bn_parameters(6)}), {"x": random(5, 4)})
    assert operators(rewrite.model) == ["MatMul", "Add"]


def test_three_dimensional_matmul_keeps_its_channels_apart() -> None:
    # (n, 6, 6): the channel axis is 1, not the last one, though both have six entries.
    text = f"(float[n, 6, 4] x) => (float[n, 6, 6] y) {{ t = MatMul (x, w) y = {BN} (t, s, b, m, v) }}"
    rewrite = check(make(text, {"w": random(4, 6), **bn_parameters(6)}), {"x": random(5, 6, 4)})
    assert operators(rewrite.model) == ["MatMul", "Mul", "Add"]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("t = {bn} (x, s, b, m, v) y = Conv (t, w)", ["Conv"]),
        ('t = {bn} (x, s, b, m, v) y = Conv <auto_pad = "VALID"> (t, w)', ["Conv"]),
        ("t = {bn} (x, s, b, m, v) y = Conv <pads = [1, 1, 1, 1]> (t, w)", ["Mul", "Add", "Conv"]),
        ("t = {bn} (x, s, b, m, v) u = Relu (t) y = Conv (u, w)", ["Mul", "Add", "Relu", "Conv"]),
    ],
    ids=["unpadded", "valid", "padded", "relu between"],
)
def test_batchnorm_in_front_of_a_conv(nodes: str, expected: list[str]) -> None:
    text = "(float[n, 4, 4, 4] x) => (float[n, 4, h, k] y) {" + nodes.format(bn=BN) + "}"
    rewrite = check(make(text, {"w": random(4, 4, 3, 3), **bn_parameters(4)}), {"x": random(3, 4, 4, 4)})
    assert operators(rewrite.model) == expected


def test_grouped_conv_takes_the_batchnorm_in_front_of_it() -> None:
    text = f"(float[n, 4, 5, 5] x) => (float[n, 6, h, k] y) {{ t = {BN} (x, s, b, m, v) y = Conv <group = 2> (t, w) }}"
    rewrite = check(make(text, {"w": random(6, 2, 3, 3), **bn_parameters(4)}), {"x": random(3, 4, 5, 5)})
    assert operators(rewrite.model) == ["Conv"]


def test_padded_conv_takes_a_batchnorm_without_shift() -> None:
    text = f"""(float[n, 4, 5, 5] x) => (float[n, 6, h, k] y) {{
        t = {BN} (x, s, b, m, v) y = Conv <pads = [1, 1, 1, 1]> (t, w) }}"""
    weights = {"w": random(6, 4, 3, 3), **bn_parameters(4)}
    weights["b"] = weights["m"] = np.zeros(4, np.float32)
    rewrite = check(make(text, weights), {"x": random(3, 4, 5, 5)})
    assert operators(rewrite.model) == ["Conv"]


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_batchnorm_in_front_of_a_gemm(trans_b: int, bias: bool) -> None:
    inputs = "t, w, c" if bias else "t, w"
    text = f"""(float[n, 4] x) => (float[n, 6] y) {{
        t = {BN} (x, s, b, m, v) y = Gemm <transB = {trans_b}, alpha = 0.7, beta = 0.4> ({inputs}) }}"""
    weights = {"w": random(6, 4) if trans_b else random(4, 6), **({"c": random(6)} if bias else {}), **bn_parameters(4)}
    rewrite = check(make(text, weights), {"x": random(5, 4)})
    assert operators(rewrite.model) == ["Gemm"]


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 4), (3, 4, 5, 4), (2, 4, 4, 3, 4)], ids=str)
def test_lonely_batchnorm_broadcasts_along_axis_1_at_every_rank(shape: tuple[int, ...]) -> None:
    dims = ", ".join(map(str, shape))
    text = f"(float[{dims}] x) => (float[{dims}] y) {{ y = {BN} (x, s, b, m, v) }}"
    rewrite = check(make(text, bn_parameters(4)), {"x": random(*shape)})
    assert operators(rewrite.model) == ["Mul", "Add"]


def test_identity_batchnorm_on_a_graph_output_leaves_a_valid_graph() -> None:
    weights = {"s": np.ones(4), "b": np.zeros(4), "m": np.zeros(4), "v": np.ones(4)}
    text = "(float[n, 4] x) => (float[n, 4] y) { y = BatchNormalization <epsilon = 0.0> (x, s, b, m, v) }"
    model = make(text, {name: array.astype(np.float32) for name, array in weights.items()})
    assert operators(check(model, {"x": random(3, 4)}).model) == ["Identity"]


def test_chain_of_batchnorms_collapses_into_one_conv() -> None:
    text = f"""(float[n, 3, 5, 5] x) => (float[n, 4, h, k] y) {{
        t = Conv (x, w) u = {BN} (t, s, b, m, v) y = {BN} (u, p_s, p_b, p_m, p_v) }}"""
    weights = {"w": random(4, 3, 3, 3), **bn_parameters(4), **bn_parameters(4, 5, "p_")}
    rewrite = check(make(text, weights), {"x": random(2, 3, 5, 5)})
    assert operators(rewrite.model) == ["Conv"]
    assert len(rewrite.changes) == 2


def test_weight_shared_by_two_convs_is_copied_for_the_one_that_folds() -> None:
    text = f"""(float[n, 4, 5, 5] x) => (float[n, 4, h, k] y, float[n, 4, h, k] z) {{
        t = Conv (x, w) y = {BN} (t, s, b, m, v) z = Conv (x, w) }}"""
    rewrite = check(make(text, {"w": random(4, 4, 3, 3), **bn_parameters(4)}), {"x": random(2, 4, 5, 5)})
    assert operators(rewrite.model) == ["Conv", "Conv"]


def test_parameters_shared_by_two_batchnorms_stay_until_both_are_folded() -> None:
    text = f"""(float[n, 4, 5, 5] x) => (float[n, 4, h, k] y) {{
        t = Conv (x, w) u = {BN} (t, s, b, m, v) r = Relu (u) q = Conv (r, w2) y = {BN} (q, s, b, m, v) }}"""
    weights = {"w": random(4, 4, 1, 1), "w2": random(4, 4, 1, 1, seed=7), **bn_parameters(4)}
    rewrite = check(make(text, weights), {"x": random(2, 4, 5, 5)})
    assert operators(rewrite.model) == ["Conv", "Relu", "Conv"]
    assert not {"s", "b", "m", "v"} & set(rewrite.model.graph.initializers)


@pytest.mark.parametrize(
    "nodes",
    [
        "t = Conv (x, w) y = {bn} (t, s, b, m, v) z = Relu (t)",
        "z = Conv (x, w) y = {bn} (z, s, b, m, v)",
        """t = Conv (x, w) y = {bn} (t, s, b, m, v)
           z = If (flag) <then_branch = a () => (float[n, 4, h, k] p) {{ p = Relu (t) }},
                          else_branch = e () => (float[n, 4, h, k] q) {{ q = Neg (x) }}>""",
    ],
    ids=["used twice", "graph output", "captured by a branch"],
)
def test_conv_output_with_other_users_keeps_its_values(nodes: str) -> None:
    head = "(float[n, 4, 5, 5] x, bool flag) => (float[n, 4, h, k] y, float[n, 4, h, k] z) {"
    model = make(head + nodes.format(bn=BN) + "}", {"w": random(4, 4, 1, 1), **bn_parameters(4)})
    rewrite = check(model, {"x": random(2, 4, 5, 5), "flag": np.array(True)})
    assert operators(rewrite.model).count("Mul") == 1


def test_batchnorm_inside_a_branch_is_folded_there() -> None:
    text = f"""(float[n, 4, 5, 5] x, bool flag) => (float[n, 4, h, k] y) {{
        y = If (flag) <then_branch = a () => (float[n, 4, h, k] p) {{ t = Conv (x, w) p = {BN} (t, s, b, m, v) }},
                       else_branch = e () => (float[n, 4, h, k] q) {{ q = Neg (x) }}> }}"""
    model = make(text, {"w": random(4, 4, 1, 1), **bn_parameters(4)})
    rewrite = check(model, {"x": random(2, 4, 5, 5), "flag": np.array(True)})
    assert "BatchNormalization" not in {node.op_type for node in rewrite.model.graph.all_nodes()}


def test_parameters_from_constant_chains_are_found() -> None:
    text = f"""(float[n, 4, 5, 5] x) => (float[n, 4, h, k] y) {{
        t = Conv (x, w)
        s0 = Constant <value = float[4] {{1.0, 2.0, 0.5, 3.0}}> ()
        s = Identity (s0)
        shape = Shape (w0)
        b = ConstantOfShape <value = float[1] {{0.25}}> (shape)
        m64 = Constant <value = double[4] {{0.1, 0.2, 0.3, 0.4}}> ()
        m = Cast <to = 1> (m64)
        v = Add (w0, one)
        y = {BN} (t, s, b, m, v) }}"""
    weights = {"w": random(4, 4, 1, 1), "w0": np.abs(random(4)), "one": np.ones(1, np.float32)}
    rewrite = check(make(text, weights), {"x": random(2, 4, 5, 5)})
    assert operators(rewrite.model) == ["Conv"]
    assert set(rewrite.model.graph.initializers) == {"w", "w_bias"}


def test_float16_folds_in_float64_and_stores_float16() -> None:
    text = (
        "(float16[n, 4, 5, 5] x) => (float16[n, 4, h, k] y) { t = Conv (x, w) y = BatchNormalization (t, s, b, m, v) }"
    )
    weights = {name: array.astype(np.float16) for name, array in {"w": random(4, 4, 1, 1), **bn_parameters(4)}.items()}
    model = make(text, weights)
    rewrite = fold_batchnorm(model)
    feeds = {"x": random(2, 4, 5, 5).astype(np.float16)}
    exact = make(text.replace("float16", "float"), {name: array.astype(np.float32) for name, array in weights.items()})
    want = ReferenceEvaluator(modelio.to_proto(exact)).run(None, {"x": feeds["x"].astype(np.float32)})[0]
    got = ReferenceEvaluator(modelio.to_proto(rewrite.model)).run(None, feeds)[0]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.astype(np.float32), want, atol=3e-2)
    assert operators(rewrite.model) == ["Conv"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attributes": "training_mode = 1", "outputs": "y, rm, rv"}, "training_mode"),
        ({"attributes": "training_mode = 1", "outputs": "y"}, "training_mode"),
        ({"v": -np.ones(4, np.float32)}, "variance + epsilon"),
        ({"s": np.full(4, np.nan, np.float32)}, "not finite"),
    ],
    ids=["training, three outputs", "training, one output", "negative variance", "not a number"],
)
def test_what_is_not_an_affine_map_is_left_alone(change: dict[str, object], reason: str) -> None:
    attributes, outputs = change.get("attributes", "epsilon = 0.01"), change.get("outputs", "y")
    text = f"""(float[n, 4, 5, 5] x) => (float[n, 4, h, k] y) {{
        t = Conv (x, w) {outputs} = BatchNormalization <{attributes}> (t, s, b, m, v) }}"""
    weights = {"w": random(4, 4, 1, 1), **bn_parameters(4)}
    weights |= {name: array for name, array in change.items() if isinstance(array, np.ndarray)}
    rewrite = fold_batchnorm(make(text, weights))
    assert not rewrite.changes
    assert reason in rewrite.skipped[0].reason
    assert operators(rewrite.model) == ["Conv", "BatchNormalization"]


def test_parameters_computed_at_run_time_are_left_alone() -> None:
    text = f"(float[n, 4, 5, 5] x, float[4] s) => (float[n, 4, h, k] y) {{ t = Conv (x, w) y = {BN} (t, s, b, m, v) }}"
    weights = {"w": random(4, 4, 1, 1), **bn_parameters(4)}
    weights.pop("s")
    rewrite = fold_batchnorm(make(text, weights))
    assert rewrite.skipped[0].reason == "scale is not a constant"


@pytest.mark.parametrize("ir_version", [3, 8])
def test_overridable_parameters_are_constants_only_on_request(ir_version: int) -> None:
    names = ["w", "s", "b", "m", "v"]
    extra = ", ".join(["float[4, 4, 1, 1] w", *(f"float[4] {name}" for name in names[1:])])
    text = f"(float[n, 4, 5, 5] x, {extra}) => (float[n, 4, h, k] y) {{ t = Conv (x, w) y = {BN} (t, s, b, m, v) }}"
    model = make(text, {"w": random(4, 4, 1, 1), **bn_parameters(4)}, ir_version=ir_version)
    assert "overridden" in fold_batchnorm(model).skipped[0].reason
    rewrite = fold_batchnorm(model, assume_default_inputs=True)
    assert operators(rewrite.model) == ["Conv"]
    modelio.check(rewrite.model)
    x = random(2, 4, 5, 5)
    want = open_session(model, RuntimeOptions("cpu", optimise=False)).run({"x": x})[0]
    got = open_session(rewrite.model, RuntimeOptions("cpu", optimise=False)).run({"x": x})[0]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_overflow_of_float16_is_declined_by_name() -> None:
    text = (
        "(float16[n, 4, 5, 5] x) => (float16[n, 4, h, k] y) { t = Conv (x, w) y = BatchNormalization (t, s, b, m, v) }"
    )
    weights = {"w": np.full((4, 4, 1, 1), 3e4), **bn_parameters(4), "s": np.full(4, 10.0)}
    rewrite = fold_batchnorm(make(text, {name: array.astype(np.float16) for name, array in weights.items()}))
    assert any(
        "overflows FLOAT16" in text
        for text in [*(s.reason for s in rewrite.skipped), *(c.action for c in rewrite.changes)]
    )
    assert operators(rewrite.model) != ["Conv"]


def test_new_bias_name_does_not_collide() -> None:
    text = f"""(float[n, 4, 5, 5] x) => (float[n, 4, h, k] y) {{
        t = Conv (x, w) u = {BN} (t, s, b, m, v) y = Add (u, w_bias) }}"""
    weights = {"w": random(4, 4, 1, 1), "w_bias": random(5), **bn_parameters(4)}
    rewrite = check(make(text, weights), {"x": random(2, 4, 5, 5)})
    assert operators(rewrite.model) == ["Conv", "Add"]


def test_batchnorm_inside_a_function_is_folded_with_constant_nodes() -> None:
    vector = "<value = float[2] {1.5, 0.5}>"
    proto = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17, "local": 1]>
        g (float[n, 2, 5, 5] x) => (float[n, 2, 5, 5] y) {{ y = local.block (x) }}
        <domain: "local", opset_import: ["": 17]>
        block (a) => (b) {{
            w = Constant <value = float[2, 2, 1, 1] {{1.0, 2.0, 3.0, 4.0}}> ()
            s = Constant {vector} () m = Constant {vector} () v = Constant {vector} ()
            t = Conv (a, w) b = {BN} (t, s, m, m, v) }}""")
    model = modelio.load(proto)
    rewrite = fold_batchnorm(model)
    modelio.check(rewrite.model)
    (function,) = rewrite.model.functions.values()
    assert [node.op_type for node in function].count("BatchNormalization") == 0
    feeds = {"x": random(2, 2, 5, 5)}
    want, got = (open_session(m, RuntimeOptions("cpu", optimise=False)).run(feeds)[0] for m in (model, rewrite.model))
    np.testing.assert_allclose(got, want, atol=1e-5)
