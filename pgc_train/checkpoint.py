"""Checkpoints: plain tensors and numbers in one file, written all or nothing, loaded without running code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgc_graph.build.spec import ModelSpec, spec_from_dict, spec_to_dict
from pgc_graph.errors import ModelFileError
from pgc_graph.files import atomic_path

__all__ = ["BEST_NAME", "FORMAT", "LAST_NAME", "Checkpoint", "find_checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = 1
BEST_NAME = "best.pt"
LAST_NAME = "last.pt"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training run after some whole epochs.

    Every epoch seeds its own random numbers from (seed, epoch), so no generator state has to be kept.

    Attributes:
        spec: The model's design.
        weights: The weights to use: the moving average where there is one.
        options: The run's `TrainOptions`, as plain data.
        data: Fingerprints and counts of the data the run sees.
        history: One record an epoch.
        state: What resuming needs besides: raw weights, optimiser, scheduler, progress; empty in a best checkpoint.
    """

    spec: ModelSpec
    weights: Mapping[str, Tensor]
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    state: Mapping[str, Any]

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return len(self.history)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, all or nothing.

    Raises:
        OptionError: The folder does not exist or cannot be written.
    """
    payload = {
        "format": FORMAT,
        "spec": spec_to_dict(checkpoint.spec),
        "weights": dict(checkpoint.weights),
        "options": dict(checkpoint.options),
        "data": dict(checkpoint.data),
        "history": [dict(record) for record in checkpoint.history],
        "state": dict(checkpoint.state),
    }
    with atomic_path(path) as temporary:
        torch.save(payload, temporary)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path means: the file itself, or the best one in a run's folder.

    Raises:
        ModelFileError: There is none.
    """
    if path.is_dir():
        found = path / BEST_NAME
        if not found.is_file():
            raise ModelFileError(f"no {BEST_NAME} in {path}; give a checkpoint file or the folder of a training run")
        return found
    if not path.is_file():
        raise ModelFileError(f"checkpoint not found: {path}; check the path")
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ModelFileError: The file is missing, damaged, not a checkpoint of pgc-train or of another format.
    """
    path = find_checkpoint(path)
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ModelFileError(
            f"{path} is not a checkpoint of pgc-train, or is truncated; train or copy it again"
        ) from error
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise ModelFileError(f"{path} is not a checkpoint of pgc-train in format {FORMAT}; train again")
    return Checkpoint(
        spec=spec_from_dict(payload["spec"]),
        weights=payload["weights"],
        options=payload["options"],
        data=payload["data"],
        history=tuple(payload["history"]),
        state=payload["state"],
    )
