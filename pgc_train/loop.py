"""Fit a model: epochs of augmented steps, validation, a learning rate that falls on plateaus, checkpoints.

Every epoch seeds its sampling, its augmentation and its dropout from (seed, epoch); so a run that was cut off and
resumed from its last whole epoch ends with the same weights, to the bit, as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pgc_graph.build.spec import ModelSpec
from pgc_graph.errors import OptionError
from pgc_graph.files import write_text
from pgc_graph.results import to_json
from pgc_train.checkpoint import BEST_NAME, LAST_NAME, Checkpoint, save_checkpoint
from pgc_train.epoch import DROPOUT, TrainingData, train_epoch
from pgc_train.keep import keep_epoch, rank_epoch
from pgc_train.metrics import score_logits
from pgc_train.options import TrainOptions
from pgc_train.predict import predict_logits
from pgc_train.sampling import Pools, derive_seed, make_pools, positive_weight
from pgc_train.show import epoch_line
from pgc_train.state import TrainState, restore_state, start_state, to_checkpoint

__all__ = ["HISTORY_NAME", "LOG_NAME", "FitResult", "Report", "fit"]

logger = logging.getLogger(__name__)

HISTORY_NAME = "history.json"
LOG_NAME = "train.log"


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        epochs: Whole epochs done.
        best_epoch: The epoch of the best validation, from 1; 0 = none.
        best: Its record.
        interrupted: Whether Ctrl-C ended the run.
        stopped_early: Whether it ended for want of progress.
    """

    epochs: int
    best_epoch: int
    best: dict[str, Any] | None
    interrupted: bool
    stopped_early: bool


@dataclass(frozen=True)
class Report:
    """Whom to tell about progress.

    Attributes:
        step: Called with (epoch, steps done, steps in the epoch).
        epoch: Called with an epoch's record.
    """

    step: Callable[[int, int, int], None] = lambda epoch, done, total: None
    epoch: Callable[[dict[str, Any]], None] = lambda record: None


def fit(
    spec: ModelSpec,
    data: TrainingData,
    options: TrainOptions,
    folder: Path,
    *,
    resume: Checkpoint | None = None,
    report: Report | None = None,
) -> FitResult:
    """Train a model and keep `best.pt`, `last.pt`, `history.json` and `train.log` in a folder up to date after every epoch.

    Ctrl-C ends the run at the last whole epoch, which `last.pt` holds.

    Args:
        spec: The model's design.
        data: Crops to learn from and to be judged by.
        options: How to train.
        folder: Where files go; it exists.
        resume: A `last.pt` of the same spec, data and options (epochs, patience and threads may differ).
        report: Whom to tell.

    Raises:
        OptionError: The data hold only one class or too few crops, or do not fit the run to resume.
    """
    report = report or Report()
    pools = make_pools(
        data.training.labels,
        data.synthetic,
        synth_share=options.synth_share,
        pointing_share=options.photographed_share,
        anew=options.resampling == "weighted",
        length=options.samples_per_epoch,
    )
    positive_weight(pools)  # one class alone is refused before anything is written
    if resume is None:
        state = start_state(spec, options)
    else:
        _check_resumable(resume, spec, options, data)
        state = restore_state(spec, options, resume)
    interrupted, saved = False, len(state.history)
    with _threads(options.threads):
        try:
            if resume is None:
                _save(state, spec, options, data, folder)
            while len(state.history) < options.epochs and not _is_stale(state, options):
                _run_epoch(state, spec, data, pools, options, report)
                _save(state, spec, options, data, folder)
                saved = len(state.history)
                report.epoch(state.history[-1])
        except KeyboardInterrupt:
            logger.info("interrupted after %d whole epochs", saved)
            interrupted = True
    best_epoch = state.best[0]
    best = state.history[best_epoch - 1] if best_epoch else None
    return FitResult(saved, best_epoch, best, interrupted, _is_stale(state, options))


def _run_epoch(
    state: TrainState, spec: ModelSpec, data: TrainingData, pools: Pools, options: TrainOptions, report: Report
) -> None:
    started, epoch = time.perf_counter(), len(state.history) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(options.seed, epoch, DROPOUT))
        training = train_epoch(state, spec, data, pools, options, lambda *done: report.step(epoch, *done))
    rate = state.optimiser.param_groups[0]["lr"]
    validation = score_logits(predict_logits(state.average, data.validation.pixels), data.validation.labels)
    state.scheduler.step(validation.f1 if options.plateau == "f1" else validation.loss)
    is_best = not state.best[0] or rank_epoch(validation.f1, validation.loss, options) > rank_epoch(
        *state.best[1:], options
    )
    if is_best:
        state.best = (epoch, validation.f1, validation.loss)
    state.history.append(
        {
            "epoch": epoch,
            "learning_rate": rate,
            "train": dataclasses.asdict(training),
            "validation": dataclasses.asdict(validation),
            "best": is_best,
            "seconds": time.perf_counter() - started,
        }
    )


def _save(state: TrainState, spec: ModelSpec, options: TrainOptions, data: TrainingData, folder: Path) -> None:
    if state.history and options.keep:
        keep_epoch(state, spec, options, data.identity, folder)
    # The best goes first: whoever finds an epoch in last.pt finds its best.pt too.
    if state.history and state.best[0] == len(state.history):
        save_checkpoint(to_checkpoint(state, spec, options, data.identity, resumable=False), folder / BEST_NAME)
    save_checkpoint(to_checkpoint(state, spec, options, data.identity, resumable=True), folder / LAST_NAME)
    write_text(folder / HISTORY_NAME, to_json({"epochs": state.history}) + "\n")
    write_text(folder / LOG_NAME, "".join(f"{epoch_line(record)}\n" for record in state.history))


def _is_stale(state: TrainState, options: TrainOptions) -> bool:
    return bool(options.patience) and len(state.history) - state.best[0] >= options.patience


def _check_resumable(checkpoint: Checkpoint, spec: ModelSpec, options: TrainOptions, data: TrainingData) -> None:
    if not checkpoint.state:
        raise OptionError(f"this checkpoint cannot be resumed from; expected a {LAST_NAME}")
    if checkpoint.spec != spec:
        raise OptionError("the run to resume has another model design; give the same model options or start anew")
    if dict(checkpoint.data) != data.identity:
        raise OptionError("the run to resume saw other data; give the same data options or start anew")
    free = {"epochs", "patience", "threads", "keep"}
    # A run begun before an option existed did what is now the option's default.
    begun = dataclasses.asdict(TrainOptions()) | dict(checkpoint.options)
    changed = [key for key, value in dataclasses.asdict(options).items() if key not in free and begun[key] != value]
    if changed:
        raise OptionError(f"the run to resume has another {changed[0]}; give the same options or start anew")


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
