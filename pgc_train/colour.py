"""The colour fronts in torch; `pgc_graph.build.colour` has the sources and the constants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgc_graph.build.colour import (
    D65_WHITE,
    LAB_EPSILON,
    LAB_KAPPA,
    LUMA_WEIGHTS,
    LUV_DENOMINATOR_EPSILON,
    LUV_WHITE,
    RGB_TO_XYZ,
)

__all__ = ["RgbToLab", "RgbToLuma", "RgbToLuv", "colour_front"]


class RgbToLuma(nn.Module):
    """RGB in [0, 1] `(N, 3, H, W)` to luma `(N, 1, H, W)` in [0, 1]."""

    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(LUMA_WEIGHTS).view(1, 3, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Weigh the channels."""
        return (rgb * self.weights).sum(1, keepdim=True)


class _FromXyz(nn.Module):
    """What Lab and Luv share: sRGB to CIE XYZ, and the lightness function of CIE 15:2004."""

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.tensor(RGB_TO_XYZ).view(1, 3, 3, 1, 1), persistent=False)

    def xyz(self, rgb: Tensor) -> Tensor:
        """Linearise sRGB `(N, 3, H, W)` and change its primaries: X, Y, Z with Y of white 1, `(N, 3, H, W)`."""
        rgb = rgb.clamp(0.0, 1.0)
        linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return (linear.unsqueeze(1) * self.matrix).sum(2)  # (N, 1, 3, H, W) * (1, 3, 3, 1, 1)

    def lightness(self, ratio: Tensor) -> Tensor:
        """Return the function f of L* = 116 f(Y) - 16: a cube root, but a straight line near black."""
        # The clamp changes no value that is chosen, but keeps the gradient of the other branch finite at 0.
        root = ratio.clamp(min=LAB_EPSILON) ** (1 / 3)
        return torch.where(ratio > LAB_EPSILON, root, ratio * (LAB_KAPPA / 116) + 16 / 116)


class RgbToLab(_FromXyz):
    """sRGB in [0, 1] `(N, 3, H, W)` to CIE L* in [0, 100], a* and b* (D65) `(N, 3, H, W)`."""

    white: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("white", torch.tensor(D65_WHITE).view(1, 3, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Convert a batch."""
        f = self.lightness(self.xyz(rgb) / self.white)
        x, y, z = f[:, 0:1], f[:, 1:2], f[:, 2:3]
        return torch.cat([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], dim=1)


class RgbToLuv(_FromXyz):
    """sRGB in [0, 1] `(N, 3, H, W)` to CIE L* in [0, 100], u* and v* (D65) `(N, 3, H, W)`."""

    def forward(self, rgb: Tensor) -> Tensor:
        """Convert a batch; black becomes 0, 0, 0."""
        xyz = self.xyz(rgb)
        x, y, z = xyz[:, 0:1], xyz[:, 1:2], xyz[:, 2:3]
        light = 116.0 * self.lightness(y) - 16.0
        denominator = x + 15.0 * y + 3.0 * z + LUV_DENOMINATOR_EPSILON
        u = 13.0 * light * (4.0 * x / denominator - LUV_WHITE[0])
        v = 13.0 * light * (9.0 * y / denominator - LUV_WHITE[1])
        return torch.cat([light, u, v], dim=1)


def colour_front(colour: str) -> nn.Module:
    """Return the module for `rgb` (nothing to do), `luma`, `lab` or `luv`."""
    fronts: dict[str, type[nn.Module]] = {"rgb": nn.Identity, "luma": RgbToLuma, "lab": RgbToLab, "luv": RgbToLuv}
    return fronts[colour]()
