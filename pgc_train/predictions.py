"""Scores of images, one line each, in a CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pgc_graph.files import atomic_path
from pgc_graph.images import find_images
from pgc_train.crops import LABELS, Crop
from pgc_train.evaluate import Scorer, score_crops

__all__ = ["TEST_NAME", "find_inputs", "write_predictions"]

TEST_NAME = "test_predictions.csv"


def find_inputs(inputs: Sequence[Path]) -> tuple[Crop, ...]:
    """List images and the images below folders; their label is not known and stands as 0.

    Raises:
        ImageError: A folder holds no image.
    """
    paths = [path for given in inputs for path in (find_images(given) if given.is_dir() else (given,))]
    return tuple(Crop(path, 0, "", "") for path in paths)


def write_predictions(scorer: Scorer, crops: Sequence[Crop], path: Path, threshold: float = 0.5) -> int:
    """Write a CSV of image_path, probability, logit and prediction; images that cannot be read are left out.

    Args:
        scorer: The model.
        crops: What to score.
        path: The file, written all or nothing.
        threshold: The probability from which an image is called pointing.

    Returns:
        How many lines were written.

    Raises:
        ImageError: Not one image can be read.
        OptionError: The file cannot be written.
    """
    boundary, count = np.log(threshold / (1.0 - threshold)), 0
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image_path", "probability", "logit", "prediction"))
        for crop, logit in score_crops(scorer, crops):
            probability = 0.5 * (1.0 + np.tanh(0.5 * logit))
            writer.writerow((crop.path, f"{probability:.6f}", f"{logit:.6f}", LABELS[int(logit >= boundary)]))
            count += 1
    return count
