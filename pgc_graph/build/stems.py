"""Stems: what stands between the image and the first block.

| backbone    | stem                                                         | size of the image |
|-------------|--------------------------------------------------------------|-------------------|
| inverted_se | conv 3x3 → BatchNorm → SiLU → conv 3x3 / 2 → BatchNorm → SiLU | halved            |
| baseline    | conv 3x3 / 2 → BatchNorm → ReLU                               | halved            |
| convnext    | conv 4x4 / 4 → LayerNorm over channels                        | quartered         |
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from pgc_graph.build.blocks import channel_norm
from pgc_graph.build.layers import Net, batch_norm, conv2d, relu, silu
from pgc_graph.build.spec import ModelSpec

__all__ = ["stem"]


def stem(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    """Write the backbone's stem: `(N, 1 or 3, H, W)` to `(N, base channels, smaller, smaller)`."""
    writers = {"inverted_se": _inverted_se, "baseline": _baseline, "convnext": _convnext}
    return writers[spec.backbone](net, f"{scope}/stem/stem", x, spec.input_channels, spec.base_channels)


def _inverted_se(net: Net, scope: str, x: gs.Tensor, inputs: int, channels: int) -> gs.Tensor:
    x = conv2d(net, f"{scope}.0", x, (inputs, channels), 3, padding=1)
    x = silu(net, f"{scope}.2", batch_norm(net, f"{scope}.1", x, channels))
    x = conv2d(net, f"{scope}.3", x, (channels, channels), 3, stride=2, padding=1)
    return silu(net, f"{scope}.5", batch_norm(net, f"{scope}.4", x, channels))


def _baseline(net: Net, scope: str, x: gs.Tensor, inputs: int, channels: int) -> gs.Tensor:
    x = conv2d(net, f"{scope}.0", x, (inputs, channels), 3, stride=2, padding=1)
    return relu(net, f"{scope}.2", batch_norm(net, f"{scope}.1", x, channels))


def _convnext(net: Net, scope: str, x: gs.Tensor, inputs: int, channels: int) -> gs.Tensor:
    x = conv2d(net, f"{scope}.0", x, (inputs, channels), 4, stride=4, bias=True)
    return channel_norm(net, f"{scope}.1", x, channels)
