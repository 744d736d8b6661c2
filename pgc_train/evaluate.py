"""Score a trained checkpoint, or an ONNX file, on labelled crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.interface import image_input, score_output
from pgc_graph.errors import ImageError, UnsupportedError
from pgc_graph.images import Preprocess, preprocess_from_metadata
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_train.calibration import Calibration, calibrate, roc_auc
from pgc_train.checkpoint import Checkpoint, load_checkpoint
from pgc_train.data import Crop, CropPixels, decode_for_inference
from pgc_train.metrics import Scores, score_logits
from pgc_train.model import PGC
from pgc_train.predict import predict_logits

__all__ = [
    "Evaluation",
    "Scorer",
    "checkpoint_scorer",
    "evaluate",
    "evaluate_checkpoint",
    "evaluate_onnx",
    "onnx_scorer",
    "open_scorer",
    "restore_model",
    "score_crops",
]

_BATCH_SIZE = 64
_CHUNK = 256
_TINY = 1e-7
"""Probabilities that float32 rounds to 0 or 1 have no finite logit: they count as this far from them."""


@dataclass(frozen=True)
class Evaluation:
    """How a model does on some crops.

    Attributes:
        threshold: The probability from which a crop is called pointing.
        scores: On all crops.
        by_source: On the crops of each source.
        skipped: Crops that could not be read.
        roc_auc: Area under the ROC curve of all crops; None where a class is missing.
        roc_auc_by_source: The same for each source.
        calibration: How far the probabilities of all crops are to be believed.
    """

    threshold: float
    scores: Scores
    by_source: dict[str, Scores]
    skipped: int
    roc_auc: float | None
    roc_auc_by_source: dict[str, float | None]
    calibration: Calibration


@dataclass(frozen=True, eq=False)
class Scorer:
    """A model that is ready to score images.

    Attributes:
        preprocess: How images become its input.
        logits: Maps a batch of them to `(N,)` logits of pointing.
    """

    preprocess: Preprocess
    logits: Callable[[NDArray[Any]], NDArray[np.floating[Any]]]


def restore_model(checkpoint: Checkpoint) -> PGC:
    """Build the model that a checkpoint holds, in eval mode."""
    model = PGC(checkpoint.spec)
    model.load_state_dict(checkpoint.weights)
    return model.eval()


def checkpoint_scorer(checkpoint: Checkpoint) -> Scorer:
    """Make a checkpoint ready to score images."""
    model = restore_model(checkpoint)
    return Scorer(Preprocess(size=checkpoint.spec.image_size), lambda images: predict_logits(model, images))


def onnx_scorer(path: Path) -> Scorer:
    """Make an ONNX classifier whose output is the probability of pointing ready, on the CPU, fed as its metadata say.

    Raises:
        ModelFileError: The file is missing or not ONNX.
        UnsupportedError: It does not map a batch of RGB images to one probability each; also when it is run.
    """
    model = modelio.load(path)
    source, target = image_input(model), str(score_output(model).name)
    session = open_session(model, RuntimeOptions(provider="cpu"))
    preprocess = preprocess_from_metadata(model.metadata_props, source.shape, pixels=source.takes_pixels)
    size = source.fixed_batch or _BATCH_SIZE

    def score(images: NDArray[Any]) -> NDArray[np.floating[Any]]:
        parts = []
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            missing = size - len(chunk) if source.fixed_batch else 0
            padded = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)]).astype(source.dtype.numpy())
            (output,) = session.run({source.name: padded}, [target])
            if output.size != len(padded):
                raise UnsupportedError(
                    f"{path} gives {list(output.shape)} for {len(padded)} images; expected one score each"
                )
            parts.append(output.reshape(-1)[: len(chunk)])
        probability = np.clip(np.concatenate(parts).astype(np.float64), _TINY, 1.0 - _TINY)
        return np.asarray(np.log(probability / (1.0 - probability)))

    return Scorer(preprocess, score)


def open_scorer(path: Path) -> Scorer:
    """Make a model ready: an .onnx file, a checkpoint, or the folder of a run.

    Raises:
        ModelError: The file is missing, damaged or no classifier.
    """
    return onnx_scorer(path) if path.suffix == ".onnx" else checkpoint_scorer(load_checkpoint(path))


def score_crops(scorer: Scorer, crops: Sequence[Crop]) -> Iterator[tuple[Crop, float]]:
    """Yield crops with their logits, in order; those that cannot be read are skipped, with a warning.

    Raises:
        ImageError: Not one of them can be read.
    """
    found = False
    for start in range(0, len(crops), _CHUNK):
        chunk = crops[start : start + _CHUNK]
        try:
            decoded = decode_for_inference(chunk, scorer.preprocess)
        except ImageError:
            # Each of the chunk has been warned about; whether others can be read is seen at the end.
            continue
        found = True
        yield from zip(decoded.crops, scorer.logits(decoded.pixels).tolist(), strict=True)
    if not found:
        raise ImageError(f"none of the {len(crops)} images could be read; give readable images")


def evaluate(scorer: Scorer, crops: Sequence[Crop], threshold: float = 0.5) -> Evaluation:
    """Score a model on labelled crops, decoded as every other command decodes them.

    Args:
        scorer: The model.
        crops: Labelled crops.
        threshold: The probability from which a crop is called pointing.

    Raises:
        ImageError: Not one crop can be read.
    """
    decoded = decode_for_inference(crops, scorer.preprocess)
    return _evaluate(scorer.logits(decoded.pixels), decoded, threshold)


def evaluate_checkpoint(checkpoint: Checkpoint, crops: Sequence[Crop], threshold: float = 0.5) -> Evaluation:
    """Score a checkpoint on crops; as `evaluate`."""
    return evaluate(checkpoint_scorer(checkpoint), crops, threshold)


def evaluate_onnx(path: Path, crops: Sequence[Crop], threshold: float = 0.5) -> Evaluation:
    """Score an ONNX classifier on crops; as `onnx_scorer` and `evaluate`."""
    return evaluate(onnx_scorer(path), crops, threshold)


def _evaluate(logits: NDArray[np.floating[Any]], decoded: CropPixels, threshold: float) -> Evaluation:
    sources = np.array([crop.source for crop in decoded.crops])
    by_source = {
        str(name): score_logits(logits[sources == name], decoded.labels[sources == name], threshold)
        for name in np.unique(sources)
    }
    areas = {name: roc_auc(logits[sources == name], decoded.labels[sources == name]) for name in by_source}
    return Evaluation(
        threshold,
        score_logits(logits, decoded.labels, threshold),
        by_source,
        decoded.skipped,
        roc_auc(logits, decoded.labels),
        areas,
        calibrate(logits, decoded.labels),
    )
