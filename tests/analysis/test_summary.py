"""Counts are those that one gets by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.analysis.macs import count_macs
from pgc_graph.analysis.summary import TensorInfo, count_parameters, summarise
from pgc_graph.errors import OptionError
from pgc_graph.render.table import align, summary_table
from pgc_graph.results import to_json


def model(
    text: str, weights: dict[str, tuple[int, ...]] | None = None, opset: int = 17, metadata: str = ""
) -> ir.Model:
    """A model from the body of a graph in ONNX text; weights are zeros of the given shapes."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "local" : 1, "other" : 1]> g '
    proto = onnx.parser.parse_model(header + text)
    for name, shape in (weights or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
    if metadata:
        onnx.helper.set_model_props(proto, {"pgc.image_size": metadata})
    return ir.from_proto(proto)


# MACs of single operators, by hand.


@pytest.mark.parametrize(
    ("text", "weights", "expected"),
    [
        pytest.param(  # 8 x 6 x 6 outputs, each 3 x 3 x 3 products; the bias costs nothing
            "(float[n, 3, 8, 8] x) => (float[n, 8, 6, 6] y) { y = Conv(x, w, b) }",
            {"w": (8, 3, 3, 3), "b": (8,)},
            8 * 6 * 6 * 27,
            id="conv",
        ),
        pytest.param(  # depthwise, stride 2, padded: 8 x 4 x 4 outputs of 9 products
            "(float[n, 8, 8, 8] x) => (float[n, 8, 4, 4] y)"
            "{ y = Conv<group = 8, strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) }",
            {"w": (8, 1, 3, 3)},
            8 * 4 * 4 * 9,
            id="depthwise",
        ),
        pytest.param(  # one dimension, dilated: reach 5
            "(float[n, 4, 20] x) => (float[n, 2, 16] y) { y = Conv<dilations = [2]>(x, w) }",
            {"w": (2, 4, 3)},
            2 * 16 * 12,
            id="conv1d-dilated",
        ),
        pytest.param(  # every one of 4 x 5 x 5 inputs meets (6 / 2) x 3 x 3 weights
            "(float[n, 4, 5, 5] x) => (float[n, 6, 11, 11] y) { y = ConvTranspose<group = 2, strides = [2, 2]>(x, w) }",
            {"w": (4, 3, 3, 3)},
            4 * 25 * 27,
            id="conv-transpose",
        ),
        pytest.param(
            "(float[n, 64] x) => (float[n, 10] y) { y = Gemm<transB = 1>(x, w, b) }",
            {"w": (10, 64), "b": (10,)},
            640,
            id="gemm-transposed",
        ),
        pytest.param(
            "(float[64, 1] x) => (float[1, 10] y) { y = Gemm<transA = 1>(x, w) }",
            {"w": (64, 10)},
            640,
            id="gemm-transA",
        ),
        pytest.param(  # 2 heads x 5 x 5 outputs of 16 products each
            "(float[n, 2, 5, 16] x) => (float[n, 2, 5, 5] y) { t = Transpose<perm = [0, 1, 3, 2]>(x) y = MatMul(x, t) }",
            {},
            2 * 5 * 5 * 16,
            id="matmul-batched",
        ),
        pytest.param("(float[16] x) => (float y) { y = MatMul(x, w) }", {"w": (16,)}, 16, id="dot-product"),
        pytest.param("(float[n, 8] x) => (float[n, 8] y) { a = Relu(x) y = Mul(a, x) }", {}, 0, id="elementwise"),
        pytest.param(  # a fixed batch of 5 is divided out
            "(float[5, 3, 8, 8] x) => (float[5, 8, 6, 6] y) { y = Conv(x, w) }",
            {"w": (8, 3, 3, 3)},
            8 * 6 * 6 * 27,
            id="fixed-batch",
        ),
        pytest.param(  # the costlier branch of two
            "(float[n, 8] x, bool c) => (float[n, 8] y) { y = If(c)<"
            "then_branch = t () => (float[n, 8] a) { p = MatMul(x, v) a = MatMul(p, v) },"
            "else_branch = e () => (float[n, 8] b) { b = MatMul(x, v) }> }",
            {"v": (8, 8)},
            128,
            id="if",
        ),
    ],
)
def test_macs_of_an_operator(text: str, weights: dict[str, tuple[int, ...]], expected: int) -> None:
    counted = count_macs(model(text, weights))
    assert counted.total == expected
    assert counted.uncounted == ()


def test_macs_inside_functions_count_at_every_call() -> None:
    text = """(float[n, 8] x) => (float[n, 8] y) { a = local.dense(x, w) y = local.dense(a, w) }
    <domain: "local", opset_import: ["" : 17]> dense (p, q) => (r) { r = MatMul(p, q) }"""
    assert count_macs(model(text, {"w": (8, 8)})).total == 128


def test_symbolic_sizes_come_from_metadata_or_the_caller() -> None:
    text = "(float[n, 3, h, w] x) => (float[n, 8, oh, ow] y) { [first] y = Conv(x, k) }"
    weights = {"k": (8, 3, 3, 3)}
    assert count_macs(model(text, weights, metadata="10x12")).total == 8 * 8 * 10 * 27
    assert count_macs(model(text, weights), input_shapes={"x": (1, 3, 8, 8)}).total == 8 * 6 * 6 * 27
    open_size = count_macs(model(text, weights))
    assert open_size.total == 0
    assert [(node.node, node.op_type, node.reason) for node in open_size.uncounted] == [
        ("first", "Conv", "its shapes are unknown")
    ]
    assert open_size.input_shapes == {"x": (1, 3, None, None)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            "(float[n, 8] x) => (float[n, 8] y) { y = other.Dense(x, w) }",
            "no rule for operators of domain other",
            id="domain",
        ),
        pytest.param(
            '(float[n, 8] x) => (float[n, 8] y) { y = Einsum<equation = "ni,ij->nj">(x, w) }',
            "no rule for this operator",
            id="einsum",
        ),
        pytest.param(
            "(float[n, 8] x, int64 m) => (float[n, 8] y) { y = Loop(m, , x)<body = b (int64 i, bool c, float[n, 8] s)"
            " => (bool d, float[n, 8] r) { d = Identity(c) r = MatMul(s, w) }> }",
            "its body runs an unknown number of times",
            id="loop",
        ),
    ],
)
def test_what_cannot_be_counted_is_named(text: str, reason: str) -> None:
    counted = count_macs(model(text, {"w": (8, 8)}))
    assert counted.total == 0
    assert [node.reason for node in counted.uncounted] == [reason]


