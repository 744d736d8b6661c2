"""Fresh names are fresh in every scope: main graph, subgraphs, functions."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from pgc_graph.analysis.names import FreshNames, all_nodes, node_names, tensor_names

TEXT = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[n] x, bool flag) => (float[n] y)
<float[1] weight = {1}>
{
    [scale] a = Mul(x, weight)
    b = local.twice(a)
    [choose] y = If(flag)<
        then_branch = t () => (float[n] then_out) <float[1] inner = {2}> { [inside] then_out = Add(b, inner) },
        else_branch = e () => (float[n] else_out) { else_out = Neg(b) }
    >
}
<domain: "local", opset_import: ["" : 17]>
twice (p) => (q) { [doubling] q = Add(p, p) }
"""


@pytest.fixture
def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(TEXT))


def test_all_scopes_are_seen(model: ir.Model) -> None:
    assert [node.op_type for node in all_nodes(model)] == ["Mul", "twice", "If", "Add", "Neg", "Add"]
    assert node_names(model) == {"scale", "choose", "inside", "doubling"}
    expected = {"x", "flag", "weight", "a", "b", "y", "inner", "then_out", "else_out", "p", "q"}
    assert tensor_names(model) == expected


def test_a_free_name_is_given_as_it_is(model: ir.Model) -> None:
    assert FreshNames(model).claim("gate") == "gate"


@pytest.mark.parametrize("taken", ["x", "weight", "a", "then_out", "inner", "p", "q", "choose", "inside", "doubling"])
def test_a_taken_name_is_numbered(taken: str, model: ir.Model) -> None:
    names = FreshNames(model)
    assert [names.claim(taken), names.claim(taken)] == [f"{taken}_1", f"{taken}_2"]


def test_no_name_is_given_twice(model: ir.Model) -> None:
    names = FreshNames(model)
    claimed = [names.claim(wanted) for wanted in ("g", "g_1", "g", "g", "g_1", "g_1_1")]
    assert len(set(claimed)) == len(claimed)
    assert claimed[:3] == ["g", "g_1", "g_2"]
