"""Logits of a torch model for images that are ready for it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["predict_logits"]


def predict_logits(model: nn.Module, images: NDArray[np.float32], batch_size: int = 128) -> NDArray[np.float32]:
    """Run a model in eval mode over images; its mode is put back afterwards.

    Args:
        model: Takes `(N, 3, H, W)`, gives logits `(N,)`.
        images: `(N, 3, H, W)` float32.
        batch_size: Images a run.

    Returns:
        `(N,)` logits.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            parts = [model(_batch(images[start : start + batch_size])) for start in range(0, len(images), batch_size)]
    finally:
        model.train(was_training)
    return torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)


def _batch(images: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
