"""insert_gates: the same function at rest, and each gate scales its tensor wherever that is read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import SelectionError, UnsupportedError
from pgc_graph.passes.gates import Gate, insert_gates
from pgc_graph.runtime.parity import assert_parity
from pgc_graph.runtime.session import open_session


def make(text: str) -> ir.Model:
    return modelio.load(onnx.parser.parse_model(text))


def run(model: ir.Model, **feeds: np.ndarray) -> list[np.ndarray]:
    return open_session(model).run(feeds)


def scaled(model: ir.Model, gate: str, factor: float, x: np.ndarray) -> list[np.ndarray]:
    gate_input = next(value for value in model.graph.inputs if value.name == gate)
    shape = tuple(int(dim) for dim in gate_input.shape or ())
    return run(model, x=x, **{gate: np.full(shape, factor, gate_input.dtype.numpy() if gate_input.dtype else None)})


EVERYWHERE = """<ir_version: 8, opset_import: ["": 17]>
agraph (float[n, 3] x) => (float[n, 3] a, float[n, 3] b, float[n, 3] c) {
    a = Relu (x)
    b = Add (a, x)
    yes = Constant <value = bool {1}> ()
    c = If (yes) <
        then_branch = taken () => (float[n, 3] t) { t = Mul (a, a) },
        else_branch = other () => (float[n, 3] e) { e = Identity (x) }
    >
}"""


def test_tensor_that_is_an_output_and_read_twice_and_captured_is_scaled_everywhere() -> None:
    model = make(EVERYWHERE)
    gated = insert_gates(model, ["a"])
    x = np.array([[1.0, -2.0, 3.0]], np.float32)
    a = np.maximum(x, 0)
    for factor in (1.0, 0.5, 0.0):
        expected = (factor * a, factor * a + x, (factor * a) ** 2)
        for got, want in zip(scaled(gated.model, gated.gates[0].gate, factor, x), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)
    assert [value.name for value in gated.model.graph.outputs] == ["a", "b", "c"]
    assert_parity(model, gated.model)
    modelio.check(gated.model)


def test_input_model_stays_untouched() -> None:
    model = make(EVERYWHERE)
    before = modelio.to_bytes(model)
    insert_gates(model, ["a", "b"])
    assert modelio.to_bytes(model) == before


def test_names_that_differ_in_punctuation_alone_get_gates_of_their_own() -> None:
    model = make(
        """<ir_version: 8, opset_import: ["": 17]>
        agraph (float[n, 2] x) => (float[n, 2] y) { p = Relu (x)  a_b = Neg (p)  y = Neg (a_b) }"""
    )
    next(v for node in model.graph for v in node.outputs if v.name == "p").name = "a/b"
    gated = insert_gates(model, ["a/b", "a_b"])
    assert len({gate.gate for gate in gated.gates}) == 2
    assert_parity(model, gated.model)


def test_gate_names_avoid_names_that_exist() -> None:
    model = make(
        """<ir_version: 8, opset_import: ["": 17]>
        agraph (float[n, 2] x) => (float[n, 2] y) { p = Relu (x)  q = Neg (p)  y = Neg (q) }"""
    )
    next(v for node in model.graph for v in node.outputs if v.name == "q").name = "gate::p"
    gated = insert_gates(model, ["p"])
    assert gated.gates[0].gate not in ("gate::p", "p")
    assert_parity(model, gated.model)


@pytest.mark.parametrize(("text", "dtype"), [("float16", np.float16), ("float", np.float32), ("double", np.float64)])
def test_gate_has_the_dtype_of_its_tensor(text: str, dtype: type[np.generic]) -> None:
    model = make(
        f"""<ir_version: 8, opset_import: ["": 17]>
        agraph ({text}[n, 2] x) => ({text}[n, 2] y) {{ p = Neg (x)  y = Abs (p) }}"""
    )
    gated = insert_gates(model, ["p"])
    x = np.array([[1, 2]], dtype)
    (half,) = scaled(gated.model, gated.gates[0].gate, 0.5, x)
    assert half.dtype == dtype
    np.testing.assert_array_equal(half, x / 2)


def test_bfloat16_gate_is_valid() -> None:
    model = make(
        """<ir_version: 8, opset_import: ["": 17]>
        agraph (bfloat16[n, 2] x) => (bfloat16[n, 2] y) { p = Neg (x)  y = Abs (p) }"""
    )
    gated = insert_gates(model, ["p"])
    assert gated.model.graph.inputs[-1].dtype == ir.DataType.BFLOAT16
    modelio.check(gated.model)


def test_scalar_tensor_keeps_its_rank() -> None:
    model = make(
        """<ir_version: 8, opset_import: ["": 17]>
        agraph (float[n, 2] x) => (float y) { p = ReduceSum <keepdims = 0> (x)  y = Neg (p) }"""
    )
    gated = insert_gates(model, ["p"])
    (got,) = scaled(gated.model, gated.gates[0].gate, 0.5, np.array([[1, 3]], np.float32))
    assert got.shape == ()
    assert got == -2
    modelio.check(gated.model)


def test_model_older_than_optional_initializers_is_gated() -> None:
    model = make(
        """<ir_version: 3, opset_import: ["": 9]>
        agraph (float[n, 2] x, float[2] w) => (float[n, 2] y) <float[2] w = {1, 1}> { p = Mul (x, w)  y = Neg (p) }"""
    )
    gated = insert_gates(model, ["p"])
    assert_parity(model, gated.model)
    modelio.check(gated.model)
    assert [value.name for value in gated.model.graph.inputs] == ["x", "gate::p"]
    (got,) = scaled(gated.model, gated.gates[0].gate, 0.5, np.array([[4, 2]], np.float32))
    np.testing.assert_array_equal(got, [[-2, -1]])


REFUSED = """<ir_version: 8, opset_import: ["": 17, "own": 1]>
agraph (float[n, 3] x) => (float[n, 3] y) {
    whole = Shape (x)
    strange = own.Thing (x)
    yes = Constant <value = bool {1}> ()
    inner = If (yes) <
        then_branch = taken () => (float[n, 3] t) { inside = Neg (x) t = Neg (inside) },
        else_branch = other () => (float[n, 3] e) { e = Identity (x) }
    >
    y = Add (inner, strange)
}"""


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        pytest.param("whole", "holds INT64", id="integer"),
        pytest.param("yes", "holds BOOL", id="boolean"),
        pytest.param("strange", "type is unknown", id="unknown-type"),
        pytest.param("inside", "no node of the main graph", id="in-subgraph"),
        pytest.param("x", "no node of the main graph", id="graph-input"),
    ],
)
def test_unsuited_tensor_is_left_with_a_reason(tensor: str, reason: str) -> None:
    gated = insert_gates(make(REFUSED), [tensor])
    assert not gated.gates
    assert not gated.changes
    (skip,) = gated.skipped
    assert skip.subject == tensor
    assert reason in skip.reason


def test_unknown_name_is_an_error() -> None:
    with pytest.raises(SelectionError, match="'nowhere'"):
        insert_gates(make(EVERYWHERE), ["nowhere"])


def test_opset_without_broadcasting_is_an_error() -> None:
    model = make('<ir_version: 3, opset_import: ["": 6]> agraph (float[n] x) => (float[n] y) { y = Relu (x) }')
    with pytest.raises(UnsupportedError, match="opset 7"):
        insert_gates(model, ["y"])


CHANNELS = """<ir_version: 8, opset_import: ["": 17]>
agraph (float[n, 3, 4, 4] x, float[n, k] free) => (float[n, 5] y, float[n, k] z)
<float[5, 3, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
 float[5, 5] m = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25}> {
    first = Conv (x, w)
    last = Transpose <perm = [0, 2, 3, 1]> (first)
    tokens = MatMul (last, m)
    back = Transpose <perm = [0, 3, 1, 2]> (tokens)
    pooled = GlobalAveragePool (back)
    flat = Flatten (pooled)
    y = Identity (flat)
    z = Relu (free)
}"""


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        ("first", (1, 5, 1, 1)),
        ("last", (1, 1, 1, 5)),
        ("tokens", (1, 1, 1, 5)),
        ("back", (1, 5, 1, 1)),
        ("pooled", (1, 5, 1, 1)),
        ("flat", (1, 5)),
    ],
)
def test_gate_per_channel_lies_on_the_channel_axis(tensor: str, shape: tuple[int, ...]) -> None:
    model = make(CHANNELS)
    gated = insert_gates(model, [tensor], per_channel=True)
    assert gated.gates == (Gate(tensor, f"gate::{tensor}", shape),)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.random((2, 3, 4, 4), np.float32), "free": rng.random((2, 3), np.float32)}
    gate = np.arange(5, dtype=np.float32).reshape(shape)
    (taken,) = open_session(with_output(model, tensor)).run(feeds)
    (got,) = open_session(with_output(gated.model, tensor)).run({**feeds, f"gate::{tensor}": gate})
    np.testing.assert_allclose(got, taken * gate, rtol=1e-6)


def with_output(model: ir.Model, tensor: str) -> ir.Model:
    copy = modelio.load(modelio.to_proto(model))
    copy.graph.outputs[:] = [v for node in copy.graph for v in node.outputs if v.name == tensor]
    return copy


def test_gate_per_channel_needs_a_known_number_of_channels() -> None:
    (skip,) = insert_gates(make(CHANNELS), ["z"], per_channel=True).skipped
    assert "number of channels (axis 1) is not known" in skip.reason


def test_gate_per_channel_needs_a_channel_axis() -> None:
    model = make(
        '<ir_version: 8, opset_import: ["": 17]> agraph (float[n, 3, 4] x) => (float[n, 3, 4] y) { y = Neg (x) }'
    )
    (skip,) = insert_gates(model, ["y"], per_channel=True).skipped
    assert "which axis holds its channels is not known" in skip.reason


def test_second_run_changes_nothing_and_reports_the_gates_that_are_there() -> None:
    once = insert_gates(make(EVERYWHERE), ["a", "b"])
    twice = insert_gates(once.model, ["a", "b", "a::ungated"])
    assert not twice.changes
    assert [skip.reason for skip in twice.skipped] == [
        "is gated already, by gate::a",
        "is gated already, by gate::b",
        "is gated already, by gate::a",
    ]
    assert [gate.gate for gate in twice.gates] == ["gate::a", "gate::b", "gate::a"]
    assert modelio.to_bytes(twice.model) == modelio.to_bytes(once.model)


@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per-channel"])
@pytest.mark.parametrize("variant", ["s", "l"])
def test_pgc_model_stays_the_same_function(
    variant: str, per_channel: bool, pgc_model: Callable[[str], ir.Model]
) -> None:
    model = pgc_model(variant)
    targets = select_targets(find_targets(model), TargetQuery())
    gated = insert_gates(model, [target.tensor for target in targets], per_channel=per_channel)
    assert len(gated.gates) == {"s": 18, "l": 26}[variant]
    assert assert_parity(model, gated.model).max_difference == 0
    assert gated.model.metadata_props == model.metadata_props
    modelio.check(gated.model)


@pytest.mark.parametrize("name", ["resnet20_cifar10_dynamo", "mnasnet_small", "efficientnet_b0"])
def test_public_architecture_stays_the_same_function(name: str, corpus_model: Callable[[str], object]) -> None:
    model = modelio.load(str(corpus_model(name)))
    every = [target.tensor for target in find_targets(model)]
    gated = insert_gates(model, every)
    assert len(gated.gates) + len(gated.skipped) == len(every)
    assert len(gated.gates) > len(every) / 2
    assert assert_parity(model, gated.model, runs=1).max_difference == 0


def test_gates_survive_the_runtime_as_inputs(pgc_model: Callable[[str], ir.Model]) -> None:
    model = pgc_model("s")
    gated = insert_gates(model, ["/base_model/stem/stem.2/Mul_output_0"])
    x = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    (full,) = run(gated.model, images=x)
    (off,) = run(gated.model, images=x, **{gated.gates[0].gate: np.zeros((), np.float32)})
    assert not np.allclose(full, off)
    assert off[0] == pytest.approx(off[1], abs=1e-7)  # the stem is a cut: without it the image does not matter
