"""What changes while a model is trained: weights, their average, optimiser, scheduler, history, progress."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pgc_graph.build.spec import ModelSpec
from pgc_train.average import copy_model
from pgc_train.checkpoint import Checkpoint
from pgc_train.model import PGC
from pgc_train.options import TrainOptions
from pgc_train.sampling import derive_seed

__all__ = ["TrainState", "restore_state", "start_state", "to_checkpoint"]


@dataclass
class TrainState:
    """The moving parts of one run; the only mutable record of the trainer.

    Attributes:
        model: The model in training.
        average: The moving average of its weights; the model itself where there is none.
        optimiser: AdamW.
        scheduler: Cuts the learning rate on a plateau.
        history: One record an epoch.
        step: Optimiser steps taken.
        best: Epoch, F1 and loss of the best validation so far; epoch 0 = none yet.
    """

    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.AdamW
    scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau
    history: list[dict[str, Any]]
    step: int
    best: tuple[int, float, float]


def start_state(spec: ModelSpec, options: TrainOptions) -> TrainState:
    """Build a fresh model, its weights drawn by the run's seed, and everything that trains it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(options.seed, 0))
        model = PGC(spec)
    # A step on a CPU takes 0.55 to 0.75 of the time in this layout; bfloat16 autocast adds nothing to it.
    # The colour front is left out: its matrix has five dimensions, which torch does not know in this layout.
    for part in (model.stem, model.features, model.head):
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy_model(model) if options.average_decay else model
    optimiser = torch.optim.AdamW(_parameter_groups(model, options.weight_decay), lr=options.learning_rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser,
        mode="max" if options.plateau == "f1" else "min",
        factor=options.plateau_factor,
        patience=options.plateau_patience,
    )
    return TrainState(model, average, optimiser, scheduler, [], 0, (0, 0.0, 0.0))


def restore_state(spec: ModelSpec, options: TrainOptions, checkpoint: Checkpoint) -> TrainState:
    """Rebuild the state that a `last.pt` checkpoint holds, to the bit."""
    state = start_state(spec, options)
    state.average.load_state_dict(checkpoint.weights)
    state.model.load_state_dict(checkpoint.state["model"])
    state.optimiser.load_state_dict(checkpoint.state["optimiser"])
    state.scheduler.load_state_dict(checkpoint.state["scheduler"])
    state.history = [dict(record) for record in checkpoint.history]
    state.step = checkpoint.state["step"]
    state.best = tuple(checkpoint.state["best"])
    return state


def to_checkpoint(
    state: TrainState, spec: ModelSpec, options: TrainOptions, data: dict[str, Any], *, resumable: bool
) -> Checkpoint:
    """Bundle the state for a file.

    Args:
        state: The run.
        spec: The model's design.
        options: The run's options.
        data: Fingerprints and counts of its data.
        resumable: Whether to keep what only resuming needs.
    """
    extra = {
        "model": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "step": state.step,
        "best": list(state.best),
    }
    return Checkpoint(
        spec=spec,
        weights=state.average.state_dict(),
        options=dataclasses.asdict(options),
        data=data,
        history=tuple(state.history),
        state=extra if resumable else {},
    )


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    # Decay draws weights to zero; for BatchNorm scales and for biases zero is no sensible place to be drawn to.
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
