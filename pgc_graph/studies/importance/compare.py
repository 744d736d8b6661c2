"""Put estimates beside what switching off really does: tensors by the exhaustive ablation, channels by a sample."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import image_input, own_preprocess
from pgc_graph.analysis.targets import Target
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import Measure, ablate
from pgc_graph.studies.ablation.again import Images, ReadAgain
from pgc_graph.studies.ablation.classes import TargetClass
from pgc_graph.studies.importance.estimate import CALL_ROWS, first_order
from pgc_graph.studies.importance.result import Comparison, ImportanceResult
from pgc_graph.studies.importance.row_gates import RowGates, class_weights, open_row_gates, run_values
from pgc_graph.studies.importance.spearman import spearman

__all__ = ["CHANNEL_IMAGES", "channel_deltas", "compare_with_ablation"]

CHANNEL_IMAGES = 16
"""Images on which channels are switched off one by one."""

Floats = NDArray[np.float64]


def compare_with_ablation(
    result: ImportanceResult,
    model: ir.Model,
    images: Images,
    targets: Sequence[Target],
    *,
    channels: int = 200,
    seed: int = 0,
    target: str = "argmax",
    scored: TargetClass | None = None,
    preprocess: Preprocess | None = None,
    runtime: RuntimeOptions | None = None,
) -> ImportanceResult:
    """Run the exhaustive ablation on the same images and correlate its ranking with that of the estimates.

    Args:
        result: From `estimate_importance` on the same model, images and targets.
        model: As there.
        images: As there.
        targets: As there.
        channels: How many channels, drawn at random, to switch off one by one on the first images; 0 for none. These are
            compared with first-order estimates on the same images.
        seed: Of the draw.
        target: The class that the ablation scores, as text.
        scored: The same class, as it was given to `estimate_importance`.
        preprocess: As there.
        runtime: As there.

    Returns:
        The result with its comparison.

    Raises:
        PgcGraphError: As for `ablate` and `estimate_importance`.
    """
    begun = time.perf_counter()
    found = ablate(model, images, targets, preprocess=preprocess, runtime=runtime, measure=Measure(target=target))
    seconds = time.perf_counter() - begun
    deltas = {
        impact.target.tensor: (
            impact.logit_delta if result.score == "logit" and impact.logit_delta else impact.delta
        ).mean
        for impact in found.gates
    }
    known = [tensor for tensor in result.tensors if tensor.target.tensor in deltas]
    by_tensor = spearman([tensor.estimate.mean for tensor in known], [deltas[tensor.target.tensor] for tensor in known])
    by_channel, count, used = None, 0, 0
    if channels:
        opened = open_row_gates(model, targets, result.score, runtime)
        shown = _first_images(model, images, preprocess)
        estimated, true = channel_deltas(opened, shown, scored or TargetClass(), channels, seed)
        by_channel, count, used = spearman(estimated, true), len(true), len(shown)
    ordered = tuple(deltas.get(tensor.target.tensor, float("nan")) for tensor in result.tensors)
    comparison = Comparison(by_tensor, by_channel, count, used, ordered, result.seconds, seconds)
    return dataclasses.replace(result, comparison=comparison)


def channel_deltas(
    opened: RowGates, images: NDArray[np.float32], target: TargetClass, channels: int, seed: int
) -> tuple[Floats, Floats]:
    """Return for a sample of channels the first-order estimate of mean Δ, and the true one, `(sample,)` each.

    Args:
        opened: From `open_row_gates`.
        images: `(N, ...)`.
        target: The class that is scored.
        channels: How many channels to draw; all where there are fewer.
        seed: Of the draw.
    """
    weights = class_weights(opened, images, target)
    estimates = first_order(opened, images, weights)
    every = [(i, c) for i, gate in enumerate(opened.gates) if gate.has_channels for c in range(estimates[i].shape[1])]
    order = np.random.default_rng(seed).permutation(len(every))[:channels]
    sample = [every[index] for index in sorted(order.tolist())]
    baseline = (run_values(opened, images) * weights).sum(axis=1)
    true = []
    for index, channel in sample:
        gate = opened.gates[index]
        row = np.ones(int(np.prod(gate.shape, dtype=np.int64)))
        row[channel] = 0.0
        values = np.broadcast_to(row.reshape(gate.shape), (len(images), *gate.shape))
        without = (run_values(opened, images, {index: values}) * weights).sum(axis=1)
        true.append(float(np.mean(baseline - without)))
    return np.array([estimates[i][:, c].mean() for i, c in sample]), np.array(true)


def _first_images(model: ir.Model, images: Images, preprocess: Preprocess | None) -> NDArray[np.float32]:
    taken = image_input(model)
    chosen = preprocess or own_preprocess(model)
    parts: list[NDArray[np.float32]] = []
    for batch in ReadAgain(images, chosen, taken.fixed_batch or CALL_ROWS):
        parts.append(batch.tensor)
        if sum(map(len, parts)) >= CHANNEL_IMAGES:
            break
    return np.concatenate(parts)[:CHANNEL_IMAGES]
