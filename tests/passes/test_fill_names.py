"""fill_names: every node named, nothing lost, nothing that was unique renamed."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
import sng4onnx
from onnx_ir.testing import assert_onnx_proto_equal

from pgc_graph import modelio
from pgc_graph.analysis.names import all_nodes
from pgc_graph.passes.names import fill_names
from pgc_graph.runtime.session import RuntimeOptions, open_session

NESTED = """
<ir_version: 8, opset_import: ["": 17, "local": 1], doc_string: "kept", metadata_props: ["key": "value"]>
g (float[n, 4] x, bool flag) => (float[n, 4] y) {
    [taken] t = Relu (x)
    u = local.double (t)
    [taken] r = Neg (u)
    y = If (flag) <then_branch = a () => (float[n, 4] p) { q = Abs (r) p = Neg (q) },
                   else_branch = e () => (float[n, 4] w) { w = Identity (r) }>
}
<domain: "local", opset_import: ["": 17]>
double (a) => (b) { c = Add (a, a) b = Identity (c) }
"""


def nested() -> ir.Model:
    return modelio.load(onnx.parser.parse_model(NESTED))


def test_every_node_in_every_scope_gets_a_name_of_its_own() -> None:
    named = fill_names(nested()).model
    names = [node.name for node in all_nodes(named)]
    assert all(names)
    assert len(set(names)) == len(names) == 9
    assert names[0] == "taken"
    open_session(named, RuntimeOptions("cpu"))


def test_only_names_change() -> None:
    model = nested()
    named = fill_names(model).model
    stripped = modelio.to_proto(named)
    original = modelio.to_proto(model)
    for proto in (stripped, original):
        for graph in (proto.graph, *(f for f in proto.functions)):
            for node in graph.node:
                node.name = ""
                for attribute in node.attribute:
                    for inner in attribute.g.node:
                        inner.name = ""
    assert_onnx_proto_equal(stripped, original)


def test_names_are_those_of_sng4onnx_where_it_can_be_asked(pgc_model) -> None:  # type: ignore[no-untyped-def]
    model = pgc_model("s").clone()
    for node in model.graph:
        node.name = ""
    expected = sng4onnx.generate(onnx_graph=modelio.to_proto(model), non_verbose=True)
    by_output = {node.output[0]: node.name for node in expected.graph.node}
    named = fill_names(model).model
    assert {str(node.outputs[0].name): node.name for node in named.graph} == by_output


def test_second_run_changes_nothing() -> None:
    once = fill_names(nested()).model
    assert not fill_names(once).changes


def named_nodes(*names: str) -> ir.Model:
    nodes = " ".join(
        f"{f'[{name}] ' if name else ''}t{index + 1} = Relu (t{index})" for index, name in enumerate(names)
    )
    head = '<ir_version: 8, opset_import: ["": 17]> g'
    return modelio.load(onnx.parser.parse_model(f"{head} (float[n] t0) => (float[n] t{len(names)}) {{ {nodes} }}"))


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a", "a"),
        ("a", "a_1", "a"),
        ("", "", ""),
        ("sng_Relu_1", "", ""),
        ("", "sng_Relu_0", ""),
        ("t1", "", "t1"),
        ("", "sng_Relu_2", "sng_Relu_2"),
    ],
    ids=str,
)
def test_names_that_onnxruntime_refuses_become_unique_and_others_stay(names: tuple[str, ...]) -> None:
    model = named_nodes(*names)
    named = fill_names(model).model
    result = [str(node.name) for node in named.graph]
    assert all(result)
    assert len(set(result)) == len(result)
    for name in {name for name in names if name}:
        assert result[names.index(name)] == name
    open_session(named, RuntimeOptions("cpu"))
    assert not fill_names(named).changes


def test_nodes_added_after_a_first_run_get_free_names() -> None:
    model = fill_names(named_nodes("", "", "")).model
    before = [str(node.name) for node in model.graph]
    last = model.graph[-1]
    new = ir.node("Neg", [last.inputs[0]])
    new.outputs[0].name = "negated"
    model.graph.insert_before(last, new)
    last.replace_input_with(0, new.outputs[0])
    named = fill_names(model).model
    assert [str(node.name) for node in named.graph if node.op_type == "Relu"] == before
    assert len({node.name for node in named.graph}) == 4


def test_every_change_tells_the_old_name() -> None:
    changes = fill_names(named_nodes("a", "a", "")).changes
    assert [(change.subject, change.action) for change in changes] == [
        ("a", "duplicate name, renamed to a_1"),
        ("sng_Relu_0", "named"),
    ]


def test_domains_functions_and_captures_survive() -> None:
    model = nested()
    named = fill_names(model).model
    assert list(named.functions) == list(model.functions)
    assert [node.domain for node in all_nodes(named)] == [node.domain for node in all_nodes(model)]
    assert [[value.name for value in node.inputs if value] for node in all_nodes(named)] == [
        [value.name for value in node.inputs if value] for node in all_nodes(model)
    ]
