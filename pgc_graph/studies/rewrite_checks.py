"""Checks of rewrites whose result does not take or give what the original does: parts, and other batch sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import feed_shapes
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.batch import batch_inputs
from pgc_graph.passes.taps import add_taps
from pgc_graph.runtime.difference import ArrayDifference, array_difference, worse_of
from pgc_graph.runtime.parity import OutputDifference, ParityReport, allowed_tolerance, random_feeds
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session

__all__ = ["check_batch", "check_part"]

_PLAIN = RuntimeOptions(provider="cpu", optimise=False)
_OTHER_SIZES = (1, 3)
_UNKNOWN_DIMENSION = 32
Feeds = dict[str, NDArray[Any]]


def check_part(
    whole: ir.Model,
    part: ir.Model,
    *,
    runs: int = 4,
    seed: int = 0,
    tolerance: float = 1e-5,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> ParityReport:
    """Record tensors while a model runs on random inputs, feed them to a part of it, and compare what comes out.

    Args:
        whole: The model that the part was cut out of.
        part: Its inputs and outputs are tensors of the whole.
        runs: Random inputs.
        seed: Of the random inputs.
        tolerance: Largest |Δ| allowed, in proportion where an output exceeds 1.
        shapes: Shapes of the whole's inputs by name, where it leaves them open.

    Raises:
        ModelError: onnxruntime refuses or cannot run one of the two.
        UnsupportedError: An output is not a tensor, or random inputs cannot be drawn.
    """
    second = open_session(part, _PLAIN)
    names = [*second.input_names, *second.output_names]
    tapped = add_taps(whole, names, require_types=False).model
    first = open_session(tapped, _PLAIN)
    found = {name: ArrayDifference() for name in second.output_names}
    for feed in random_feeds(whole, runs=runs, seed=seed, fixed=dict(shapes or {})):
        recorded = dict(zip(names, first.run(feed, names), strict=True))
        results = second.run({name: recorded[name] for name in second.input_names})
        for name, array in zip(second.output_names, results, strict=True):
            found[name] = worse_of(found[name], array_difference(recorded[name], array, name=name))
    return _report(found, allowed_tolerance(whole, tolerance), tolerance, runs)


def check_batch(
    before: ir.Model,
    after: ir.Model,
    *,
    runs: int = 4,
    seed: int = 0,
    tolerance: float = 1e-5,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> ParityReport:
    """Run a model at its batch size and a copy at another one on the same rows, and compare row by row.

    A copy of symbolic batch size runs at the old size, at 1, at 3 and at all rows at once.

    Args:
        before: The original.
        after: The copy.
        runs: Random inputs of the original's batch size (more where the copy needs more rows at once).
        seed: Of the random inputs.
        tolerance: Largest |Δ| allowed, in proportion where an output exceeds 1.
        shapes: Shapes of the original's inputs by name, where it leaves them open.

    Raises:
        ModelError: onnxruntime refuses or cannot run one of the two.
        UnsupportedError: An output has no first dimension that goes with the batch, so rows cannot be compared.
    """
    inputs = {str(value.name) for value in batch_inputs(before)}
    old, new = _size(before), _size(after)
    rows = math.lcm(old or 1, new or 1)
    rows *= -(-max(runs, 2) * (old or 1) // rows)
    feed = _rows(before, inputs, rows // (old or 1), seed, shapes or {})
    first, second = open_session(before, _PLAIN), open_session(after, _PLAIN)
    expected = _in_chunks(first, feed, inputs, old or 1)
    sizes = [new] if new else list(dict.fromkeys((*([old] if old else []), *_OTHER_SIZES, rows)))
    found = {name: ArrayDifference() for name in first.output_names}
    for size in sizes:
        for name, left, right in zip(found, expected, _in_chunks(second, feed, inputs, size), strict=True):
            found[name] = worse_of(found[name], array_difference(left, right, name=name))
    return _report(found, allowed_tolerance(before, tolerance), tolerance, rows)


def _size(model: ir.Model) -> int | None:
    shape = batch_inputs(model)[0].shape
    first = None if shape is None else shape[0]
    return first if isinstance(first, int) else None


def _rows(model: ir.Model, inputs: set[str], count: int, seed: int, shapes: Mapping[str, tuple[int, ...]]) -> Feeds:
    """Draw inputs and stack those of several runs; an input without a batch is the same for all."""
    known = feed_shapes(model, shapes, batch=1)
    fixed = {name: tuple(dim or _UNKNOWN_DIMENSION for dim in dims) for name, dims in known.items() if dims is not None}
    feeds = list(random_feeds(model, runs=count, seed=seed, fixed=fixed))
    return {
        name: np.concatenate([feed[name] for feed in feeds]) if name in inputs else feeds[0][name] for name in feeds[0]
    }


def _in_chunks(session: Session, feed: Feeds, inputs: set[str], size: int) -> list[NDArray[Any]]:
    rows = min(len(feed[name]) for name in inputs)
    results: list[Sequence[NDArray[Any]]] = []
    for start in range(0, rows, size):
        end = min(start + size, rows)
        chunk = {name: array[start:end] if name in inputs else array for name, array in feed.items()}
        arrays = session.run(chunk)
        for name, array in zip(session.output_names, arrays, strict=True):
            if not isinstance(array, np.ndarray) or array.ndim == 0 or len(array) % (end - start):
                raise UnsupportedError(
                    f"output {name!r} has no first dimension that goes with the batch, so rows cannot be compared; "
                    "say --no-verify to do without the check"
                )
        results.append(arrays)
    return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]


def _report(found: dict[str, ArrayDifference], allowed: float, tolerance: float, runs: int) -> ParityReport:
    judge = functools.partial(_judged, allowed=allowed)
    return ParityReport(tuple(judge(name, difference) for name, difference in found.items()), runs, tolerance)


def _judged(name: str, found: ArrayDifference, *, allowed: float) -> OutputDifference:
    passed = not found.note and found.max_difference <= allowed * max(1.0, found.max_magnitude)
    return OutputDifference(name, found.max_difference, found.max_magnitude, passed, allowed, found.note)
