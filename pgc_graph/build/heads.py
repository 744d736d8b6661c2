"""Heads: from the backbone's features to one logit.

| head        | form                                                                                           |
|-------------|------------------------------------------------------------------------------------------------|
| avg         | mean pool → BatchNorm → Linear                                                                 |
| avgmax_mlp  | mean and max pool → BatchNorm → Linear → ReLU → Linear                                         |
| transformer | pooled token grid → pre-norm encoder layers (Vaswani et al. 2017, Xiong et al. 2020) → mean    |
| mlp_mixer   | pooled token grid → mixer layers (Tolstikhin et al. 2021) → mean                               |

After the mean over tokens come LayerNorm and Linear. Dropout does nothing in inference and leaves no node.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from pgc_graph.build.layers import (
    Net,
    apply,
    apply_many,
    batch_norm,
    constant,
    gelu,
    layer_norm,
    linear,
    projection,
    reduce,
    relu,
    reshape,
    scalar,
    transpose,
)
from pgc_graph.build.spec import ModelSpec

__all__ = ["head"]

_SWAP_TOKENS_AND_CHANNELS = (0, 2, 1)


def head(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    """Write the head: features `(N, C, H, W)` to logits `(N, 1)`."""
    writers = {"avg": _avg, "avgmax_mlp": _avgmax_mlp, "transformer": _tokens, "mlp_mixer": _tokens}
    return writers[spec.resolved_head](net, scope, x, spec)


def _avg(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    channels = spec.feature_channels
    step = f"{scope}/head/head"
    pooled = reduce(net, scope, "ReduceMean", x, [2, 3])
    return linear(net, f"{step}.2", batch_norm(net, f"{step}.0", pooled, channels), (channels, 1))


def _avgmax_mlp(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    channels, hidden = 2 * spec.feature_channels, spec.head_hidden
    step = f"{scope}/head/head"
    pools = [reduce(net, scope, op, x, [2, 3]) for op in ("ReduceMean", "ReduceMax")]
    out = batch_norm(net, f"{step}.0", apply(net, scope, "Concat", *pools, axis=1), channels)
    out = relu(net, f"{step}.3", linear(net, f"{step}.2", out, (channels, hidden)))
    return linear(net, f"{step}.5", out, (hidden, 1))


def _tokens(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    scope = f"{scope}/head"
    channels = spec.feature_channels
    tokens = _token_grid(net, scope, x, spec)  # (N, T, C)
    for index in range(spec.token_layers):
        if spec.resolved_head == "transformer":
            tokens = _encoder_layer(net, f"{scope}/mixer/layers.{index}", tokens, spec)
        else:
            tokens = _mixer_layer(net, f"{scope}/mixer/mixer.{index}", tokens, spec)
    pooled = reduce(net, scope, "ReduceMean", tokens, [1])
    return linear(net, f"{scope}/fc", layer_norm(net, f"{scope}/final_norm", pooled, channels), (channels, 1))


def _token_grid(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    kernel = list(spec.token_kernel)
    pooled = apply(
        net,
        scope,
        "AveragePool",
        x,
        ceil_mode=0,
        count_include_pad=1,
        kernel_shape=kernel,
        pads=[0] * 4,
        strides=kernel,
    )
    flat = reshape(net, scope, pooled, [0, spec.feature_channels, -1])
    return transpose(net, scope, flat, _SWAP_TOKENS_AND_CHANNELS)


def _encoder_layer(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    channels, hidden = spec.feature_channels, spec.attention_feedforward
    attended = _attention(net, f"{scope}/self_attn", layer_norm(net, f"{scope}/norm1", x, channels), spec)
    x = apply(net, scope, "Add", x, attended)
    out = projection(net, f"{scope}/linear1", layer_norm(net, f"{scope}/norm2", x, channels), (channels, hidden))
    out = projection(net, f"{scope}/linear2", gelu(net, scope, out), (hidden, channels))
    return apply(net, scope, "Add", x, out)


def _attention(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    """Multi-head self-attention over `(N, T, C)`: softmax(Q K^T / sqrt d) V."""
    channels, heads = spec.feature_channels, spec.attention_heads
    width = channels // heads
    joint = projection(net, scope, x, (channels, 3 * channels), leaves="in_proj_")  # (N, T, 3C)
    joint = transpose(net, scope, reshape(net, scope, joint, [0, -1, 3 * heads, width]), (0, 2, 1, 3))
    parts = constant(net, scope, np.array([heads] * 3, np.int64))
    query, key, value = apply_many(net, scope, "Split", [joint, parts], 3, axis=1)  # (N, heads, T, width) each
    query = apply(net, scope, "Mul", query, scalar(net, scope, 1 / math.sqrt(width)))
    scores = apply(net, scope, "MatMul", query, transpose(net, scope, key, (0, 1, 3, 2)))  # (N, heads, T, T)
    mixed = apply(net, scope, "MatMul", apply(net, scope, "Softmax", scores, axis=-1), value)
    mixed = reshape(net, scope, transpose(net, scope, mixed, (0, 2, 1, 3)), [0, -1, channels])
    return projection(net, scope, mixed, (channels, channels), leaves="out_proj.")


def _mixer_layer(net: Net, scope: str, x: gs.Tensor, spec: ModelSpec) -> gs.Tensor:
    channels, tokens = spec.feature_channels, spec.token_grid[0] * spec.token_grid[1]
    out = transpose(net, scope, layer_norm(net, f"{scope}/norm_tokens", x, channels), _SWAP_TOKENS_AND_CHANNELS)
    out = projection(net, f"{scope}/token_fc1", out, (tokens, 2 * tokens))
    out = projection(net, f"{scope}/token_fc2", gelu(net, f"{scope}/token_act", out), (2 * tokens, tokens))
    x = apply(net, scope, "Add", x, transpose(net, scope, out, _SWAP_TOKENS_AND_CHANNELS))
    out = projection(
        net, f"{scope}/channel_fc1", layer_norm(net, f"{scope}/norm_channels", x, channels), (channels, 2 * channels)
    )
    out = projection(net, f"{scope}/channel_fc2", gelu(net, f"{scope}/channel_act", out), (2 * channels, channels))
    return apply(net, scope, "Add", x, out)
