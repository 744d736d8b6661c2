"""Blocks of a graph: every node once, in order, no edge back, and numbers that agree with the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from conftest import REPOSITORY
from pgc_graph import modelio
from pgc_graph.analysis.blocks import MOST_NODES, GraphBlocks, find_blocks

SHIPPED = REPOSITORY / "models" / "pgc_l_32x32.onnx"

CONSTANTS = """
<ir_version: 8, opset_import: ["" : 17]>
constants (float[N, 3, 8, 8] images) => (float[N, 3, 8, 8] y)
<float[3, 3, 1, 1] weight = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 1.0}, float[2] loose = {1.0, 2.0}>
{
    [copy] same = Identity(weight)
    [number] two = Constant <value_float = 2.0> ()
    [conv] c = Conv(images, same)
    [double] y = Mul(c, two)
}
"""

BODY = """
<ir_version: 8, opset_import: ["" : 17]>
body (float[N, 3] x, bool choice) => (float[N, 3] y)
{
    [low] a = Neg(x)
    [high] b = Abs(x)
    [pick] y = If (choice) <
        then_branch = yes () => (float[N, 3] p) { p = Relu(a) },
        else_branch = no () => (float[N, 3] q) { q = Relu(b) }
    >
}
"""


def check_order(graph: GraphBlocks) -> None:
    members = [node for block in graph.blocks for node in block.nodes]
    assert members == list(range(len(graph.nodes)))
    assert all(1 <= len(block.nodes) <= MOST_NODES for block in graph.blocks)
    for index, node in enumerate(graph.nodes):
        assert all(source < index for source in node.sources)
    for block in graph.blocks:
        for index in block.nodes:
            assert graph.nodes[index].name.strip("/").startswith(block.name)


def test_blocks_of_a_shipped_model_are_its_stages() -> None:
    graph = find_blocks(modelio.load(SHIPPED))
    check_order(graph)
    names = [block.name for block in graph.blocks]
    assert names[:7] == ["base_model/stem", *(f"base_model/features/features.{index}" for index in range(6))]
    assert len(graph.nodes) == len(onnx.load(SHIPPED).graph.node)


@pytest.mark.parametrize("name", ["resnet20_cifar10", "resnet20_cifar10_dynamo", "efficientnet_b0"])
def test_blocks_of_public_models_keep_order(name: str, corpus_model: Callable[[str], Path]) -> None:
    check_order(find_blocks(modelio.load(corpus_model(name))))


def test_nodes_agree_with_the_file() -> None:
    proto, graph = onnx.load(SHIPPED).graph, find_blocks(modelio.load(SHIPPED))
    producer = {tensor: index for index, node in enumerate(proto.node) for tensor in node.output}
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.initializer}
    for node, raw in zip(graph.nodes, proto.node, strict=True):
        assert (node.name, node.op_type, node.tensor) == (raw.name, raw.op_type, raw.output[0])
        assert node.sources == tuple(sorted({producer[name] for name in raw.input if name in producer}))
        assert [weight.name for weight in node.weights] == [name for name in raw.input if name in arrays]
        for weight in node.weights:
            values = arrays[weight.name].astype(np.float64)
            assert weight.shape == values.shape
            found = (weight.mean, weight.std, weight.min, weight.max)
            np.testing.assert_allclose(found, (values.mean(), values.std(), values.min(), values.max()), rtol=1e-9)
            assert sum(weight.counts) == values.size
            if len(weight.counts) > 1:
                inside = (values >= weight.min) & (values < weight.min + (weight.max - weight.min) / len(weight.counts))
                assert weight.counts[0] == np.count_nonzero(inside)


def test_what_no_input_reaches_is_left_out_and_its_weights_are_kept() -> None:
    graph = find_blocks(modelio.load(onnx.parser.parse_model(CONSTANTS)))
    assert [node.name for node in graph.nodes] == ["conv", "double"]
    (weight,) = graph.nodes[0].weights
    assert (weight.name, weight.shape, weight.max) == ("weight", (3, 3, 1, 1), 1.0)


def test_what_a_body_reads_counts_as_read_by_its_node() -> None:
    graph = find_blocks(modelio.load(onnx.parser.parse_model(BODY)))
    assert [(node.name, node.sources) for node in graph.nodes] == [("low", ()), ("high", ()), ("pick", (0, 1))]


def test_equal_and_missing_numbers_have_a_summary() -> None:
    proto = onnx.parser.parse_model(CONSTANTS)
    for values, counts in ((np.full((3, 3, 1, 1), 2.5), (9,)), (np.full((3, 3, 1, 1), np.nan), ())):
        proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), "weight"))
        (weight,) = find_blocks(modelio.load(proto)).nodes[0].weights
        assert weight.counts == counts
        assert np.isnan(weight.mean) == (not counts)
