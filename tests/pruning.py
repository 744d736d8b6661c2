"""The judge of pruning: onnxruntime, on the model in which the channels are multiplied by 0, built here anew."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.analysis.channels import channel_axis
from pgc_graph.passes.prune import Pruned, prune_channels
from pgc_graph.passes.shapes import with_shapes
from pgc_graph.runtime.parity import compare, random_feeds
from pgc_graph.runtime.session import RuntimeOptions, open_session

__all__ = ["channel_counts", "is_alive", "judge", "random_channels", "zeroed"]


def channel_counts(model: ir.Model) -> dict[str, int]:
    """Return how many channels each tensor has whose channel axis is known, by name, without graph outputs."""
    found: dict[str, int] = {}
    for node in with_shapes(model).graph:
        for value in node.outputs:
            axis = channel_axis(value) if value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) else None
            if axis is not None and isinstance(value.shape[axis], int) and not value.is_graph_output():
                found[str(value.name)] = value.shape[axis]
    return found


def random_channels(model: ir.Model, seed: int, *, tensors: float = 0.3, share: float = 0.3) -> dict[str, list[int]]:
    """Draw some tensors and some channels of each."""
    rng = np.random.default_rng(seed)
    drawn = {name: count for name, count in channel_counts(model).items() if rng.random() < tensors}
    return {name: np.flatnonzero(rng.random(count) < share).tolist() for name, count in drawn.items()}


def zeroed(model: ir.Model, channels: Mapping[str, list[int]]) -> ir.Model:
    """Multiply channels by 0, with nodes written into the file by plain protobuf."""
    proto = modelio.to_proto(model)
    known = {str(v.name): v for node in with_shapes(model).graph for v in node.outputs}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name not in channels:
                continue
            value, axis = known[name], channel_axis(known[name])
            shape = [size if index == axis else 1 for index, size in enumerate(value.shape)]
            mask = np.ones(shape, value.dtype.numpy())
            mask.reshape(-1)[list(channels[name])] = 0
            proto.graph.initializer.append(onnx.numpy_helper.from_array(mask, f"mask of {name}"))
            node.output[place] = f"{name} unmasked"
            nodes.append(onnx.helper.make_node("Mul", [f"{name} unmasked", f"mask of {name}"], [name], f"masks {name}"))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    del proto.graph.value_info[:]
    return modelio.load(proto)


def is_alive(model: ir.Model) -> bool:
    """Say whether a model's scores differ from image to image: equality to one that is dead proves nothing."""
    (feeds,) = list(random_feeds(model, runs=3))[2:]
    scores = np.asarray(open_session(model, RuntimeOptions("cpu")).run(feeds)[0]).reshape(
        len(next(iter(feeds.values()))), -1
    )
    return bool(np.ptp(scores, axis=0).max() > 1e-5)


def judge(model: ir.Model, channels: Mapping[str, list[int]], *, tolerance: float = 1e-5, runs: int = 2) -> Pruned:
    """Prune and judge: equal to the zeroed model, valid, names kept, input untouched, nothing left to prune."""
    before = modelio.to_bytes(model)
    pruned = prune_channels(model, channels)
    assert modelio.to_bytes(model) == before
    modelio.check(pruned.model)
    report = compare(
        zeroed(model, channels), pruned.model, feeds=list(random_feeds(model, runs=runs)), tolerance=tolerance
    )
    assert report.passed, report
    for value in (value for node in pruned.model.graph for value in node.outputs if value.shape is not None):
        assert 0 not in list(value.shape), value
    known = {node.name for node in model.graph}
    # New are multiplications by 0 that could not fold, and terms behind a MatMul, which has no bias.
    assert all(
        node.name in known or node.name.startswith("Gate::") or node.name.endswith("/Add")
        for node in pruned.model.graph
        if node.name
    )
    assert pruned.model.metadata_props == model.metadata_props
    assert not prune_channels(pruned.model, {}).changes
    return pruned
