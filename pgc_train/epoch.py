"""One epoch: crops drawn, changed, learnt from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pgc_graph.build.spec import ModelSpec
from pgc_graph.errors import OptionError
from pgc_train.augment import augment
from pgc_train.average import update_average
from pgc_train.data import CropPixels
from pgc_train.metrics import Scores, score_logits
from pgc_train.options import TrainOptions
from pgc_train.sampling import Pools, derive_seed, epoch_order, positive_weight
from pgc_train.state import TrainState

__all__ = ["AUGMENT", "DROPOUT", "SAMPLING", "TrainingData", "train_epoch"]

SAMPLING, AUGMENT, DROPOUT = 1, 2, 3
"""What an epoch derives seeds for."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a run learns from and what judges it.

    Attributes:
        training: uint8 `(N, 3, S, S)`.
        synthetic: `(N,)`, which training crops are drawn, not photographed.
        validation: float32 `(M, 3, H, W)` as inference makes it.
        identity: Fingerprints and counts, stored in checkpoints and compared on resuming.
    """

    training: CropPixels
    synthetic: NDArray[np.bool_]
    validation: CropPixels
    identity: dict[str, Any]


def train_epoch(
    state: TrainState,
    spec: ModelSpec,
    data: TrainingData,
    pools: Pools,
    options: TrainOptions,
    progress: Callable[[int, int], None],
) -> Scores:
    """Take one step on each batch of an epoch.

    Args:
        state: The run, changed in place; its history tells which epoch this is.
        spec: The model's design.
        data: Crops to learn from.
        pools: What the epoch is drawn from.
        options: How to train.
        progress: Called with (steps done, steps in the epoch).

    Returns:
        Scores of the training crops as the model saw them, before each step.

    Raises:
        OptionError: There are fewer than two crops.
    """
    epoch = len(state.history) + 1
    order = epoch_order(pools, derive_seed(options.seed, epoch, SAMPLING))
    changes, weight = options.augment.in_epoch(epoch), positive_weight(pools)
    generator = torch.Generator().manual_seed(derive_seed(options.seed, epoch, AUGMENT))
    batches = _batches(order, options.batch_size)
    warm_up = len(batches) if epoch == 1 else 0
    pixels, labels = torch.from_numpy(data.training.pixels), torch.from_numpy(data.training.labels)
    seen: list[torch.Tensor] = []
    state.model.train()
    for done, batch in enumerate(batches):
        if done < warm_up:
            for group in state.optimiser.param_groups:
                group["lr"] = options.learning_rate * (done + 1) / warm_up
        images = augment(pixels[batch], spec.image_size, changes, generator)
        seen.append(_step(state, images, labels[batch], options, weight))
        progress(done + 1, len(batches))
    return score_logits(torch.cat(seen).numpy(), labels[np.concatenate(batches)].numpy())


def _step(
    state: TrainState, images: torch.Tensor, labels: torch.Tensor, options: TrainOptions, weight: float
) -> torch.Tensor:
    logits: torch.Tensor = state.model(images.contiguous(memory_format=torch.channels_last))
    targets = labels * (1.0 - options.label_smoothing) + 0.5 * options.label_smoothing
    loss = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor(weight))
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimiser.step()
    state.step += 1
    if state.average is not state.model:
        update_average(state.average, state.model, options.average_decay, state.step)
    return logits.detach()


def _batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    # A rest that does not fill a batch is left for another epoch: BatchNorm cannot learn from a single crop.
    whole = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    if not whole and len(order) < 2:
        raise OptionError("one training crop is too few; expected at least 2")
    return whole or [order]
