"""The whole network: colour front, stem, blocks, head, sigmoid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pgc_graph.build.blocks import block
from pgc_graph.build.colour import colour_front
from pgc_graph.build.heads import head
from pgc_graph.build.layers import Net, apply, constant
from pgc_graph.build.spec import ModelSpec
from pgc_graph.build.stems import stem

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "write_network"]

INPUT_NAME = "images"
OUTPUT_NAME = "prob_pointing"

_SCOPE = "/base_model"


def write_network(spec: ModelSpec, weights: Mapping[str, NDArray[np.float32]] | None, opset: int) -> Net:
    """Write a network as a GraphSurgeon graph.

    Args:
        spec: What to write.
        weights: Every parameter by its name, in its right shape; None writes zeros, for the names and shapes alone.
        opset: The opset to write for.

    Returns:
        The graph, with `images` `(batch, 3, H, W)` in [0, 1] in and `prob_pointing` `(batch,)` out, and the shape of
        every parameter.
    """
    images = gs.Variable(INPUT_NAME, np.float32, ["batch", 3, *spec.image_size])
    net = Net(gs.Graph(inputs=[images], name="pgc", opset=opset), weights)
    x = stem(net, _SCOPE, colour_front(net, f"{_SCOPE}/colour", images, spec.colour), spec)
    for size in spec.blocks:
        x = block(net, f"{_SCOPE}/features", x, size, spec)
    logits = head(net, _SCOPE, x, spec)  # (N, 1)
    logits = apply(net, _SCOPE, "Squeeze", logits, constant(net, _SCOPE, np.array([1], np.int64)))
    probability = gs.Variable(OUTPUT_NAME, np.float32, ["batch"])
    net.graph.layer(op="Sigmoid", name="/Sigmoid", inputs=[logits], outputs=[probability])
    net.graph.outputs = [probability]
    return net
