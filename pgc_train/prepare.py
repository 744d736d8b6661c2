"""From folders and tables named on the command line to the crops that a run learns from and is judged by."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pgc_graph.errors import OptionError
from pgc_graph.images import Preprocess
from pgc_train.data import (
    Crop,
    count_labels,
    decode_for_inference,
    decode_for_training,
    find_crops,
    fingerprint,
    hold_out_groups,
    read_splits,
)
from pgc_train.epoch import TrainingData
from pgc_train.tables import read_table, split_roots

__all__ = ["DataQuery", "choose_crops", "crops_to_judge", "crops_to_test", "load_training_data"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataQuery:
    """Where crops come from.

    Attributes:
        roots: Folders of photographs to learn from; Parquet files, whose rows `train` and `val` are used.
        synthetic_roots: Folders of drawn crops to learn from; Parquet files, all rows.
        validation_roots: Folders to be judged by; Parquet files, all rows.
        splits: A CSV whose rows `train` and `val` are used.
        validation_fraction: Share of the photographs held out where nothing else names validation crops.
        seed: Of the hold-out.
    """

    roots: tuple[Path, ...] = ()
    synthetic_roots: tuple[Path, ...] = ()
    validation_roots: tuple[Path, ...] = ()
    splits: Path | None = None
    validation_fraction: float = 0.15
    seed: int = 0


def choose_crops(query: DataQuery) -> tuple[tuple[Crop, ...], tuple[Crop, ...], tuple[Crop, ...]]:
    """Decide which crops are photographs to learn from, drawn crops to learn from, and validation crops.

    Without a table and without validation folders, whole groups of the photographs are held out; of the drawn crops,
    where there are no photographs.

    Raises:
        ImageError: A folder does not exist or holds no labelled image.
        OptionError: There is nothing to learn from or to be judged by, or a file is on both sides.
    """
    folders, tables = split_roots(query.roots)
    photographs = (*find_crops(folders), *(crop for table in tables for crop in read_table(table, "train")))
    drawn = _all_crops(query.synthetic_roots)
    validation = (*_all_crops(query.validation_roots), *(crop for table in tables for crop in read_table(table, "val")))
    if query.splits is not None:
        photographs += read_splits(query.splits, "train")
        validation += read_splits(query.splits, "val")
    if not photographs and not drawn:
        raise OptionError("nothing to learn from; give folders with --data or --synth-data, or a table with --splits")
    if not validation and photographs:
        photographs, validation = hold_out_groups(photographs, query.validation_fraction, query.seed)
    elif not validation:
        drawn, validation = hold_out_groups(drawn, query.validation_fraction, query.seed)
    _check_apart((*photographs, *drawn), validation)
    return photographs, drawn, validation


def load_training_data(query: DataQuery, preprocess: Preprocess, cache_size: int) -> TrainingData:
    """Decode the crops that a run needs, each once.

    Args:
        query: Where crops come from.
        preprocess: How validation images become the model's input.
        cache_size: Side in pixels at which training crops are kept.

    Raises:
        ImageError: A folder does not exist, holds no labelled image, or no image can be read.
        OptionError: As for `choose_crops`, or one class is missing on a side.
    """
    photographs, drawn, held = choose_crops(query)
    training = decode_for_training((*photographs, *drawn), cache_size)
    validation = decode_for_inference(held, preprocess)
    for side, crops in (("training", training.crops), ("validation", validation.crops)):
        _check_classes(crops, side)
    drawn_set = frozenset(drawn)
    identity = {
        "training": fingerprint(training.crops),
        "validation": fingerprint(validation.crops),
        "training_sources": _count_sources(training.crops),
        "validation_sources": _count_sources(validation.crops),
        "skipped": training.skipped + validation.skipped,
    }
    synthetic = np.array([crop in drawn_set for crop in training.crops])
    return TrainingData(training, synthetic, validation, identity)


def crops_to_test(query: DataQuery) -> tuple[Crop, ...]:
    """List the rows `test` of the tables that a run is given; none where there are none."""
    crops = tuple(crop for table in split_roots(query.roots)[1] for crop in read_table(table, "test"))
    return crops + (() if query.splits is None else read_splits(query.splits, "test"))


def crops_to_judge(roots: Sequence[Path], splits: Path | None, split: str) -> tuple[Crop, ...]:
    """List the crops to score a model on: those in some folders and the rows of one split of Parquet files and a table.

    Raises:
        ImageError: A folder does not exist or holds no labelled image.
        OptionError: There is no crop, or the table cannot be read.
    """
    folders, tables = split_roots(roots)
    crops = find_crops(folders)
    for table in tables:
        chosen = read_table(table, split)
        if not chosen:
            raise OptionError(f"{table} has no row of the split {split!r}; name another with --split")
        crops += chosen
    if splits is not None:
        rows = read_splits(splits, split)
        if not rows:
            raise OptionError(f"{splits} has no row of the split {split!r}; name another with --split")
        crops += rows
    if not crops:
        raise OptionError("no crops to score; give folders with --data or a table with --splits")
    return crops


def _all_crops(roots: Sequence[Path]) -> tuple[Crop, ...]:
    folders, tables = split_roots(roots)
    return (*find_crops(folders), *(crop for table in tables for crop in read_table(table, None)))


def _check_apart(training: Sequence[Crop], validation: Sequence[Crop]) -> None:
    learnt = {crop.path.resolve() for crop in training}
    shared = [crop.path for crop in validation if crop.path.resolve() in learnt]
    if shared:
        raise OptionError(
            f"{len(shared)} crops are in both training and validation (first: {shared[0]}); "
            "give folders that do not overlap"
        )
    groups = {crop.group for crop in training} & {crop.group for crop in validation}
    if groups:
        logger.warning(
            "%d groups (such as %s) are in both training and validation; scores may flatter", len(groups), min(groups)
        )


def _check_classes(crops: Sequence[Crop], side: str) -> None:
    negative, positive = count_labels(crops)
    if not negative or not positive:
        raise OptionError(
            f"the {side} crops are {positive} pointing and {negative} not_pointing; expected some of both classes"
        )


def _count_sources(crops: Sequence[Crop]) -> dict[str, list[int]]:
    counts = Counter((crop.source, crop.label) for crop in crops)
    return {source: [counts[source, 0], counts[source, 1]] for source in sorted({crop.source for crop in crops})}
