"""Class-activation maps by the formulas of the papers, in torch and float64; nothing of the library is used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

__all__ = ["FORMULAS", "ablation_cam", "eigen_cam", "integrated_gradients", "smooth_grad"]

Tensor = torch.Tensor
Logit = Callable[[Tensor], Tensor]
"""From images `(N, ...)` to the number of the class, `(N)`."""


def gradcam(a: Tensor, g: Tensor) -> Tensor:
    """Selvaraju et al. 2017, equations 1 and 2; `a` and `g` are `(N, C, places...)`."""
    weights = g.flatten(2).mean(2)
    return torch.relu(torch.einsum("nc,nc...->n...", weights, a))


def gradcam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    """Chattopadhay et al. 2018, equations 5 and 19, as printed, without the factor exp(y)."""
    total = a.flatten(2).sum(2).reshape(*a.shape[:2], *[1] * (a.dim() - 2))
    denominator = 2 * g**2 + total * g**3
    alpha = torch.where(denominator == 0, torch.zeros_like(g), g**2 / denominator)
    weights = (alpha * torch.relu(g)).flatten(2).sum(2)
    return torch.relu(torch.einsum("nc,nc...->n...", weights, a))


def xgradcam(a: Tensor, g: Tensor) -> Tensor:
    """Fu et al. 2020, equation 8; a channel of zeros has weight 0."""
    total = a.flatten(2).sum(2)
    share = a / torch.where(total == 0, 1.0, total).reshape(*a.shape[:2], *[1] * (a.dim() - 2))
    weights = (share * g).flatten(2).sum(2)
    return torch.relu(torch.einsum("nc,nc...->n...", weights, a))


def layercam(a: Tensor, g: Tensor) -> Tensor:
    """Jiang et al. 2021, equations 5 and 6."""
    return torch.relu((torch.relu(g) * a).sum(1))


FORMULAS = {"gradcam": gradcam, "gradcam++": gradcam_plus_plus, "xgradcam": xgradcam, "layercam": layercam}


def ablation_cam(a: Tensor, logit: Logit) -> Tensor:
    """Desai and Ramaswamy 2020, equation 3, over |y|; `logit` goes on from the activation `(N, C, places...)`."""
    with torch.no_grad():
        whole, drops = logit(a), []
        for channel in range(a.shape[1]):
            without = a.clone()
            without[:, channel] = 0
            drops.append((whole - logit(without)) / whole.abs())
        return torch.relu(torch.einsum("cn,nc...->n...", torch.stack(drops), a))


def eigen_cam(a: Tensor) -> Tensor:
    """Muhammad and Yeasin 2020, by the eigenvectors of OᵀO instead of a singular value decomposition; sum positive."""
    maps = []
    for row in a:
        matrix = row.flatten(1).T  # (places, C)
        direction = torch.linalg.eigh(matrix.T @ matrix)[1][:, -1]
        projected = (matrix @ direction).reshape(row.shape[1:])
        maps.append(projected * torch.sign(projected.sum()))
    return torch.stack(maps)


def integrated_gradients(images: Tensor, baseline: Tensor, logit: Logit, steps: int) -> Tensor:
    """Sundararajan et al. 2017, equation 1, midpoint rule; summed over colours on axis 1."""
    total = torch.zeros_like(images)
    for step in range(steps):
        total += slope(baseline + (step + 0.5) / steps * (images - baseline), logit)
    return ((images - baseline) * total / steps).sum(1)


def smooth_grad(images: Tensor, logit: Logit, steps: int, noise: float, seed: int) -> Tensor:
    """Smilkov et al. 2017, section 3; the largest |mean| over colours on axis 1."""
    draws = torch.tensor(np.random.default_rng(seed).normal(size=(steps, *images.shape[1:])))
    total = torch.zeros_like(images)
    for draw in draws:
        strength = noise * (images.flatten(1).amax(1) - images.flatten(1).amin(1))
        total += slope(images + strength.reshape(-1, 1, 1, 1) * draw, logit)
    return (total / steps).abs().amax(1)


def slope(images: Tensor, logit: Logit) -> Tensor:
    """The gradient of each image's number by the image, as float32 can hold it: the slope of a ReLU network jumps."""
    images = images.detach().float().double().requires_grad_()
    return torch.autograd.grad(logit(images).sum(), images)[0]
