"""Check a plan against the plain loop on two images, the plain loop running while the plan is being written."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.studies.ablation.scores import Runner, Scores, Wanted, largest_difference
from pgc_graph.studies.ablation.tolerance import allowed_difference, usual_difference

__all__ = ["PlainWay", "SelfCheck", "compare", "start_check"]

_CHECKED_GATES = 64

Images = NDArray[np.float32]
PlainWay = Callable[[Sequence[int], bool], Runner]
"""Opens the plain way for some of the gates; the second argument says whether onnxruntime may rewrite the model."""


@dataclass(frozen=True, eq=False)
class SelfCheck:
    """What a plan has to give on two images.

    Attributes:
        images: `(N, ...)`, the batch that the plan is to run.
        wanted: What is wanted of it.
        parts: What was run the plain way: an image, some gates, and the scores.
        open_plain: To run it again.
    """

    images: Images
    wanted: Wanted
    parts: tuple[tuple[int, list[int], Scores], ...]
    open_plain: PlainWay


def start_check(open_plain: PlainWay, gates: int, sample: Images, wanted: Wanted) -> SelfCheck:
    """Run the plain way under at most 64 of the gates: one half on the first image of a batch, the other on the last.

    Args:
        open_plain: Opens the plain way.
        gates: How many there are.
        sample: `(N, ...)`, at least one image.
        wanted: What is wanted of them.

    Raises:
        ModelError: onnxruntime cannot run the model.
    """
    # Rows that depend on each other show only in company: a single image is joined by its negative.
    images, asked = sample, wanted
    if len(sample) == 1:
        images, asked = np.concatenate([sample, sample.max() - sample]), wanted.rows([0, 0])
    checked = np.unique(np.linspace(0, gates - 1, min(gates, _CHECKED_GATES)).round().astype(int)).tolist()
    halves = [(0, checked)]
    if len(sample) > 1:
        halves = [(0, checked[::2]), (len(sample) - 1, checked[1::2] or checked)]
    parts = [(row, half, _plain(open_plain(half, True), images, asked, row)) for row, half in halves]
    return SelfCheck(images, asked, tuple(parts), open_plain)


def compare(check: SelfCheck, run: Runner, dtype: ir.DataType) -> tuple[float, float]:
    """Return how far a plan is from the plain way, and how far it may be.

    Args:
        check: From `start_check`.
        run: The plan.
        dtype: The type that the model computes in.

    Raises:
        ModelError: onnxruntime cannot run the model.
    """
    scores = run(check.images, check.wanted)
    asked = dataclasses.replace(check.wanted, classes=scores.classes)
    allowed = usual_difference(dtype)
    differences = []
    for row, gates, found in check.parts:
        planned, plain = scores.rows([row]).gates(gates), found
        if not np.array_equal(plain.classes, planned.classes):
            # Where two classes are equal but for rounding, both ways have to score the same one.
            plain = _plain(check.open_plain(gates, True), check.images, asked, row)
        differences.append(largest_difference(planned, plain))
        if differences[-1] > allowed:
            rounding = functools.partial(_rounding, check, asked, row, gates, plain)
            allowed = max(allowed, allowed_difference(dtype, differences[-1], rounding))
    return max(differences), allowed


def _rounding(check: SelfCheck, asked: Wanted, row: int, gates: Sequence[int], plain: Scores) -> float:
    """Return how far the plain way is from itself where onnxruntime computes in another order."""
    return largest_difference(_plain(check.open_plain(gates, False), check.images, asked, row), plain)


def _plain(run: Runner, images: Images, wanted: Wanted, row: int) -> Scores:
    return run(images[row : row + 1], wanted.rows([row]))
