"""A whole training run in a folder: load the data, train, write what came out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pgc_graph.build.spec import ModelSpec
from pgc_graph.errors import OptionError
from pgc_graph.files import write_text
from pgc_graph.images import Preprocess
from pgc_graph.results import to_json
from pgc_train.checkpoint import BEST_NAME, LAST_NAME, Checkpoint, load_checkpoint
from pgc_train.evaluate import open_scorer
from pgc_train.keep import clear_kept
from pgc_train.loop import HISTORY_NAME, LOG_NAME, FitResult, Report, fit
from pgc_train.options import TrainOptions
from pgc_train.predictions import TEST_NAME, write_predictions
from pgc_train.prepare import DataQuery, crops_to_test, load_training_data

__all__ = ["SUMMARY_NAME", "Summary", "train_model"]

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True)
class Summary:
    """What a run was and what came of it.

    Attributes:
        spec: The model's design.
        parameters: Learnt numbers in the model.
        options: How it was trained.
        data: Fingerprints of the data; per source the counts of not_pointing and pointing crops.
        result: How it ended and its best record.
        seconds: Wall time of this invocation, decoding included.
        torch_version: What it was trained with.
    """

    spec: ModelSpec
    parameters: int
    options: TrainOptions
    data: dict[str, Any]
    result: FitResult
    seconds: float
    torch_version: str


def train_model(
    spec: ModelSpec,
    query: DataQuery,
    options: TrainOptions,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> Summary:
    """Train a model into a folder, made if need be: best.pt, last.pt, history.json, summary.json.

    Where the data have a split `test`, its predictions by the best epoch go to test_predictions.csv.

    Args:
        spec: The model's design.
        query: Where crops come from.
        options: How to train.
        folder: Where files go.
        resume: Go on from the folder's last.pt; start where there is none.
        overwrite: Replace a run that is already there.
        report: Whom to tell about progress.

    Raises:
        ImageError: Crops are missing or unreadable.
        ModelFileError: The checkpoint to resume from is damaged.
        OptionError: Options make no sense together, or the folder already holds a run.
    """
    started = time.perf_counter()
    checkpoint = _find_run(folder, resume=resume, overwrite=overwrite)
    data = load_training_data(query, Preprocess(size=spec.image_size), options.cache_size)
    _make_folder(folder, fresh=checkpoint is None)
    result = fit(spec, data, options, folder, resume=checkpoint, report=report)
    tested = crops_to_test(query)
    if tested and result.best_epoch and not result.interrupted:
        write_predictions(open_scorer(folder), tested, folder / TEST_NAME)
    summary = Summary(
        spec=spec,
        parameters=_count_parameters(spec),
        options=options,
        data=data.identity,
        result=result,
        seconds=time.perf_counter() - started,
        torch_version=torch.__version__,
    )
    write_text(folder / SUMMARY_NAME, to_json(summary) + "\n")
    return summary


def _find_run(folder: Path, *, resume: bool, overwrite: bool) -> Checkpoint | None:
    last = folder / LAST_NAME
    if resume and overwrite:
        raise OptionError("--resume and --overwrite contradict each other; give one of them")
    if last.exists() and resume:
        return load_checkpoint(last)
    if last.exists() and not overwrite:
        raise OptionError(f"{folder} already holds a run; give --resume, --overwrite or another --output-dir")
    return None


def _make_folder(folder: Path, *, fresh: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A best.pt of the run before must not pass for one of the run that replaces it.
        for name in (LAST_NAME, BEST_NAME, HISTORY_NAME, SUMMARY_NAME, LOG_NAME, TEST_NAME) if fresh else ():
            (folder / name).unlink(missing_ok=True)
        if fresh:
            clear_kept(folder)
    except OSError as error:
        raise OptionError(f"cannot write to the folder {folder}: {error.strerror}; choose another") from error


def _count_parameters(spec: ModelSpec) -> int:
    from pgc_train.model import PGC

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in PGC(spec).parameters())
