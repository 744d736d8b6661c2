"""How good a classifier is when only the most open gates are left: from few of them to all."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.files import write_text
from pgc_graph.studies.learning.pool import Pool, rows_of
from pgc_graph.studies.learning.problem import Problem, run_logits
from pgc_graph.studies.learning.result import CurvePoint, LearningResult

__all__ = ["all_logits", "evaluate", "probabilities", "save_curve", "trade_off"]

Floats = NDArray[np.float64]

_CHUNK = 512


def all_logits(problem: Problem, pool: Pool, gates: Floats | None = None) -> Floats:
    """Return the logits of all images, `(N, columns)`, with gates `(G,)` or their defaults."""
    values = None if gates is None else np.split(gates, np.cumsum(problem.sizes)[:-1])
    count = len(pool.positions)
    chunks = [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    return np.concatenate([run_logits(problem, rows_of(pool, chunk), values) for chunk in chunks])


def probabilities(logits: Floats) -> Floats:
    """Turn logits `(N, columns)` into probabilities: of class 1 where there is one column."""
    if logits.shape[1] == 1:
        found: Floats = np.exp(-np.logaddexp(0, -logits))
        return found
    powers: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def evaluate(logits: Floats, reference: Floats, wanted: Floats, truth: NDArray[np.int64], kept: int) -> CurvePoint:
    """Return how good logits are.

    Args:
        logits: `(N, columns)`.
        reference: The same without gates.
        wanted: `(N, columns)` probabilities.
        truth: `(N,)`, -1 where unknown.
        kept: How many gates are open.
    """
    answers, usual = _classes(logits), _classes(reference)
    if logits.shape[1] == 1:
        loss = np.logaddexp(0, logits) - wanted * logits
    else:
        top = logits.max(axis=1, keepdims=True)
        loss = -wanted * (logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))
    known = truth >= 0
    accuracy = float(np.mean(answers[known] == truth[known])) if known.any() else None
    mean_loss = float(loss.sum(axis=1).mean())
    return CurvePoint(kept, float(np.mean(answers == usual)), mean_loss, accuracy, _f1(answers[known], truth[known]))


def trade_off(
    problem: Problem,
    pool: Pool,
    gates: Floats,
    order: NDArray[np.int64],
    reference: Floats,
    wanted: Floats,
    points: int,
) -> tuple[CurvePoint, ...]:
    """Open the first so many gates of an order, each to its learned value, and see how good the classifier is.

    Args:
        problem: The gated model.
        pool: The images.
        gates: `(G,)` learned values.
        order: `(G,)`, the most open gate first.
        reference: `(N, columns)` logits without gates.
        wanted: `(N, columns)` probabilities.
        points: At most so many points, spread evenly.
    """
    counts = np.unique(np.linspace(0, len(gates), min(points, len(gates) + 1)).round().astype(np.int64))
    found = []
    for count in counts.tolist():
        left = np.zeros_like(gates)
        left[order[:count]] = gates[order[:count]]
        found.append(evaluate(all_logits(problem, pool, left), reference, wanted, pool.truth, count))
    return tuple(found)


def save_curve(result: LearningResult, path: Path) -> None:
    """Write the curve as CSV: kept, share of all gates, agreement, loss, accuracy and F1 (empty without labels).

    Raises:
        OptionError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kept", "share", "agreement", "loss", "accuracy", "f1"])
    for point in result.curve:
        rest = ["" if value is None else value for value in (point.accuracy, point.f1)]
        writer.writerow([point.kept, point.kept / result.total, point.agreement, point.loss, *rest])
    write_text(path, text.getvalue())


def _classes(logits: Floats) -> NDArray[np.int64]:
    chosen = logits[:, 0] >= 0 if logits.shape[1] == 1 else np.argmax(logits, axis=1)
    return chosen.astype(np.int64)


def _f1(answers: NDArray[np.int64], truth: NDArray[np.int64]) -> float | None:
    classes = np.unique(truth) if truth.max(initial=0) > 1 else np.array([1])
    if not np.isin(truth, classes).any():
        return None
    parts = [2 * np.sum((answers == c) & (truth == c)) / (np.sum(answers == c) + np.sum(truth == c)) for c in classes]
    return float(np.mean(parts))
