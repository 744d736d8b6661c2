"""prune_channels, case by case: what goes, what stays and why; always against the zeroed model in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding import BN, bn_parameters, make, random
from pgc_graph import modelio
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.passes.gates import gate_nodes, insert_gates
from pgc_graph.passes.prune import prune_channels
from pgc_graph.passes.prune.masks import zero_gates
from pgc_graph.runtime.parity import compare, random_feeds
from pruning import judge

HEAD = "f = GlobalAveragePool (last) g = Flatten (f) y = Gemm <transB = 1> (g, hw, hb)"


def network(body: str, weights: dict[str, np.ndarray], *, width: int, opset: int = 17) -> ir.Model:
    """A classifier: `body` makes `last`, of `width` channels, from `x` (n, 3, 8, 8)."""
    head = {"hw": random(2, width, seed=9), "hb": random(2, seed=8)}
    return make(f"(float[n, 3, 8, 8] x) => (float[n, 2] y) {{ {body} {HEAD} }}", weights | head, opset=opset)


def shape_of(model: ir.Model, weight: str) -> list[int]:
    return list(model.graph.initializers[weight].const_value.shape)


def test_plain_chain_loses_filter_bias_batchnorm_and_input_columns() -> None:
    body = f"a = Conv <pads = [1, 1, 1, 1]> (x, w, c) n = {BN} (a, s, b, m, v) t = Relu (n) last = Conv (t, u)"
    weights = {"w": random(6, 3, 3, 3), "c": random(6), "u": random(4, 6, 1, 1), **bn_parameters(6)}
    pruned = judge(network(body, weights, width=4), {"t": [1, 4]})
    shapes = {name: shape_of(pruned.model, name) for name in weights}
    assert shapes == {"w": [4, 3, 3, 3], "c": [4], "u": [4, 4, 1, 1], "s": [4], "b": [4], "m": [4], "v": [4]}
    assert dict(pruned.removed or {}) == {"a": 2, "n": 2, "t": 2}
    assert not pruned.skipped


SILU = "s{0} = Sigmoid ({1}) {0} = Mul ({1}, s{0})"


def test_depthwise_and_squeeze_excite_go_with_their_channel() -> None:
    body = (
        f"a = Conv (x, w) {SILU.format('e', 'a')} d = Conv <group = 8, pads = [1, 1, 1, 1]> (e, dw, db) "
        f"{SILU.format('t', 'd')} p = GlobalAveragePool (t) q = Conv (p, qw) r = Relu (q) k = Conv (r, kw, kb) "
        "z = Sigmoid (k) o = Mul (t, z) last = Conv (o, u)"
    )
    weights = {"w": random(8, 3, 1, 1), "dw": random(8, 1, 3, 3), "db": random(8), "qw": random(2, 8, 1, 1)}
    weights |= {"kw": random(8, 2, 1, 1), "kb": random(8), "u": random(4, 8, 1, 1)}
    pruned = judge(network(body, weights, width=4), {"t": [0, 5, 7]})
    assert {name: shape_of(pruned.model, name) for name in weights} == {
        "w": [5, 3, 1, 1],
        "dw": [5, 1, 3, 3],
        "db": [5],
        "qw": [2, 5, 1, 1],
        "kw": [5, 2, 1, 1],
        "kb": [5],
        "u": [4, 5, 1, 1],
    }
    assert next(node for node in pruned.model.graph if node.outputs[0].name == "d").attributes.get_int("group") == 5


def test_constant_behind_a_zeroed_channel_moves_into_the_next_bias_only_without_padding() -> None:
    weights = {
        "w": random(6, 3, 1, 1),
        "c": random(6),
        "d": random(6, 1, 3, 3),
        "e": random(6),
        "u": random(4, 6, 3, 3),
    }
    body = "a = Conv (x, w, c) t = Relu (a) n = Conv <group = 6, pads = [1, 1, 1, 1]> (t, d, e) last = Conv {} (n, u)"
    open_ended = judge(network(body.format(""), weights, width=4), {"t": [2, 3]})
    assert shape_of(open_ended.model, "u") == [4, 4, 3, 3]
    assert not open_ended.skipped
    padded = judge(network(body.format("<pads = [1, 1, 1, 1]>"), weights, width=4), {"t": [2, 3]})
    assert shape_of(padded.model, "u") == [4, 6, 3, 3]
    assert "a constant other than 0 beside padding zeros" in padded.skipped[0].reason


def test_constants_move_into_gemm_and_matmul() -> None:
    text = "(float[n, 4] x) => (float[n, 2] y) { a = Gemm (x, w, b) r = Relu (a) t = Softplus (r) "
    weights = {"w": random(4, 6), "b": random(6), "u": random(6, 3), "o": random(3, 2), "k": random(3)}
    for tail in (
        "c = Gemm <alpha = 0.5, beta = 2.0> (t, u, k) y = MatMul (c, o) }",
        "c = MatMul (t, u) y = MatMul (c, o) }",
    ):
        pruned = judge(make(text + tail, weights), {"r": [0, 3, 4]})
        assert shape_of(pruned.model, "u") == [3, 3]
        assert shape_of(pruned.model, "w") == [4, 3]


def test_residual_channel_goes_only_if_every_side_is_zero() -> None:
    body = "a = Conv (x, w) b = Relu (a) c = Conv (b, v) t = Relu (c) d = Add (b, t) last = Conv (d, u)"
    weights = {"w": random(5, 3, 1, 1), "v": random(5, 5, 1, 1), "u": random(4, 5, 1, 1)}
    model = network(body, weights, width=4)
    one_side = judge(model, {"t": [1, 2]})
    assert shape_of(one_side.model, "w") == [5, 3, 1, 1]
    assert one_side.skipped[0].subject == "t"
    assert "goes only together with d, which Conv last reads" in one_side.skipped[0].reason
    both = judge(model, {"t": [1, 2], "b": [2, 3]})
    assert [shape_of(both.model, name) for name in weights] == [[4, 3, 1, 1], [4, 4, 1, 1], [4, 4, 1, 1]]


def test_concat_split_pad_resize_and_flatten_are_followed() -> None:
    body = (
        "a = Conv (x, w) b = Conv (x, v) c = Concat <axis = 1> (a, b) l, r = Split <axis = 1> (c, sizes) "
        'm = Max (l, r) p = Pad (m, amounts) q = Resize <mode = "nearest"> (p, none, scales) '
        "t = MaxPool <kernel_shape = [2, 2]> (q) last = Tanh (t)"
    )
    weights = {"w": random(6, 3, 1, 1), "v": random(4, 3, 1, 1), "sizes": np.array([5, 5])}
    weights |= {"amounts": np.array([0, 0, 1, 1, 0, 0, 1, 0]), "none": np.zeros(0, np.float32)}
    weights |= {"scales": np.array([1, 1, 2, 2], np.float32)}
    pruned = judge(network(body, weights, width=5), {"t": [0, 3]})
    assert [shape_of(pruned.model, name) for name in ("w", "v", "hw")] == [[3, 3, 1, 1], [3, 3, 1, 1], [2, 3]]
    split = next(node for node in pruned.model.graph if node.op_type == "Split")
    assert split.inputs[1].const_value.numpy().tolist() == [3, 3]


@pytest.mark.parametrize("opset", [11, 18], ids=["sizes as attribute", "no sizes"])
def test_even_split_gets_sizes(opset: int) -> None:
    split = "l, r = Split <axis = 1, num_outputs = 2> (a)" if opset == 18 else "l, r = Split <axis = 1> (a)"
    body = f"a = Conv (x, w) {split} s = Tanh (l) last = Concat <axis = 1> (s, r)"
    pruned = judge(network(body, {"w": random(6, 3, 1, 1)}, width=6, opset=opset), {"s": [1]})
    assert shape_of(pruned.model, "w") == [5, 3, 1, 1]


@pytest.mark.parametrize("flat", ["Flatten (t)", "Reshape (t, target)"], ids=["Flatten", "Reshape"])
def test_every_place_of_a_channel_leaves_the_gemm_behind_a_flatten(flat: str) -> None:
    text = f"(float[n, 3, 4, 4] x) => (float[n, 2] y) {{ a = Conv (x, w) t = Relu (a) f = {flat} y = Gemm (f, u) }}"
    weights = {"w": random(5, 3, 1, 1), "u": random(80, 2), "target": np.array([0, 80])}
    pruned = judge(make(text, weights), {"t": [1, 4]})
    assert shape_of(pruned.model, "u") == [48, 2]
    if "target" in flat:
        assert pruned.model.graph.initializers["target"].const_value.numpy().tolist() == [0, 48]


def test_groups_of_a_conv_stay_equal_or_go_whole() -> None:
    body = "a = Conv (x, w) t = Relu (a) b = Conv <group = 2> (t, v) last = Relu (b)"
    weights = {"w": random(8, 3, 1, 1), "v": random(6, 4, 1, 1)}
    model = network(body, weights, width=6)
    uneven = judge(model, {"t": [0, 1, 5]})
    assert shape_of(uneven.model, "v") == [6, 3, 1, 1]
    assert "groups of a Conv would differ in size" in uneven.skipped[0].reason
    whole = judge(model, {"t": [0, 1, 2, 3], "last": [0, 1, 2]})
    assert shape_of(whole.model, "v") == [3, 4, 1, 1]


def test_channels_last_tokens_and_layer_normalization() -> None:
    text = (
        "(float[n, 4, 6] x) => (float[n, 2] y) { h = MatMul (x, w) b = Add (c, h) t = Relu (b) o = MatMul (t, v) "
        "s = Add (o, x) z = LayerNormalization (s, g) p = ReduceMean <axes = [1], keepdims = 0> (z) y = MatMul (p, u) }"
    )
    weights = {"w": random(6, 9), "c": random(9), "v": random(9, 6), "g": random(6), "u": random(6, 2)}
    pruned = judge(make(text, weights), {"t": [0, 8], "o": [1]})
    assert [shape_of(pruned.model, name) for name in ("w", "c", "v")] == [[6, 7], [7], [7, 6]]
    (skip,) = pruned.skipped
    assert skip.subject == "o"


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ('e = Einsum <equation = "nchw->nchw"> (t) last = Relu (e)', "Einsum e reads them"),
        ("e = Softmax <axis = 1> (t) last = Relu (e)", "Softmax e reads them"),
        ("e = ReduceSum <keepdims = 1> (t, one) last = Mul (t, e)", "ReduceSum e reduces over them"),
    ],
    ids=["no rule", "normalises over channels", "sums over channels"],
)
def test_operator_that_reads_all_channels_pins_them(tail: str, words: str) -> None:
    weights = {"w": random(4, 3, 1, 1), "one": np.array([1])}
    pruned = judge(network(f"a = Conv (x, w) t = Exp (a) {tail}", weights, width=4), {"t": [2]})
    assert any(words in skip.reason for skip in pruned.skipped), pruned.skipped


def test_channels_of_an_output_and_of_a_subgraph_stay() -> None:
    text = """(float[n, 3] x, bool flag) => (float[n, 4] t, float[n, 2] y) {
        a = MatMul (x, w) t = Relu (a) b = MatMul (x, w) s = Relu (b)
        y = If (flag) <
            then_branch = one () => (float[n, 2] p) { p = MatMul (s, u) },
            else_branch = two () => (float[n, 2] q) { q = MatMul (s, u) }
        > }"""
    pruned = prune_channels(make(text, {"w": random(3, 4), "u": random(4, 2)}), {"s": [0]})
    assert "reads" in pruned.skipped[0].reason
    assert shape_of(pruned.model, "u") == [4, 2]


def test_last_channel_stays_even_if_all_are_zero() -> None:
    body = "a = Conv (x, w, c) t = Relu (a) last = Conv <pads = [1, 1, 1, 1]> (t, u)"
    weights = {"w": random(5, 3, 1, 1), "c": random(5), "u": random(4, 5, 3, 3)}
    pruned = judge(network(body, weights, width=4), {"t": [0, 1, 2, 3, 4]})
    assert shape_of(pruned.model, "w") == [1, 3, 1, 1]
    assert "no channel left" in pruned.skipped[0].reason


def test_weights_that_two_layers_share_are_cut_once_or_copied() -> None:
    body = "a = Conv (x, w) b = Conv (x, w) s = Relu (a) t = Relu (b) m = Conv (s, v) n = Conv (t, u) last = Add (m, n)"
    weights = {"w": random(6, 3, 1, 1), "v": random(4, 6, 1, 1, seed=3), "u": random(4, 6, 1, 1)}
    alike = judge(network(body, weights, width=4), {"s": [1], "t": [1]})
    assert shape_of(alike.model, "w") == [5, 3, 1, 1]
    differing = judge(network(body, weights, width=4), {"s": [1, 2], "t": [1]})
    convolutions = [node for node in differing.model.graph if node.op_type == "Conv"][:2]
    assert [node.inputs[1].const_value.shape[0] for node in convolutions] == [4, 5]


def test_gates_of_zero_cut_and_the_others_fold() -> None:
    body = "a = Conv (x, w) t = Relu (a) last = Conv (t, u)"
    model = network(body, {"w": random(6, 3, 1, 1), "u": random(4, 6, 1, 1)}, width=4)
    gated = insert_gates(model, ["t"], per_channel=True).model
    gate = gate_nodes(gated)[0].inputs[1]
    values = np.array([1, 0, 0.5, 0.05, 1.2, 0.9], np.float32).reshape(1, 6, 1, 1)
    gate.const_value = ir.tensor(values, name=gate.name)
    cut = zero_gates(gated, 0.1)
    pruned = prune_channels(cut, {})
    assert shape_of(pruned.model, "w") == [4, 3, 1, 1]
    assert not pruned.skipped
    assert [value.name for value in pruned.model.graph.inputs] == ["x"]
    assert compare(cut, pruned.model, feeds=list(random_feeds(cut, runs=2)), tolerance=1e-5).passed


def test_wrong_requests_are_refused_by_name() -> None:
    model = network("a = Conv (x, w) last = Relu (a)", {"w": random(4, 3, 1, 1)}, width=4)
    with pytest.raises(SelectionError, match="nowhere"):
        prune_channels(model, {"nowhere": [0]})
    with pytest.raises(OptionError, match="'a' has no channel 4; expected numbers from 0 to 3"):
        prune_channels(model, {"a": [4]})
    with pytest.raises(UnsupportedError, match="'x'"):
        prune_channels(model, {"x": [0]})
    assert modelio.to_bytes(prune_channels(model, {}).model)
