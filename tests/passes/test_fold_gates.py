"""fold_gates: the gated model's function without its gates, in onnxruntime, whatever lies beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import CORPUS_NAMES
from folding import BN, bn_parameters, dead, make, operators, random
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.passes.fold_gates import fold_gates
from pgc_graph.passes.gates import gate_nodes, insert_gates
from pgc_graph.passes.rewrite import Rewrite
from pgc_graph.runtime.parity import compare, random_feeds
from random_networks import networks


def gated(
    model: ir.Model, tensors: list[str], *, seed: int = 0, low: float = 0.4, per_channel: bool = True
) -> ir.Model:
    """Gate some tensors with values between `low` and 1.2."""
    result = insert_gates(model, tensors, per_channel=per_channel).model
    rng = np.random.default_rng(seed)
    for node in gate_nodes(result):
        gate = node.inputs[1]
        values = np.asarray(rng.uniform(low, 1.2, tuple(gate.shape)), gate.dtype.numpy())
        gate.const_value = ir.tensor(values, dtype=gate.dtype, name=gate.name)
    return result


def fold(model: ir.Model, original: ir.Model, *, tolerance: float = 1e-5) -> Rewrite:
    """Fold and judge: the gated function stays, the gates matter, the input is untouched, a second fold does nothing."""
    before = modelio.to_bytes(model)
    rewrite = fold_gates(model)
    assert modelio.to_bytes(model) == before
    modelio.check(rewrite.model)
    feeds = list(random_feeds(original, runs=2))
    report = compare(model, rewrite.model, feeds=feeds, tolerance=tolerance)
    assert report.passed, report
    assert len(rewrite.changes) + len(rewrite.skipped) == len(gate_nodes(model))
    assert {skip.subject for skip in rewrite.skipped} == {str(n.outputs[0].name) for n in gate_nodes(rewrite.model)}
    assert all(skip.reason for skip in rewrite.skipped)
    assert not fold_gates(rewrite.model).changes
    assert not dead(rewrite.model)
    return rewrite


CASES: dict[str, tuple[str, dict[str, np.ndarray], str]] = {
    "conv after": ("t = Sigmoid (x) y = Conv <pads = [1, 1, 1, 1]> (t, w)", {"w": random(5, 4, 3, 3)}, "t"),
    "grouped conv after": ("t = Sigmoid (x) y = Conv <group = 2> (t, w)", {"w": random(6, 2, 3, 3)}, "t"),
    "depthwise after": ("t = Sigmoid (x) y = Conv <group = 4> (t, w)", {"w": random(4, 1, 3, 3)}, "t"),
    "transposed after": ("t = Sigmoid (x) y = ConvTranspose (t, w)", {"w": random(4, 3, 3, 3)}, "t"),
    "conv before": (
        "t = Conv (x, w, b) y = Softmax <axis = 1> (t)",
        {"w": random(6, 4, 3, 3), "b": random(6)},
        "t",
    ),
    "transposed before": (
        "t = ConvTranspose <group = 2> (x, w, b) y = Exp (t)",
        {"w": random(4, 3, 3, 3), "b": random(6)},
        "t",
    ),
    "relu between": ("a = Conv (x, w) t = Relu (a) y = Tanh (t)", {"w": random(6, 4, 3, 3)}, "t"),
    "batchnorm before": (f"t = {BN} (x, s, b, m, v) y = Tanh (t)", bn_parameters(4), "t"),
    "batchnorm after": (f"t = Sigmoid (x) y = {BN} (t, s, b, m, v)", bn_parameters(4), "t"),
    "gemm by pooling": (
        "t = Sigmoid (x) p = GlobalAveragePool (t) f = Flatten (p) y = Gemm <transB = 1> (f, w, b)",
        {"w": random(3, 4), "b": random(3)},
        "t",
    ),
    "gemm by places": (
        "t = Sigmoid (x) f = Flatten (t) y = Gemm (f, w)",
        {"w": random(4 * 6 * 6, 3)},
        "t",
    ),
    "matmul on tokens": (
        "a = Sigmoid (x) t = Transpose <perm = [0, 2, 3, 1]> (a) y = MatMul (t, w)",
        {"w": random(4, 5)},
        "a",
    ),
    "squeeze-excite": (
        "t = Sigmoid (x) p = GlobalMaxPool (t) c = Conv (p, v) g = Sigmoid (c) m = Mul (t, g) y = Conv (m, w)",
        {"v": random(4, 4, 1, 1), "w": random(3, 4, 1, 1)},
        "t",
    ),
    "concat after": (
        "t = Sigmoid (x) u = Tanh (x) c = Concat <axis = 1> (u, t) y = Conv (c, w)",
        {"w": random(3, 8, 1, 1)},
        "t",
    ),
    "concat before": (
        "a = Conv (x, v) b = Conv (x, w) t = Concat <axis = 1> (a, b) y = Tanh (t)",
        {"v": random(3, 4, 1, 1), "w": random(2, 4, 1, 1)},
        "t",
    ),
    "two readers": (
        "t = Sigmoid (x) a = Conv (t, v) b = Conv (t, v) y = Mul (a, b)",
        {"v": random(3, 4, 1, 1)},
        "t",
    ),
    "square": ("t = Sigmoid (x) s = Mul (t, t) y = Conv (s, v)", {"v": random(3, 4, 1, 1)}, "t"),
    "sum before": (
        "a = Conv (x, v) b = Conv (x, w) t = Add (a, b) y = Tanh (t)",
        {"v": random(3, 4, 1, 1), "w": random(3, 4, 1, 1)},
        "t",
    ),
    "quotient before": (
        "a = Conv (x, v) e = Exp (a) n = Conv (x, w) t = Div (n, e) y = Tanh (t)",
        {"v": random(3, 4, 1, 1), "w": random(3, 4, 1, 1)},
        "t",
    ),
    "padded and resized": (
        "t = Sigmoid (x) p = Pad (t, amounts) r = Resize (p, none, scales) y = Conv (r, v)",
        {
            "amounts": np.array([0, 0, 1, 2, 0, 0, 0, 1]),
            "none": np.zeros(0, np.float32),
            "scales": np.array([1, 1, 2, 2], np.float32),
            "v": random(3, 4, 1, 1),
        },
        "t",
    ),
    "means of space": (
        "t = Sigmoid (x) a = ReduceMean <axes = [2, 3], keepdims = 0> (t) y = MatMul (a, w)",
        {"w": random(4, 2)},
        "t",
    ),
}


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "scalar"])
@pytest.mark.parametrize("name", CASES)
def test_a_gate_leaves_no_trace(name: str, per_channel: bool) -> None:
    body, weights, tensor = CASES[name]
    model = make(
        f"(float[n, 4, 6, 6] x) => (float[n, ?, ?, ?] y) {{ {body} }}".replace("[n, ?, ?, ?]", _rank(body)), weights
    )
    rewrite = fold(gated(model, [tensor], per_channel=per_channel), model)
    assert not rewrite.skipped
    assert operators(rewrite.model) == operators(model)
    assert [value.name for value in rewrite.model.graph.inputs] == ["x"]
    assert {v.name for n in rewrite.model.graph for v in n.outputs} == {v.name for n in model.graph for v in n.outputs}


def _rank(body: str) -> str:
    return "[n, p]" if "Gemm" in body or "ReduceMean" in body else "[n, p, q, r]"


STAYS: dict[str, tuple[str, dict[str, np.ndarray], str, str]] = {
    "output": ("t = Sigmoid (x) y = Sigmoid (t) z = Identity (t)", {}, "y", "is an output of the model"),
    "sum": ("t = Sigmoid (x) y = Add (t, x)", {}, "t", "joins it with what the gate does not act on"),
    "softmax": ("t = Sigmoid (x) y = Softmax (t)", {}, "t", "Softmax"),
    "one reader of two": ("t = Sigmoid (x) a = Conv (t, w) y = Exp (t)", {"w": random(4, 4, 1, 1)}, "t", "Exp"),
    "read elsewhere": ("t = Conv (x, w) y = Exp (t) z = Tanh (t)", {"w": random(4, 4, 1, 1)}, "y", "is an output"),
    "silu spine": (
        "s = Sigmoid (x) t = Mul (x, s) a = Conv (t, w) y = Add (a, t)",
        {"w": random(4, 4, 1, 1)},
        "t",
        "Add",
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_cannot_fold_stays_and_says_why(name: str) -> None:
    body, weights, tensor, reason = STAYS[name]
    model = make(f"(float[n, 4, 6, 6] x) => (float[n, 4, 6, 6] y) {{ {body} }}", weights)
    rewrite = fold(gated(model, [tensor]), model)
    (skip,) = rewrite.skipped
    assert skip.subject == tensor
    assert reason in skip.reason


def test_negative_gate_does_not_pass_a_relu() -> None:
    model = make(
        "(float[n, 4] x) => (float[n, 3] y) { a = MatMul (x, w) t = Relu (a) y = Tanh (t) }", {"w": random(4, 3)}
    )
    rewrite = fold(gated(model, ["t"], low=-1.2), model)
    assert "not linear" in rewrite.skipped[0].reason


def test_gate_without_a_value_stays() -> None:
    model = make("(float[n, 4] x) => (float[n, 3] y) { t = Relu (x) y = MatMul (t, w) }", {"w": random(4, 3)})
    open_gate = insert_gates(model, ["t"]).model
    gate = gate_nodes(open_gate)[0].inputs[1]
    del open_gate.graph.initializers[gate.name]
    gate.const_value = None
    assert "has no value" in fold_gates(open_gate).skipped[0].reason


def test_shared_weight_is_copied_and_overflow_refused() -> None:
    body = "t = Sigmoid (x) a = Conv (t, w) b = Conv (x, w) y = Mul (a, b)"
    model = make(f"(float[n, 4, 5, 5] x) => (float[n, 4, 5, 5] y) {{ {body} }}", {"w": random(4, 4, 1, 1)})
    rewrite = fold(gated(model, ["t"]), model)
    weights = rewrite.model.graph.initializers
    assert np.array_equal(weights["w"].const_value.numpy(), model.graph.initializers["w"].const_value.numpy())
    huge = gated(model, ["t"], low=1.0)
    gate = gate_nodes(huge)[0].inputs[1]
    gate.const_value = ir.tensor(np.full(tuple(gate.shape), 3e38, np.float32), name=gate.name)
    assert "overflows" in fold_gates(huge).skipped[0].reason


def test_model_without_gates_comes_back_equal(pgc_model: Any) -> None:
    rewrite = fold_gates(pgc_model("s"))
    assert not rewrite.changes
    assert modelio.to_bytes(rewrite.model) == modelio.to_bytes(pgc_model("s"))


def test_sigmoid_mul_gates_of_shipped_models_fold_but_for_the_residual_spine(repository: Path) -> None:
    for name in ("pgc_s_32x32", "pgc_l_32x32"):
        model = modelio.load(repository / "models" / f"{name}.onnx")
        tensors = [target.tensor for target in select_targets(find_targets(model), TargetQuery())]
        rewrite = fold(gated(model, tensors), model)
        # A tensor that a residual block adds to its result cannot lose its gate.
        spine = [n.inputs[1].name for n in model.graph if n.op_type == "Add"]
        assert sorted(skip.subject for skip in rewrite.skipped) == sorted(spine)


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_gates_on_every_tensor_of_the_corpus(corpus_model: Callable[[str], Path], name: str) -> None:
    model = modelio.load(corpus_model(name))
    tensors = [str(node.outputs[0].name) for node in model.graph if node.op_type in ("Conv", "Relu", "Mul", "Concat")]
    rewrite = fold(gated(model, tensors, low=0.8), model, tolerance=1e-4)
    assert len(rewrite.changes) > len(rewrite.skipped)


@given(networks(), st.integers(0, 2**31), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_gates_on_random_networks(proto: onnx.ModelProto, seed: int, per_channel: bool) -> None:
    model = modelio.load(proto)
    rng = np.random.default_rng(seed)
    tensors = [str(node.outputs[0].name) for node in model.graph if rng.random() < 0.4]
    fold(gated(model, tensors, seed=seed, low=-0.3, per_channel=per_channel), model)