@pytest.mark.parametrize("shapes", [{"z": (1, 3, 8, 8)}, {"x": (1, 4, 8, 8)}, {"x": (1, 3)}], ids=repr)
def test_a_wrong_input_shape_is_an_option_error(shapes: dict[str, tuple[int, ...]]) -> None:
    conv = model("(float[n, 3, h, w] x) => (float[n, 8, i, j] y) { y = Conv(x, k) }", {"k": (8, 3, 3, 3)})
    with pytest.raises(OptionError):
        count_macs(conv, input_shapes=shapes)


def pgc_macs(base: int, blocks: int, size: int = 32) -> int:
    """MACs of a PGC network by its definition: stem, inverted residuals with squeeze-and-excitation, avgmax_mlp head."""
    total = size**2 * base * 27
    size //= 2
    total += size**2 * base * 9 * base
    channels = base
    for index in range(blocks):
        hidden, stride = 4 * channels, 2 if index and index % 2 == 0 else 1
        total += size**2 * channels * hidden  # expand
        size //= stride
        total += size**2 * hidden * 9  # depthwise
        total += 2 * hidden * (hidden // 8)  # squeeze and excite
        channels *= stride
        total += size**2 * hidden * channels  # project
    return total + 2 * channels * max(16, channels) + max(16, channels)


@pytest.mark.parametrize(
    ("variant", "base", "blocks", "parameters"),
    [("s", 32, 4, 118_321), ("l", 64, 6, 1_622_049)],
    ids=["s", "l"],
)
def test_pgc_counts(
    variant: str, base: int, blocks: int, parameters: int, pgc_model: Callable[[str], ir.Model]
) -> None:
    summary = summarise(pgc_model(variant))
    assert summary.macs.total == pgc_macs(base, blocks)
    assert summary.macs.uncounted == ()
    assert summary.parameters.weights == parameters


@pytest.mark.parametrize(
    ("name", "millions"),
    # resnet20: He et al. 2016 and the usual reimplementations; efficientnet_b0: 385 M (the corpus's own account)
    [("resnet20_cifar10", 40.8), ("resnet20_cifar10_dynamo", 40.8), ("efficientnet_b0", 385)],
)
def test_known_architectures_cost_what_is_published(
    name: str, millions: float, corpus_model: Callable[[str], Path]
) -> None:
    counted = count_macs(modelio.load(corpus_model(name)))
    assert counted.total / 1e6 == pytest.approx(millions, rel=2e-3)
    assert counted.uncounted == ()


# Parameters.


def test_parameters_of_every_scope_count_once() -> None:
    text = """(float[n, 8] x, bool c) => (float[n, 8] y) {
        k = Constant<value = float[1, 8] {1, 2, 3, 4, 5, 6, 7, 8}>()
        half = Constant<value_float = 0.5>()
        axes = Constant<value_ints = [0, 1]>()
        word = Constant<value_string = "text">()
        p = MatMul(x, w)
        q = MatMul(p, w)
        r = local.shift(q)
        y = If(c)<then_branch = t () => (float[n, 8] a) <float[3] inner = {1, 2, 3}> { a = Identity(r) },
                  else_branch = e () => (float[n, 8] b) { b = Neg(r) }>
    }
    <domain: "local", opset_import: ["" : 17]>
    shift (u) => (v) { z = Constant<value = float[2] {1, 2}>() v = Identity(u) }"""
    counted = count_parameters(model(text, {"w": (8, 8)}))
    # w, k, half, inner, and z of the function; axes are indices; text is no parameter
    assert counted.weights == 64 + 8 + 1 + 3 + 2
    assert (counted.indices, counted.statistics, counted.tensors) == (2, 0, 6)
    assert counted.bytes == 4 * counted.weights + 8 * 2


def test_running_statistics_are_told_apart() -> None:
    text = "(float[n, 8, 4, 4] x) => (float[n, 8, 4, 4] y) { y = BatchNormalization(x, s, b, m, v) }"
    counted = count_parameters(model(text, {"s": (8,), "b": (8,), "m": (8,), "v": (8,)}))
    assert (counted.elements, counted.weights, counted.statistics) == (32, 16, 16)


# The whole.


def test_summary_says_what_the_file_holds() -> None:
    text = """(float[n, 3, 8, 8] x, float[1] gate) => (float16[?, 1, "unk"] y, float[] z)
    <float[1] gate = {1}> {
        s = Sigmoid(x) a = Mul(x, s) b = Mul(a, gate) y = other.Head(b) z = other.Head(b)
    }""".replace('"unk"', "unk")
    given = model(text, metadata="8x8")
    given.producer_name, given.producer_version = "hand", "2"
    summary = summarise(given, file_bytes=123)
    assert summary.inputs == (
        TensorInfo("x", "float32", ("n", 3, 8, 8)),
        TensorInfo("gate", "float32", (1,), has_default=True),
    )
    assert summary.outputs == (TensorInfo("y", "float16", (None, 1, "unk")), TensorInfo("z", "float32", None))
    assert summary.operators == {"Mul": 2, "other.Head": 2, "Sigmoid": 1}
    assert (summary.nodes, summary.ir_version, summary.producer, summary.file_bytes) == (5, 8, "hand 2", 123)
    assert summary.opset_imports == {"": 17, "local": 1, "other": 1}
    assert [(target.tensor, target.kind) for target in summary.sigmoid_mul] == [("a", "silu")]
    assert summary.metadata == {"pgc.image_size": "8x8"}


def test_external_weights_are_weighed(tmp_path: Path) -> None:
    proto = modelio.to_proto(model("(float[n, 8] x) => (float[n, 8] y) { y = MatMul(x, w) }", {"w": (8, 8)}))
    onnx.save(proto, str(tmp_path / "m.onnx"), save_as_external_data=True, size_threshold=0)
    assert summarise(modelio.load(tmp_path / "m.onnx")).external_bytes == 256


def test_asking_changes_nothing(pgc_model: Callable[[str], ir.Model], corpus_model: Callable[[str], Path]) -> None:
    for asked in (pgc_model("s"), modelio.load(corpus_model("resnet20_cifar10_dynamo"))):
        before = modelio.to_bytes(asked)
        summarise(asked, input_shapes={})
        assert modelio.to_bytes(asked) == before


def test_table_and_json_show_the_same(pgc_model: Callable[[str], ir.Model]) -> None:
    summary = summarise(pgc_model("s"), file_bytes=4321)
    table, document = summary_table(summary), to_json(summary)
    for text in ("prob_pointing", "/base_model/stem/stem.2/Mul_output_0", "pgc.image_size", "BatchNormalization"):
        assert text in table
        assert text in document
    assert f"{summary.macs.total:,}" in table
    assert "4,321 bytes" in table
    assert str(summary.macs.total) in document
    assert all(line == line.rstrip() for line in table.splitlines())


def test_table_lists_what_was_not_counted() -> None:
    chain = " ".join(f"a{index + 1} = other.Op(a{index})" for index in range(14))
    summary = summarise(model(f"(float[n] a0) => (float[n] a14) {{ {chain} }}"))
    table = summary_table(dataclasses.replace(summary, external_bytes=7, file_bytes=5))
    assert "not counted in MACs: 14" in table
    assert "... and 4 more" in table
    assert "7 bytes of weights beside it" in table


def test_columns_are_aligned() -> None:
    assert align([("a", "1", "x"), ("bbb", "22"), ("c",)], right=(1,)) == ["a     1  x", "bbb  22", "c"]
    assert align([]) == []
