"""Score a trained checkpoint, or an ONNX file, on labelled crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.interface import image_input, score_output
from pgc_graph.errors import UnsupportedError
from pgc_graph.images import Preprocess, preprocess_from_metadata
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_train.checkpoint import Checkpoint
from pgc_train.data import Crop, CropPixels, decode_for_inference
from pgc_train.metrics import Scores, score_logits
from pgc_train.model import PGC
from pgc_train.predict import predict_logits

__all__ = ["Evaluation", "evaluate_checkpoint", "evaluate_onnx", "restore_model"]

_BATCH_SIZE = 64
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
    """

    threshold: float
    scores: Scores
    by_source: dict[str, Scores]
    skipped: int


def restore_model(checkpoint: Checkpoint) -> PGC:
    """Build the model that a checkpoint holds, in eval mode."""
    model = PGC(checkpoint.spec)
    model.load_state_dict(checkpoint.weights)
    return model.eval()


def evaluate_checkpoint(checkpoint: Checkpoint, crops: Sequence[Crop], threshold: float = 0.5) -> Evaluation:
    """Score a checkpoint on crops, decoded as every other command decodes them.

    Raises:
        ImageError: Not one crop can be read.
    """
    decoded = decode_for_inference(crops, Preprocess(size=checkpoint.spec.image_size))
    logits = predict_logits(restore_model(checkpoint), decoded.pixels)
    return _evaluate(logits, decoded, threshold)


def evaluate_onnx(path: Path, crops: Sequence[Crop], threshold: float = 0.5) -> Evaluation:
    """Score an ONNX classifier whose output is the probability of pointing, on the CPU, fed as its metadata say.

    Args:
        path: The .onnx file.
        crops: Labelled crops.
        threshold: The probability from which a crop is called pointing.

    Raises:
        ModelFileError: The file is missing or not ONNX.
        UnsupportedError: It does not map a batch of RGB images to one probability each.
        ImageError: Not one crop can be read.
    """
    model = modelio.load(path)
    source, target = image_input(model), str(score_output(model).name)
    session = open_session(model, RuntimeOptions(provider="cpu"))
    preprocess = preprocess_from_metadata(model.metadata_props, source.shape, pixels=source.takes_pixels)
    decoded = decode_for_inference(crops, preprocess)
    size = source.fixed_batch or _BATCH_SIZE
    parts = []
    for start in range(0, len(decoded.crops), size):
        chunk = decoded.pixels[start : start + size]
        missing = size - len(chunk) if source.fixed_batch else 0
        padded = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)]).astype(source.dtype.numpy())
        (output,) = session.run({source.name: padded}, [target])
        if output.size != len(padded):
            raise UnsupportedError(
                f"{path} gives {list(output.shape)} for {len(padded)} images; expected one score each"
            )
        parts.append(output.reshape(-1)[: len(chunk)])
    probability = np.clip(np.concatenate(parts).astype(np.float64), _TINY, 1.0 - _TINY)
    return _evaluate(np.log(probability / (1.0 - probability)), decoded, threshold)


def _evaluate(logits: NDArray[np.floating[Any]], decoded: CropPixels, threshold: float) -> Evaluation:
    sources = np.array([crop.source for crop in decoded.crops])
    by_source = {
        str(name): score_logits(logits[sources == name], decoded.labels[sources == name], threshold)
        for name in np.unique(sources)
    }
    return Evaluation(threshold, score_logits(logits, decoded.labels, threshold), by_source, decoded.skipped)
