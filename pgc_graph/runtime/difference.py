"""How far two arrays are apart, and what no tolerance excuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import UnsupportedError
from pgc_graph.runtime.session import Session

__all__ = ["ArrayDifference", "array_difference", "feeds_for", "worse_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ArrayDifference:
    """How far an array is from its reference.

    Attributes:
        max_difference: The largest |Δ| of floats; infinite where `note` says what else is wrong.
        max_magnitude: The largest finite |value| of the reference.
        note: Shapes, dtypes, non-finite values or integers that differ, or empty.
    """

    max_difference: float = 0.0
    max_magnitude: float = 0.0
    note: str = ""


def array_difference(reference: Any, candidate: Any, *, name: str) -> ArrayDifference:
    """Measure how far an array is from its reference.

    Args:
        reference: What is right by definition, of any shape.
        candidate: What is judged.
        name: The output's name, for the error.

    Raises:
        UnsupportedError: One of the two is not an array (a sequence, a map).
    """
    if not isinstance(reference, np.ndarray) or not isinstance(candidate, np.ndarray):
        raise UnsupportedError(f"output {name!r} is not a tensor; only tensors can be compared")
    note = _mismatch(reference, candidate)
    if not _is_float(reference.dtype):
        return ArrayDifference(float("inf") if note else 0.0, 0.0, note)
    left = reference.astype(np.float64)
    finite = np.isfinite(left)
    magnitude = float(np.max(np.abs(left[finite]), initial=0.0))
    if note:
        return ArrayDifference(float("inf"), magnitude, note)
    right = candidate.astype(np.float64)
    return ArrayDifference(float(np.max(np.abs(left[finite] - right[finite]), initial=0.0)), magnitude)


def worse_of(first: ArrayDifference, second: ArrayDifference) -> ArrayDifference:
    """Join what was found on two runs: the larger of each number, the earlier note."""
    return ArrayDifference(
        max(first.max_difference, second.max_difference),
        max(first.max_magnitude, second.max_magnitude),
        first.note or second.note,
    )


def feeds_for(session: Session, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Choose what a session is fed of inputs that were made for another model of the same function.

    Inputs go by name; those that bear another name, in as many inputs, go by position.
    """
    missing = [name for name in session.input_names if name not in feeds]
    if missing and len(session.input_names) == len(feeds):
        spare = iter([name for name in feeds if name not in session.input_names])
        return {name: feeds[name if name in feeds else next(spare)] for name in session.input_names}
    return {name: array for name, array in feeds.items() if name in session.input_names}


def _mismatch(reference: Array, candidate: Array) -> str:
    if reference.shape != candidate.shape or reference.dtype != candidate.dtype:
        return f"{candidate.dtype}{list(candidate.shape)} instead of {reference.dtype}{list(reference.shape)}"
    if not _is_float(reference.dtype):
        return "" if np.array_equal(reference, candidate) else f"{reference.dtype} values differ"
    left, right = reference.astype(np.float64), candidate.astype(np.float64)
    strange = ~(np.isfinite(left) & np.isfinite(right))
    return "" if np.array_equal(left[strange], right[strange], equal_nan=True) else "non-finite values differ"


def _is_float(dtype: np.dtype[Any]) -> bool:
    # bfloat16 and the like are numpy extensions, whose kind is V.
    return dtype.kind in "fV"
