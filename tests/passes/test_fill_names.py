"""fill_names: every node named, nothing lost, nothing that was unique renamed."""

from __future__ import annotations

import onnx
import onnx_ir as ir
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
