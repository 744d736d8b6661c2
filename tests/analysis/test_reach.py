"""What lies above and below a tensor, what it freezes, and which tensors are cuts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.analysis.reach import (
    downstream_values,
    frozen_values,
    independent_values,
    is_cut,
    node_reads,
    upstream_nodes,
)
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.passes.gates import insert_gates
from pgc_graph.runtime.session import open_session

TEXT = """<ir_version: 8, opset_import: ["": 17]>
agraph (float[n, 3] x) => (float[n, 3] y) <float[3] w = {1, 2, 3}> {
    a = Relu (x)
    b = Mul (a, w)
    shape = Shape (b)
    two = Constant <value = float {2}> ()
    v = Mul (w, two)
    c = Neg (b)
    yes = Constant <value = bool {1}> ()
    d = If (yes) <
        then_branch = taken () => (float[n, 3] t) { inner = Mul (b, v)  t = Add (inner, a) },
        else_branch = other () => (float[n, 3] e) { e = Identity (c) }
    >
    r = RandomNormalLike (c)
    f = Reshape (d, shape)
    g = Add (f, x)
    unused = Neg (g)
    y = Add (g, r)
}"""


@pytest.fixture
def graph() -> ir.Graph:
    return modelio.load(onnx.parser.parse_model(TEXT)).graph


def value(graph: ir.Graph, name: str) -> ir.Value:
    inputs = {str(item.name): item for item in (*graph.inputs, *graph.initializers.values())}
    return inputs.get(name) or next(v for node in graph for v in node.outputs if v.name == name)


def names(values: object) -> set[str]:
    return {str(item.name) for item in values}  # type: ignore[attr-defined]


def test_captures_of_subgraphs_are_read(graph: ir.Graph) -> None:
    node = value(graph, "d").producer()
    assert node is not None
    assert names(node_reads(node)) == {"yes", "b", "v", "a", "c"}


def test_upstream_nodes_come_in_graph_order_and_leave_out_the_rest(graph: ir.Graph) -> None:
    found = [node.outputs[0].name for node in upstream_nodes(graph, [value(graph, "f")])]
    assert found == ["a", "b", "shape", "two", "v", "c", "yes", "d", "f"]


def test_downstream_values_pass_through_subgraphs_but_not_through_shapes(graph: ir.Graph) -> None:
    nodes = list(graph)
    assert names(downstream_values(nodes, [value(graph, "c")])) == {"c", "d", "r", "f", "g", "unused", "y"}
    assert "shape" not in names(downstream_values(nodes, [value(graph, "a")]))


def test_independent_values_are_constants_and_shapes(graph: ir.Graph) -> None:
    assert names(independent_values(graph)) == {"w", "shape", "two", "v", "yes"}


def test_frozen_values_end_where_something_live_or_random_comes_in(graph: ir.Graph) -> None:
    independent = independent_values(graph)
    assert names(frozen_values(list(graph), [value(graph, "a")], independent)) == {"a", "b", "c", "d", "f"}
    assert names(frozen_values(list(graph), [value(graph, "b")], independent)) == {"b", "c"}


@pytest.mark.parametrize(("name", "output", "expected"), [("a", "f", True), ("c", "f", False), ("a", "g", False)])
def test_is_cut(graph: ir.Graph, name: str, output: str, expected: bool) -> None:
    assert is_cut(graph, value(graph, name), value(graph, output)) is expected


def test_cuts_of_a_pgc_model_are_the_gates_that_hide_the_image(pgc_model: Callable[[str], ir.Model]) -> None:
    """The judge: with a cut at 0 all images score the same; otherwise they do not."""
    model = pgc_model("s")
    tensors = [target.tensor for target in select_targets(find_targets(model), TargetQuery())]
    gated = insert_gates(model, tensors)
    session = open_session(gated.model)
    images = np.random.default_rng(0).random((4, 3, 4, 4), np.float32).repeat(8, axis=2).repeat(8, axis=3)
    for gate in gated.gates:
        (score,) = session.run({"images": images, gate.gate: np.zeros((), np.float32)})
        cut = is_cut(model.graph, value(model.graph, gate.tensor), model.graph.outputs[0])
        assert cut is bool(np.ptp(score) < 1e-6), gate.tensor
