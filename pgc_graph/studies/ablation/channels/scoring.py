"""Score batches of images for every channel of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput
from pgc_graph.runtime.session import Session
from pgc_graph.studies.ablation.channels.engine import TensorEngine
from pgc_graph.studies.ablation.channels.reading import read_rows, stack_changes
from pgc_graph.studies.ablation.scores import Runner, Scores, Wanted, join_scores

__all__ = ["KEPT_BYTES", "channel_scorer", "run_unchanged"]

Images = NDArray[np.float32]

KEPT_BYTES = 256 << 20
"""Weights in sessions up to which all sessions stay open; beyond, they are opened tensor by tensor, for each batch."""


def channel_scorer(
    engines: Sequence[TensorEngine], baseline: Session, source: ImageInput, tick: Callable[[int], None]
) -> Runner:
    """Return what scores a batch for every channel of every tensor, tensor by tensor.

    Args:
        engines: One a tensor.
        baseline: A session on the model that returns the outputs wanted.
        source: The model's image input.
        tick: Called with the number of runs before each call of onnxruntime; may raise.
    """
    keep = sum(engine.weight_bytes for engine in engines) <= KEPT_BYTES

    def run(images: Images, wanted: Wanted) -> Scores:
        asked = [wanted.rows([index]) for index in range(len(images))]
        unchanged = [run_unchanged(baseline, source, images[index : index + 1]) for index in range(len(images))]
        found: list[list[Scores]] = [[] for _ in asked]
        for engine in engines:
            runner, channels = engine.open(keep=keep), np.arange(engine.axis.count, dtype=np.int64)
            for index, rows in enumerate(found):
                outputs = runner(images[index : index + 1], asked[index], channels, tick)
                rows.append(read_rows(unchanged[index], outputs, len(channels), asked[index]))
        return join_scores([stack_changes(rows) for rows in found])

    return run


def run_unchanged(session: Session, source: ImageInput, image: Images) -> list[NDArray[Any]]:
    """Return the outputs of one image `(1, ...)`, one row each."""
    rows = np.repeat(image, source.fixed_batch or 1, axis=0).astype(source.dtype.numpy())
    return [np.atleast_1d(array)[:1] for array in session.run({source.name: rows})]
