"""The blocks of the three backbones in torch.

Sources: inverted residual (Sandler et al. 2018) with squeeze-and-excitation (Hu et al. 2018) and SiLU (Elfwing et al.
2018); depthwise separable convolution (Howard et al. 2017); ConvNeXt (Liu et al. 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pgc_graph.build.spec import BlockSize, ModelSpec

__all__ = ["ConvNeXtBlock", "Downsample", "InvertedBlock", "LayerNorm2d", "SeparableBlock", "SqueezeExcite"]


class SqueezeExcite(nn.Module):
    """Weigh channels by what their means say: `(N, C, H, W)` to the same shape."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        reduced = max(1, channels // reduction)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Conv2d(channels, reduced, 1), nn.ReLU(), nn.Conv2d(reduced, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel by a number in (0, 1)."""
        scaled: Tensor = x * self.fc(self.pool(x))  # (N, C, H, W) * (N, C, 1, 1)
        return scaled


class InvertedBlock(nn.Module):
    """Expand, filter each channel, squeeze and excite, project, add the input where shapes agree."""

    def __init__(self, size: BlockSize, spec: ModelSpec) -> None:
        super().__init__()
        self.has_skip = size.has_skip
        hidden = size.in_channels * spec.expansion
        self.block = nn.Sequential(
            nn.Conv2d(size.in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, 3, size.stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.SiLU(),
            SqueezeExcite(hidden, spec.se_reduction),
            nn.Conv2d(hidden, size.out_channels, 1, bias=False),
            nn.BatchNorm2d(size.out_channels),
        )
        self.out_act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, in, H, W)` to `(N, out, H / stride, W / stride)`."""
        out: Tensor = self.block(x)
        out = self.out_act(out + x if self.has_skip else out)
        return out


class SeparableBlock(nn.Module):
    """Filter each channel, then mix channels, then add the input where shapes agree."""

    def __init__(self, size: BlockSize) -> None:
        super().__init__()
        channels = size.in_channels
        self.has_skip = size.has_skip
        self.depthwise = nn.Sequential(
            nn.Conv2d(channels, channels, 3, size.stride, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.pointwise = nn.Sequential(
            nn.Conv2d(channels, size.out_channels, 1, bias=False), nn.BatchNorm2d(size.out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, in, H, W)` to `(N, out, H / stride, W / stride)`."""
        out = self.pointwise(self.depthwise(x))
        return functional.relu(out + x if self.has_skip else out)


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of `(N, C, H, W)`, each pixel by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the channels last."""
        out: Tensor = self.norm(x.permute(0, 2, 3, 1))  # (N, H, W, C)
        return out.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, then a two-layer perceptron over channels, scaled and added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, H, W)` to the same shape."""
        out: Tensor = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)  # (N, H, W, C)
        out = self.gamma * self.pwconv2(self.act(self.pwconv1(out)))
        return out.permute(0, 3, 1, 2) + x


class Downsample(nn.Module):
    """Halve height and width between ConvNeXt stages."""

    def __init__(self, size: BlockSize) -> None:
        super().__init__()
        self.op = nn.Sequential(LayerNorm2d(size.in_channels), nn.Conv2d(size.in_channels, size.out_channels, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, in, H, W)` to `(N, out, H / 2, W / 2)`."""
        out: Tensor = self.op(x)
        return out
