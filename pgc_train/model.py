"""The PGC family in torch, for training: the twin of what `pgc_graph.build` writes as ONNX.

Heads over tokens: pre-norm transformer (Vaswani et al. 2017, Xiong et al. 2020) and MLP-Mixer (Tolstikhin et al. 2021).

Module names determine the names of parameters and, after export, of nodes: they are part of the format.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pgc_graph.build.spec import BlockSize, ModelSpec
from pgc_train.blocks import ConvNeXtBlock, Downsample, InvertedBlock, LayerNorm2d, SeparableBlock
from pgc_train.colour import colour_front

__all__ = ["PGC", "ProbabilityModel"]


class MixerBlock(nn.Module):
    """Mix tokens, then channels: `(N, T, C)` to the same shape."""

    def __init__(self, tokens: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm_tokens = nn.LayerNorm(channels)
        self.token_fc1 = nn.Linear(tokens, 2 * tokens)
        self.token_act = nn.GELU()
        self.token_dropout = nn.Dropout(dropout)
        self.token_fc2 = nn.Linear(2 * tokens, tokens)
        self.norm_channels = nn.LayerNorm(channels)
        self.channel_fc1 = nn.Linear(channels, 2 * channels)
        self.channel_act = nn.GELU()
        self.channel_dropout = nn.Dropout(dropout)
        self.channel_fc2 = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the tokens, then what the channels say to each other."""
        out: Tensor = self.token_fc1(self.norm_tokens(x).transpose(1, 2))  # (N, C, 2T)
        out = self.token_dropout(self.token_fc2(self.token_dropout(self.token_act(out))))
        x = x + out.transpose(1, 2)
        out = self.channel_fc1(self.norm_channels(x))  # (N, T, 2C)
        out = self.channel_dropout(self.channel_fc2(self.channel_dropout(self.channel_act(out))))
        return x + out


class TokenHead(nn.Module):
    """Average the features into a grid of tokens, let them talk, and classify their mean."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        channels = spec.feature_channels
        self.kernel = spec.token_kernel
        self.mixer = _transformer(spec) if spec.resolved_head == "transformer" else _mlp_mixer(spec)
        self.final_norm = nn.LayerNorm(channels)
        self.final_dropout = nn.Dropout(spec.dropout)
        self.fc = nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map features `(N, C, H, W)` to logits `(N, 1)`."""
        tokens = functional.avg_pool2d(x, self.kernel, self.kernel).flatten(2).transpose(1, 2)  # (N, T, C)
        pooled = self.mixer(tokens).mean(1)  # (N, C)
        logits: Tensor = self.fc(self.final_dropout(self.final_norm(pooled)))
        return logits


class PGC(nn.Module):
    """A PGC network: images `(N, 3, H, W)` in [0, 1] to logits `(N,)`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.colour = colour_front(spec.colour)
        self.stem = _stem(spec)
        self.features = nn.Sequential(*(_block(size, spec) for size in spec.blocks))
        self.head = _head(spec)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logit of `pointing` for each image."""
        x = self.features(self.stem(self.colour(images)))
        head = self.spec.resolved_head
        if head == "avg":
            x = x.mean((2, 3))
        elif head == "avgmax_mlp":
            x = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        logits: Tensor = self.head(x)  # (N, 1)
        return logits.squeeze(1)


class ProbabilityModel(nn.Module):
    """A network whose output is a probability instead of a logit; what gets exported."""

    def __init__(self, base_model: PGC) -> None:
        super().__init__()
        self.base_model = base_model

    def forward(self, images: Tensor) -> Tensor:
        """Return the probability of `pointing` for each image `(N, 3, H, W)` in [0, 1]: `(N,)`."""
        return torch.sigmoid(self.base_model(images))


def _stem(spec: ModelSpec) -> nn.Sequential:
    inputs, channels = spec.input_channels, spec.base_channels
    if spec.backbone == "convnext":
        return nn.Sequential(nn.Conv2d(inputs, channels, 4, 4), LayerNorm2d(channels))
    if spec.backbone == "baseline":
        return nn.Sequential(
            nn.Conv2d(inputs, channels, 3, 2, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 3, 1, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.SiLU(),
    )


def _block(size: BlockSize, spec: ModelSpec) -> nn.Module:
    if spec.backbone == "inverted_se":
        return InvertedBlock(size, spec)
    if spec.backbone == "baseline":
        return SeparableBlock(size)
    block = ConvNeXtBlock(size.out_channels)
    return nn.Sequential(block) if size.stride == 1 else nn.Sequential(Downsample(size), block)


def _head(spec: ModelSpec) -> nn.Module:
    channels = spec.feature_channels
    if spec.resolved_head == "avg":
        return nn.Sequential(nn.BatchNorm1d(channels), nn.Dropout(spec.dropout), nn.Linear(channels, 1))
    if spec.resolved_head == "avgmax_mlp":
        return nn.Sequential(
            nn.BatchNorm1d(2 * channels),
            nn.Dropout(spec.dropout),
            nn.Linear(2 * channels, spec.head_hidden),
            nn.ReLU(),
            nn.Dropout(spec.dropout),
            nn.Linear(spec.head_hidden, 1),
        )
    return TokenHead(spec)


def _transformer(spec: ModelSpec) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        spec.feature_channels,
        spec.attention_heads,
        spec.attention_feedforward,
        spec.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    # Nested tensors serve padded batches of a post-norm encoder; asking for them here only makes torch warn.
    return nn.TransformerEncoder(layer, spec.token_layers, enable_nested_tensor=False)


def _mlp_mixer(spec: ModelSpec) -> nn.Module:
    tokens = spec.token_grid[0] * spec.token_grid[1]
    blocks = [MixerBlock(tokens, spec.feature_channels, spec.dropout) for _ in range(spec.token_layers)]
    return nn.Sequential(*blocks)


def _initialise(model: nn.Module) -> None:
    # BatchNorm and LayerNorm already start at 1 and 0. Attention's joint projection is no Linear: torch's own
    # initialisation of it is xavier_uniform and 0 as well.
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
