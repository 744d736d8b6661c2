"""Moving averages of a model's weights: steadier than the weights of any one step, and better on unseen sources."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["copy_model", "update_average"]


def copy_model(model: nn.Module) -> nn.Module:
    """Return a copy of a model in eval mode that takes no gradients."""
    average = copy.deepcopy(model).eval()
    for parameter in average.parameters():
        parameter.requires_grad_(False)
    return average


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the model: `average = d * average + (1 - d) * model`, in place.

    The decay starts small, `min(decay, (1 + step) / (10 + step))`, so that the first steps are forgotten quickly.
    BatchNorm statistics are averaged like weights; integer counters are copied.

    Args:
        average: What `copy_model` returned.
        model: The model in training.
        decay: The final decay, below 1.
        step: Steps taken so far.
    """
    weight = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, weight)
        else:
            kept.copy_(new)
