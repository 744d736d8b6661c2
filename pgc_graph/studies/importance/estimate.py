"""Estimate from gradients what the score would lose without each of some tensors, and without each of their channels.

With g a gate that multiplies a tensor t and s(g) the score, Δ = s(1) - s(0) is what an ablation measures.

1. First order: Δ ≈ s'(1) = Σ t · ∂s/∂t over the elements of t (Molchanov et al. 2019, "Importance Estimation for Neural
   Network Pruning", Taylor FO). One forward and one backward pass a batch give it for all tensors and channels.
2. Integrated: Δ = ∫ s'(g) dg over [0, 1], here by the Gauss-Legendre rule with K points, exact for polynomials up to
   degree 2K - 1. It needs K passes for every tensor and image. A channel's part is ∫ ∂s/∂g_c along the way on which all
   channels of its tensor fade together (integrated gradients, Sundararajan et al. 2017): parts add up to Δ of the tensor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import image_input, own_preprocess
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation.again import Images, ReadAgain
from pgc_graph.studies.ablation.classes import TargetClass
from pgc_graph.studies.ablation.stats import RunningStats
from pgc_graph.studies.importance.result import ChannelImportance, ImportanceResult, TensorImportance
from pgc_graph.studies.importance.row_gates import RowGates, class_weights, open_row_gates, run_gradients

__all__ = ["CALL_ROWS", "RANKINGS", "estimate_importance", "first_order", "integrated"]

RANKINGS = ("delta", "absolute")
CALL_ROWS = 32
"""Rows that go through the gradient graph together."""

Floats = NDArray[np.float64]


def estimate_importance(
    model: ir.Model,
    images: Images,
    targets: Sequence[Target],
    *,
    steps: int = 0,
    score: str = "auto",
    target: TargetClass | None = None,
    rank_by: str = "delta",
    preprocess: Preprocess | None = None,
    runtime: RuntimeOptions | None = None,
    on_batch: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> ImportanceResult:
    """Estimate for each of some tensors, and each of their channels, what the score loses without it.

    Args:
        model: A classifier with one image input; stays untouched.
        images: Image files, or any source of images; those that cannot be read are skipped and counted.
        targets: The tensors.
        steps: Points of the integral over each gate; 0 for the first-order estimate.
        score: What is differentiated: `logit`, `prob`, or `auto` for the logit where there is one.
        target: The class that is scored; by default the one that each image is found to show.
        rank_by: `delta` (the mean of the estimates) or `absolute` (the mean of their absolute values).
        preprocess: How images become input; by default as the model's metadata say.
        runtime: Where to run.
        on_batch: Called with the number of images done.
        stop: Asked before each batch; the result covers what is done once it says True.

    Raises:
        OptionError: Steps, score or ranking make no sense.
        UnsupportedError: The model is no image classifier, no tensor can be gated, or an operator has no gradient.
        ImageError: None of the images can be read.
        ModelError: onnxruntime cannot run the model.
    """
    if steps < 0:
        raise OptionError(f"{steps} steps make no sense; expected 0 or more")
    if rank_by not in RANKINGS:
        raise OptionError(f"cannot rank by {rank_by!r}; expected {' or '.join(RANKINGS)}")
    begun = time.perf_counter()
    taken = image_input(model)
    chosen = preprocess or own_preprocess(model)
    opened = open_row_gates(model, targets, score, runtime)
    found = _Found(opened)
    interrupted = False
    for batch in ReadAgain(images, chosen, taken.fixed_batch or CALL_ROWS):
        if stop is not None and found.done and stop():
            interrupted = True
            break
        found.skipped += len(batch.skipped)
        if not len(batch.tensor):
            continue
        weights = class_weights(opened, batch.tensor, target or TargetClass())
        found.add(
            integrated(opened, batch.tensor, weights, steps) if steps else first_order(opened, batch.tensor, weights)
        )
        if on_batch is not None:
            on_batch(found.done)
    rows, seconds = found.done * (steps * len(opened.gates) or 1), time.perf_counter() - begun
    ranked = _ranked_tensors(opened, found.tensors, rank_by), _ranked_channels(opened, found.channels, rank_by)
    return ImportanceResult(
        opened.score, steps, rank_by, *ranked, found.done, found.skipped, opened.skipped, interrupted, rows, seconds
    )


class _Found:
    """Statistics that grow with the images: of tensors and of channels, first with their sign, then without."""

    def __init__(self, opened: RowGates) -> None:
        counts = [int(np.prod(gate.shape, dtype=np.int64)) for gate in opened.gates]
        self.tensors, self.channels = (RunningStats(2 * size, sample=0) for size in (len(counts), sum(counts)))
        self.done = self.skipped = 0

    def add(self, parts: Sequence[Floats]) -> None:
        """Take in the estimates of N images, `(N, channels)` a tensor."""
        totals = np.stack([part.sum(axis=1) for part in parts])  # (tensors, N)
        each = np.concatenate(parts, axis=1).T  # (channels of all tensors, N)
        self.tensors.update(np.concatenate([totals, np.abs(totals)]))
        self.channels.update(np.concatenate([each, np.abs(each)]))
        self.done += len(parts[0])


def first_order(opened: RowGates, images: NDArray[np.float32], weights: Floats) -> list[Floats]:
    """Return gradient x activation, summed over the elements of each channel: `(N, channels)` a tensor.

    Args:
        opened: From `open_row_gates`.
        images: `(N, ...)`.
        weights: `(N, columns)`, from `class_weights`.
    """
    return run_gradients(opened, images, weights)


def integrated(opened: RowGates, images: NDArray[np.float32], weights: Floats, steps: int) -> list[Floats]:
    """Return the integral of the gradient over each gate from 0 to 1, by channel: `(N, channels)` a tensor.

    Args:
        opened: From `open_row_gates`.
        images: `(N, ...)`.
        weights: `(N, columns)`, from `class_weights`.
        steps: Points of the Gauss-Legendre rule.
    """
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    points, shares = (nodes + 1) / 2, shares / 2  # from [-1, 1] to [0, 1]
    count = len(images)
    repeated: NDArray[np.float32] = np.tile(images, (steps, *(1,) * (images.ndim - 1)))
    weighted: Floats = np.tile(weights, (steps, 1))
    alphas = np.repeat(points, count)
    found = []
    for index, gate in enumerate(opened.gates):
        total = np.zeros((count, int(np.prod(gate.shape, dtype=np.int64))))
        for start in range(0, steps * count, CALL_ROWS):
            rows = slice(start, start + CALL_ROWS)
            values = np.broadcast_to(
                alphas[rows].reshape(-1, *(1,) * len(gate.shape)), (len(alphas[rows]), *gate.shape)
            )
            part = run_gradients(opened, repeated[rows], weighted[rows], {index: values})[index]
            for row, gradient in zip(range(start, start + len(part)), part, strict=True):
                total[row % count] += shares[row // count] * gradient
        found.append(total)
    return found


def _ranked_tensors(opened: RowGates, stats: RunningStats, rank_by: str) -> tuple[TensorImportance, ...]:
    summaries, count = stats.summaries(), len(opened.gates)
    keys = [summaries[i + (count if rank_by == "absolute" else 0)].mean for i in range(count)]
    order = sorted(range(count), key=lambda index: (-keys[index], index))
    return tuple(
        TensorImportance(
            rank,
            opened.gates[index].position,
            opened.gates[index].target,
            summaries[index],
            summaries[count + index],
            int(np.prod(opened.gates[index].shape, dtype=np.int64)) if opened.gates[index].has_channels else None,
        )
        for rank, index in enumerate(order, 1)
    )


def _ranked_channels(opened: RowGates, stats: RunningStats, rank_by: str) -> tuple[ChannelImportance, ...]:
    means = stats.means()
    names = [
        (gate.target.tensor, channel, gate.has_channels)
        for gate in opened.gates
        for channel in range(int(np.prod(gate.shape, dtype=np.int64)))
    ]
    signed, absolute = means[: len(names)], means[len(names) :]
    keys = absolute if rank_by == "absolute" else signed
    order = [int(index) for index in np.argsort(-keys, kind="stable") if names[index][2]]
    return tuple(
        ChannelImportance(rank, *names[index][:2], float(signed[index]), float(absolute[index]))
        for rank, index in enumerate(order, 1)
    )
