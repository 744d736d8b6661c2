"""The blocks of the three backbones.

Sources: inverted residual (Sandler et al. 2018) with squeeze-and-excitation (Hu et al. 2018) and SiLU (Elfwing et al.
2018); depthwise separable convolution (Howard et al. 2017); ConvNeXt (Liu et al. 2022).
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from pgc_graph.build.layers import (
    Net,
    apply,
    batch_norm,
    conv2d,
    gelu,
    layer_norm,
    parameter,
    projection,
    relu,
    silu,
    transpose,
)
from pgc_graph.build.spec import BlockSize, ModelSpec

__all__ = ["block", "channel_norm"]

_TO_CHANNELS_LAST = (0, 2, 3, 1)
_TO_CHANNELS_FIRST = (0, 3, 1, 2)
_CONVNEXT_EPSILON = 1e-6


def block(net: Net, scope: str, x: gs.Tensor, size: BlockSize, spec: ModelSpec) -> gs.Tensor:
    """Write one block of the backbone: `(N, in, H, W)` to `(N, out, H / stride, W / stride)`."""
    here = f"{scope}/features.{size.index}"
    if spec.backbone == "inverted_se":
        return _inverted(net, here, x, size, spec)
    if spec.backbone == "baseline":
        return _separable(net, here, x, size)
    return _convnext_stage(net, here, x, size)


def channel_norm(net: Net, scope: str, x: gs.Tensor, channels: int) -> gs.Tensor:
    """Normalise each pixel of `(N, C, H, W)` over its channels."""
    last = transpose(net, scope, x, _TO_CHANNELS_LAST)
    normalised = layer_norm(net, f"{scope}/norm", last, channels, _CONVNEXT_EPSILON)
    return transpose(net, scope, normalised, _TO_CHANNELS_FIRST)


def _inverted(net: Net, scope: str, x: gs.Tensor, size: BlockSize, spec: ModelSpec) -> gs.Tensor:
    step = f"{scope}/block/block"
    hidden = size.in_channels * spec.expansion
    out = conv2d(net, f"{step}.0", x, (size.in_channels, hidden), 1)
    out = silu(net, f"{step}.2", batch_norm(net, f"{step}.1", out, hidden))
    out = conv2d(net, f"{step}.3", out, (hidden, hidden), 3, stride=size.stride, padding=1, groups=hidden)
    out = silu(net, f"{step}.5", batch_norm(net, f"{step}.4", out, hidden))
    out = _squeeze_excite(net, f"{step}.6", out, hidden, max(1, hidden // spec.se_reduction))
    out = conv2d(net, f"{step}.7", out, (hidden, size.out_channels), 1)
    out = batch_norm(net, f"{step}.8", out, size.out_channels)
    return silu(net, f"{scope}/out_act", _with_skip(net, scope, out, x, size))


def _squeeze_excite(net: Net, scope: str, x: gs.Tensor, channels: int, reduced: int) -> gs.Tensor:
    scale = apply(net, f"{scope}/pool", "GlobalAveragePool", x)  # (N, C, 1, 1)
    scale = conv2d(net, f"{scope}/fc/fc.0", scale, (channels, reduced), 1, bias=True)
    scale = relu(net, f"{scope}/fc/fc.1", scale)
    scale = conv2d(net, f"{scope}/fc/fc.2", scale, (reduced, channels), 1, bias=True)
    return apply(net, scope, "Mul", x, apply(net, f"{scope}/fc/fc.3", "Sigmoid", scale))


def _separable(net: Net, scope: str, x: gs.Tensor, size: BlockSize) -> gs.Tensor:
    inputs, outputs = size.in_channels, size.out_channels
    step = f"{scope}/depthwise/depthwise"
    out = conv2d(net, f"{step}.0", x, (inputs, inputs), 3, stride=size.stride, padding=1, groups=inputs)
    out = relu(net, f"{step}.2", batch_norm(net, f"{step}.1", out, inputs))
    step = f"{scope}/pointwise/pointwise"
    out = batch_norm(net, f"{step}.1", conv2d(net, f"{step}.0", out, (inputs, outputs), 1), outputs)
    return relu(net, scope, _with_skip(net, scope, out, x, size))


def _convnext_stage(net: Net, scope: str, x: gs.Tensor, size: BlockSize) -> gs.Tensor:
    inputs, outputs = size.in_channels, size.out_channels
    step = f"{scope}/features.{size.index}"
    if size.stride == 1:
        return _convnext(net, f"{step}.0", x, outputs)
    x = channel_norm(net, f"{step}.0/op/op.0", x, inputs)
    x = conv2d(net, f"{step}.0/op/op.1", x, (inputs, outputs), 2, stride=2, bias=True)
    return _convnext(net, f"{step}.1", x, outputs)


def _convnext(net: Net, scope: str, x: gs.Tensor, channels: int) -> gs.Tensor:
    out = conv2d(net, f"{scope}/dwconv", x, (channels, channels), 7, padding=3, groups=channels, bias=True)
    out = channel_norm(net, f"{scope}/norm", out, channels)
    out = transpose(net, scope, out, _TO_CHANNELS_LAST)  # (N, H, W, C)
    out = projection(net, f"{scope}/pwconv1", out, (channels, 4 * channels))
    out = projection(net, f"{scope}/pwconv2", gelu(net, f"{scope}/act", out), (4 * channels, channels))
    out = apply(net, scope, "Mul", parameter(net, scope, "gamma", (channels,)), out)
    return apply(net, scope, "Add", transpose(net, scope, out, _TO_CHANNELS_FIRST), x)


def _with_skip(net: Net, scope: str, out: gs.Tensor, x: gs.Tensor, size: BlockSize) -> gs.Tensor:
    return apply(net, scope, "Add", out, x) if size.has_skip else out
