"""Sigmoid→Mul tensors are found whatever the order of operands, and filters keep what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError, SelectionError

TEXT = """
<ir_version: 8, opset_import: ["" : 17, "other" : 1]>
g (float[n, 4] x, float[n, 4] z) => (float[n, 4] y)
{
    s = Sigmoid(x)
    [first] silu_right = Mul(x, s)
    [second] silu_left = Mul(s, x)
    gate_left = Mul(s, z)
    gate_right = Mul(z, s)
    square = Mul(x, x)
    both = Mul(s, s)
    t = Tanh(x)
    no_sigmoid = Mul(x, t)
    alien = other.Mul(x, s)
    alien_sigmoid = other.Sigmoid(x)
    alien_gate = Mul(x, alien_sigmoid)
    added = Add(x, s)
    y = Sum(silu_right, silu_left, gate_left, gate_right, square, both, no_sigmoid, alien, alien_gate, added)
}
"""


@pytest.fixture(scope="module")
def targets() -> tuple[Target, ...]:
    return find_targets(ir.from_proto(onnx.parser.parse_model(TEXT)))


def test_kinds_are_told_apart(targets: tuple[Target, ...]) -> None:
    kinds = {target.tensor: target.kind for target in targets if target.kind}
    assert kinds == {
        "silu_right": "silu",
        "silu_left": "silu",
        "gate_left": "gate",
        "gate_right": "gate",
        "both": "gate",
    }


def test_targets_come_in_graph_order_with_names(targets: tuple[Target, ...]) -> None:
    assert [target.tensor for target in targets][:3] == ["s", "silu_right", "silu_left"]
    assert targets[1] == Target("silu_right", "first", "Mul", "silu")
    assert targets[3].node == "gate_left"  # the node has no name


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(TargetQuery(), ["silu_right", "silu_left", "gate_left", "gate_right", "both"], id="default"),
        pytest.param(TargetQuery(limit=2), ["silu_right", "silu_left"], id="limit"),
        pytest.param(TargetQuery(name_contains=("GATE_",)), ["gate_left", "gate_right"], id="name-ignores-case"),
        pytest.param(TargetQuery(name_contains=("first", "square")), ["silu_right", "square"], id="any-name-or-node"),
        pytest.param(TargetQuery(op_types=("tanh", "ADD")), ["t", "added"], id="operator-ignores-case"),
        pytest.param(TargetQuery(regexes=("^silu", "left$")), ["silu_right", "silu_left", "gate_left"], id="any-regex"),
        pytest.param(
            TargetQuery(op_types=("Mul",), regexes=("^silu",)), ["silu_right", "silu_left"], id="both-filters"
        ),
        pytest.param(
            TargetQuery(name_contains=("left",), op_types=("Mul",), regexes=("gate",)),
            ["gate_left"],
            id="three-filters",
        ),
    ],
)
def test_query_keeps_what_it_says(targets: tuple[Target, ...], query: TargetQuery, expected: list[str]) -> None:
    assert [target.tensor for target in select_targets(targets, query)] == expected


def test_include_all_takes_every_tensor(targets: tuple[Target, ...]) -> None:
    assert select_targets(targets, TargetQuery(include_all=True)) == targets
    chosen = select_targets(targets, TargetQuery(include_all=True, op_types=("Sum",)))
    assert [target.tensor for target in chosen] == ["y"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param(TargetQuery(name_contains=("nothing",)), "name contains 'nothing'", id="name"),
        pytest.param(TargetQuery(op_types=("Conv",), regexes=("x",)), "operator 'Conv' and regex 'x'", id="two"),
        pytest.param(TargetQuery(name_contains=("silu",), op_types=("Tanh",)), "no tensor matches", id="exclusive"),
    ],
)
def test_a_filter_without_match_is_a_selection_error(
    targets: tuple[Target, ...], query: TargetQuery, message: str
) -> None:
    with pytest.raises(SelectionError, match=message):
        select_targets(targets, query)


def test_a_model_without_sigmoid_mul_is_a_selection_error() -> None:
    plain = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[n] y) { y = Relu(x) }'
        )
    )
    with pytest.raises(SelectionError, match="no Sigmoid→Mul tensor among its 1 tensors"):
        select_targets(find_targets(plain), TargetQuery())


@pytest.mark.parametrize("query", [TargetQuery(limit=0), TargetQuery(limit=-1), TargetQuery(regexes=("[a",))], ids=repr)
def test_a_senseless_query_is_an_option_error(targets: tuple[Target, ...], query: TargetQuery) -> None:
    with pytest.raises(OptionError):
        select_targets(targets, query)


@pytest.mark.parametrize(("variant", "count"), [("s", 18), ("c", 22), ("m", 26), ("l", 26)])
def test_pgc_models_have_their_targets(variant: str, count: int, pgc_model: Callable[[str], ir.Model]) -> None:
    chosen = select_targets(find_targets(pgc_model(variant)), TargetQuery())
    assert len(chosen) == count
    assert chosen[0].node == "/base_model/stem/stem.2/Mul"
    gates = [target.node for target in chosen if target.kind == "gate"]
    assert all(node.endswith("/block/block.6/Mul") for node in gates)
    assert len(gates) == {18: 4, 22: 5, 26: 6}[count]


def test_efficientnet_has_49_silu_and_16_gates(corpus_model: Callable[[str], Path]) -> None:
    chosen = select_targets(find_targets(modelio.load(corpus_model("efficientnet_b0"))), TargetQuery())
    assert [sum(target.kind == kind for target in chosen) for kind in ("silu", "gate")] == [49, 16]
