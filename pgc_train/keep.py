"""Keep the last and the best epochs of a run, each in a checkpoint of its own with its weights as safetensors beside it.

Which files there are follows from the history alone; so a resumed run leaves the files of one that was not cut off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pgc_graph.build.spec import ModelSpec
from pgc_graph.files import atomic_path
from pgc_train.checkpoint import Checkpoint, save_checkpoint
from pgc_train.options import TrainOptions
from pgc_train.state import TrainState, to_checkpoint

__all__ = ["clear_kept", "keep_epoch", "kept_names", "rank_epoch"]

_KEPT = re.compile(r"pgc_(epoch_\d{4,}|best_epoch\d{4,}_f1_\d\.\d{4})\.(pt|safetensors)")


def rank_epoch(f1: float, loss: float, options: TrainOptions) -> tuple[float, float]:
    """Return what orders epochs, the best one last: F1 and loss of the validation crops, as the options weigh them."""
    return (f1, -loss) if options.best == "f1" else (-loss, f1)


def kept_names(history: Sequence[Mapping[str, Any]], options: TrainOptions) -> tuple[tuple[str, int], ...]:
    """Name the checkpoints that a run keeps, without suffix, each with its epoch; of equals, the earlier is better.

    Args:
        history: One record an epoch.
        options: The run's options.
    """
    last = [record["epoch"] for record in history[max(0, len(history) - options.keep) :]]

    def rank(record: Mapping[str, Any]) -> tuple[float, ...]:
        scores = record["validation"]
        return (*rank_epoch(scores["f1"], scores["loss"], options), -record["epoch"])

    best = sorted(history, key=rank, reverse=True)[: options.keep]
    return (
        *((f"pgc_epoch_{epoch:04d}", epoch) for epoch in last),
        *((_best_name(record), record["epoch"]) for record in best),
    )


def keep_epoch(state: TrainState, spec: ModelSpec, options: TrainOptions, data: dict[str, Any], folder: Path) -> None:
    """Write the files of the epoch just done, and remove those that no longer belong to the last or the best.

    The files `pgc_epoch_*` hold all that a run goes on from, the files `pgc_best_*` the weights alone.

    Raises:
        OptionError: The folder cannot be written.
    """
    names = kept_names(state.history, options)
    for name, epoch in names:
        if epoch == len(state.history):
            resumable = name.startswith("pgc_epoch")
            checkpoint = to_checkpoint(state, spec, options, data, resumable=resumable)
            save_checkpoint(checkpoint, folder / f"{name}.pt")
            _save_weights(checkpoint, folder / f"{name}.safetensors")
    wanted = {name for name, _ in names}
    for path in _kept_files(folder):
        if path.name.removesuffix(path.suffix) not in wanted:
            path.unlink()


def clear_kept(folder: Path) -> None:
    """Remove what `keep_epoch` left in a folder."""
    for path in _kept_files(folder):
        path.unlink()


def _best_name(record: Mapping[str, Any]) -> str:
    return f"pgc_best_epoch{record['epoch']:04d}_f1_{record['validation']['f1']:.4f}"


def _kept_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if _KEPT.fullmatch(path.name)]


def _save_weights(checkpoint: Checkpoint, path: Path) -> None:
    # The count of batches is BatchNorm's own affair: no graph has a place for it.
    weights = checkpoint.weights.items()
    tensors = {name: tensor.contiguous() for name, tensor in weights if not name.endswith("num_batches_tracked")}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
