"""Two models are compared on inputs, and where they part is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from calibrated import smooth_images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import networks

from pgc_graph import modelio
from pgc_graph.errors import OptionError, ParityError
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.runtime.parity import random_feeds
from pgc_graph.studies.feeds import npz_feeds
from pgc_graph.studies.verify import Verification, verify

HEAD = '<ir_version: 8, opset_import: ["": 17]> g'


def parse(text: str) -> ir.Model:
    return modelio.load(onnx.parser.parse_model(f"{HEAD} {text}"))


def scaled(model: ir.Model, name: str, factor: float = 1.05) -> ir.Model:
    """Return a copy with a weight multiplied."""
    copy = model.clone()
    value = copy.graph.initializers[name]
    assert value.const_value is not None
    value.const_value = ir.tensor((value.const_value.numpy() * factor).astype(np.float32), name=name)
    return copy


def convolutions(model: ir.Model) -> dict[str, ir.Node]:
    """Return the node by the name of its weight."""
    return {str(n.inputs[1].name): n for n in model.graph if n.op_type in ("Conv", "Gemm") and n.inputs[1] is not None}


def judge(before: ir.Model, after: ir.Model, **options: Any) -> Verification:
    return verify(before, after, random_feeds(before, runs=2), **options)


def test_equal_models_pass_and_nothing_is_searched(pgc_model: Any) -> None:
    model = pgc_model("s")
    result = verify(model, fold_batchnorm(model).model, [{"images": smooth_images(3, seed)} for seed in range(2)])
    assert (result.passed, result.runs, result.worst_run, result.divergence) == (True, 2, None, None)
    assert 0 < result.outputs[0].max_difference < 1e-5


@pytest.mark.parametrize("place", [0, 3, 9, 14, -1])
def test_a_changed_weight_is_found_at_its_own_node(pgc_model: Any, place: int) -> None:
    model = pgc_model("s")
    name, node = list(convolutions(model).items())[place]
    found = judge(model, scaled(model, name), tolerance=1e-7).divergence
    assert found is not None
    assert (found.tensor, found.node, found.operator) == (node.outputs[0].name, node.name, node.op_type)
    assert found.compared <= found.matched


@pytest.mark.parametrize("place", [0, 5, 7, 12, 20])
def test_in_a_folded_graph_the_fault_lies_between_what_agrees_and_what_differs(corpus_model: Any, place: int) -> None:
    model = modelio.load(corpus_model("resnet20_cifar10"))
    folded = fold_batchnorm(model).model
    name, node = list(convolutions(folded).items())[place]
    found = judge(model, scaled(folded, name)).divergence
    assert found is not None
    assert f"{node.op_type} {node.name}" in found.between
    assert len(found.between) <= 6
    # An independent look: all that is said to agree does, and the tensor named does not.
    feed = next(random_feeds(model, runs=1))
    bad = scaled(folded, name)
    for tensor in (*found.agreeing, found.tensor):
        left, right = (_inner(m, tensor, feed) for m in (model, bad))
        close = np.abs(left - right).max() <= 1e-5 * max(1, np.abs(left).max())
        assert close == (tensor != found.tensor)


def _inner(model: ir.Model, name: str, feed: dict[str, Any]) -> Any:
    proto = modelio.to_proto(model)
    proto.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], feed)[0]


@given(networks(), st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_on_random_networks_the_first_differing_tensor_is_that_of_the_plain_search(
    proto: onnx.ModelProto, data: st.DataObject
) -> None:
    model = modelio.load(proto)
    weights = convolutions(model)
    name = data.draw(st.sampled_from(sorted(weights)))
    changed = scaled(model, name, 1.5)
    result = judge(model, changed, tolerance=1e-6)
    if result.passed:
        return  # a unit that is dead or saturated on these inputs
    found = result.divergence
    assert found is not None
    assert (found.node, found.operator) == (weights[name].name or weights[name].op_type, weights[name].op_type)
    assert found.tensor == weights[name].outputs[0].name


def test_a_difference_that_heals_is_no_fault() -> None:
    # `a` differs by sign, which Abs heals; the fault is the constant behind it.
    first = parse(
        "(float[2] x) => (float[2] y) <float[1] k = {2.0}> { a = Neg(x) b = Abs(a) c = Mul(b, k) y = Sqrt(c) }"
    )
    second = parse(
        "(float[2] x) => (float[2] y) <float[1] k = {3.0}> { a = Identity(x) b = Abs(a) c = Mul(b, k) y = Sqrt(c) }"
    )
    found = judge(first, second).divergence
    assert found is not None
    assert (found.tensor, found.agreeing) == ("c", ("b",))


def test_renamed_graphs_part_at_the_output() -> None:
    first = parse("(float[2] x) => (float[2] y) { a = Neg(x) y = Abs(a) }")
    second = parse("(float[2] u) => (float[2] v) { b = Neg(u) v = Exp(b) }")
    result = judge(first, second)
    assert result.divergence is not None
    assert (result.divergence.tensor, result.divergence.candidate_operator) == ("y", "Exp")
    assert result.divergence.between == ("Neg", "Abs")


def test_a_body_is_named_by_the_node_that_holds_it() -> None:
    text = """(bool c, float[2] x) => (float[2] y) {{ [pre] a = Neg(x) [choose] y = If(c)
        <then_branch = t () => (float[2] p) {{ p = {}(a) }}, else_branch = e () => (float[2] q) {{ q = Abs(a) }}> }}"""
    feeds = [{"c": np.asarray(True), "x": np.asarray([1, -2], np.float32)}]
    found = verify(parse(text.format("Exp")), parse(text.format("Neg")), feeds).divergence
    assert found is not None
    assert (found.tensor, found.node, found.agreeing) == ("y", "choose", ("a",))


@pytest.mark.parametrize(
    ("tolerance", "relative", "passed"),
    [
        (1e-3, None, True),
        (1e-3, 0.0, False),
        (0.5, 0.0, True),
        (0.0, 1e-3, True),
        (1e-5, 1e-5, False),
        (0.0, 0.0, False),
    ],
)
def test_tolerances(tolerance: float, relative: float | None, passed: bool) -> None:
    # Outputs of about 1000 that differ by 0.1.
    first = parse("(float[2] x) => (float[2] y) <float[1] k = {1000.0}> { y = Add(x, k) }")
    second = parse("(float[2] x) => (float[2] y) <float[1] k = {1000.1}> { y = Add(x, k) }")
    assert judge(first, second, tolerance=tolerance, relative_tolerance=relative).passed is passed


def test_outputs_go_by_name_and_their_number_must_agree() -> None:
    first = parse("(float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = Abs(x) }")
    swapped = parse("(float[2] x) => (float[2] z, float[2] y) { y = Neg(x) z = Abs(x) }")
    one = parse("(float[2] x) => (float[2] y) { y = Neg(x) }")
    assert judge(first, swapped).passed
    with pytest.raises(ParityError, match="1 outputs instead of 2"):
        judge(first, one)


def test_a_wrong_shape_is_a_difference_with_a_note() -> None:
    first = parse("(float[2] x) => (float[a] y) { b = Neg(x) y = Concat<axis = 0>(b, x) }")
    second = parse("(float[2] x) => (float[a] y) { b = Neg(x) y = Concat<axis = 0>(b, x, x) }")
    result = judge(first, second)
    assert result.outputs[0].note == "float32[6] instead of float32[4]"
    assert result.divergence is not None
    assert result.divergence.tensor == "y"


def test_npz_feeds_are_read_and_judged(tmp_path: Path) -> None:
    model = parse("(float[n, 2] x, int64[1] k) => (float[n, 2] y) { f = Cast<to = 1>(k) y = Mul(x, f) }")
    good = {"x": np.ones((3, 2), np.float32), "k": np.asarray([2])}
    np.savez(tmp_path / "good.npz", **good)
    assert {name: array.tolist() for name, array in npz_feeds(model, tmp_path / "good.npz").items()} == {
        name: array.tolist() for name, array in good.items()
    }
    for change, words in (
        ({"x": np.ones((3, 2))}, "'x' holds float64; the model's input holds float32"),
        ({"x": np.ones((3, 4), np.float32)}, "'x' is 3x4; the model's input is ?x2"),
        ({"z": np.ones(1)}, "'z', which is no input"),
    ):
        np.savez(tmp_path / "bad.npz", **{**good, **change})
        with pytest.raises(OptionError) as caught:
            npz_feeds(model, tmp_path / "bad.npz")
        assert words in str(caught.value)
    np.savez(tmp_path / "short.npz", x=good["x"])
    with pytest.raises(OptionError, match="expected an array 'k'"):
        npz_feeds(model, tmp_path / "short.npz")
    for name, content in (
        ("text.npz", b"hello"),
        ("cut.npz", (tmp_path / "good.npz").read_bytes()[:-40]),
        ("e.npz", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OptionError, match="cannot read feeds"):
            npz_feeds(model, tmp_path / name)
    np.save(tmp_path / "one.npy", good["x"])
    with pytest.raises(OptionError, match="one array without a name"):
        npz_feeds(model, tmp_path / "one.npy")
