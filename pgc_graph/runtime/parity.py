"""Are two models the same function? Answered by running both on the same random inputs, unoptimised.

onnxruntime's own graph rewriting is off, so that it cannot apply to the reference what is being checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import real_inputs
from pgc_graph.errors import ParityError, UnsupportedError
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session

__all__ = ["OutputDifference", "ParityReport", "assert_parity", "compare", "random_feeds"]

DEFAULT_TOLERANCE = 1e-5
_BATCH_SIZES = (1, 3, 4)
_UNKNOWN_SPATIAL = 32
Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class OutputDifference:
    """How far one output differs over all runs.

    Attributes:
        name: The output's name.
        max_difference: The largest |Δ|.
        max_magnitude: The largest |value| of the reference.
        passed: Whether max_difference <= tolerance * max(1, max_magnitude), with the same shapes and dtypes.
        note: What else is wrong (shapes, dtypes, non-finite values), or empty.
    """

    name: str
    max_difference: float
    max_magnitude: float
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class ParityReport:
    """The verdict of a comparison.

    Attributes:
        outputs: One entry an output.
        runs: How many random inputs were tried.
        tolerance: The largest |Δ| allowed, relative to the output's magnitude where that exceeds 1.
    """

    outputs: tuple[OutputDifference, ...]
    runs: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every output agrees."""
        return all(output.passed for output in self.outputs)

    @property
    def max_difference(self) -> float:
        """The largest |Δ| over all outputs."""
        return max((output.max_difference for output in self.outputs), default=0.0)


def compare(
    reference: ir.Model | bytes,
    candidate: ir.Model | bytes,
    *,
    feeds: list[Feeds],
    tolerance: float = DEFAULT_TOLERANCE,
) -> ParityReport:
    """Run two models on the same inputs and measure how far their outputs differ.

    Args:
        reference: The model that is right by definition.
        candidate: The model to judge; its outputs are matched by position.
        feeds: Inputs, from `random_feeds` or elsewhere.
        tolerance: Largest |Δ| allowed for outputs of magnitude up to 1, in proportion above.

    Raises:
        ModelError: onnxruntime refuses or cannot run one of the models.
        ParityError: The models have different numbers of outputs.
    """
    options = RuntimeOptions(provider="cpu", optimise=False)
    first, second = open_session(reference, options), open_session(candidate, options)
    if len(first.output_names) != len(second.output_names):
        raise ParityError(f"{len(second.output_names)} outputs instead of {len(first.output_names)}")
    pairs = [(first.run(feed), second.run(_known(feed, second))) for feed in feeds]
    outputs = tuple(
        _difference(name, [(a[index], b[index]) for a, b in pairs], tolerance)
        for index, name in enumerate(first.output_names)
    )
    return ParityReport(outputs, len(feeds), tolerance)


def assert_parity(
    reference: ir.Model,
    candidate: ir.Model,
    *,
    runs: int = 4,
    seed: int = 0,
    tolerance: float = DEFAULT_TOLERANCE,
) -> ParityReport:
    """Compare two models on random inputs and return the report if they agree.

    Raises:
        ParityError: They do not; the message names the worst output.
    """
    feeds = list(random_feeds(reference, runs=runs, seed=seed))
    report = compare(reference, candidate, feeds=feeds, tolerance=tolerance)
    if not report.passed:
        worst = max((o for o in report.outputs if not o.passed), key=lambda o: o.max_difference)
        detail = worst.note or f"max |Δ| = {worst.max_difference:.3g}, allowed {tolerance:g}"
        raise ParityError(f"parity failed on output {worst.name!r}: {detail}")
    return report


def random_feeds(
    model: ir.Model, *, runs: int = 4, seed: int = 0, fixed: Mapping[str, tuple[int, ...]] | None = None
) -> Iterator[Feeds]:
    """Draw random inputs for a model: floats uniform in [0, 1), small non-negative integers, mixed booleans.

    A symbolic first dimension takes different sizes from run to run; other unknown dimensions take the size that the
    metadata `pgc.image_size` states, else 32 (3 for channels).

    Args:
        model: The model to feed; inputs with a default value are left out.
        runs: How many.
        seed: Of the generator.
        fixed: Shapes for some inputs by name.

    Raises:
        UnsupportedError: An input is not a tensor, or of a type that cannot be drawn.
    """
    generator = np.random.default_rng(seed)
    for run in range(runs):
        batch = _BATCH_SIZES[run % len(_BATCH_SIZES)]
        yield {
            str(value.name): _draw(value, (fixed or {}).get(str(value.name)) or _shape(value, batch, model), generator)
            for value in real_inputs(model)
        }


def _shape(value: ir.Value, batch: int, model: ir.Model) -> tuple[int, ...]:
    if value.shape is None:
        raise UnsupportedError(f"input {value.name!r} has no shape; give one with --input-shape {value.name}=1,3,32,32")
    height, _, width = model.metadata_props.get("pgc.image_size", "").partition("x")
    spatial = (int(height), int(width)) if height.isdigit() and width.isdigit() else (_UNKNOWN_SPATIAL,) * 2
    guesses = {0: batch, 1: 3, 2: spatial[0], 3: spatial[1]} if len(value.shape) == 4 else {0: batch}
    return tuple(
        dim if isinstance(dim, int) else guesses.get(axis, _UNKNOWN_SPATIAL) for axis, dim in enumerate(value.shape)
    )


def _draw(value: ir.Value, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
    dtype = value.dtype
    if dtype is None or not isinstance(value.type, ir.TensorType) or dtype == ir.DataType.STRING:
        raise UnsupportedError(f"input {value.name!r} is not a tensor of numbers; random inputs cannot be drawn for it")
    if dtype == ir.DataType.BOOL:
        return generator.random(shape) < 0.5
    if dtype.is_integer():
        return generator.integers(0, 8, shape).astype(dtype.numpy())
    return generator.random(shape, dtype=np.float64).astype(dtype.numpy())


def _known(feed: Feeds, session: Session) -> Feeds:
    missing = [name for name in session.input_names if name not in feed]
    if len(missing) == len(session.input_names) == len(feed):
        # Renamed inputs are still the same function; positions decide.
        return dict(zip(session.input_names, feed.values(), strict=True))
    return {name: array for name, array in feed.items() if name in session.input_names}


def _difference(name: str, pairs: list[tuple[NDArray[Any], NDArray[Any]]], tolerance: float) -> OutputDifference:
    worst = magnitude = 0.0
    for reference, candidate in pairs:
        if reference.shape != candidate.shape or reference.dtype != candidate.dtype:
            note = f"{candidate.dtype}{list(candidate.shape)} instead of {reference.dtype}{list(reference.shape)}"
            return OutputDifference(name, float("inf"), magnitude, False, note)
        if not np.issubdtype(reference.dtype, np.number):
            worst = max(worst, float(np.any(reference != candidate)))
            continue
        left, right = reference.astype(np.float64), candidate.astype(np.float64)
        if not np.array_equal(np.isfinite(left), np.isfinite(right)):
            return OutputDifference(name, float("inf"), magnitude, False, "non-finite values where there were none")
        finite = np.isfinite(left)
        worst = max(worst, float(np.max(np.abs(left - right)[finite], initial=0.0)))
        magnitude = max(magnitude, float(np.max(np.abs(left)[finite], initial=0.0)))
    return OutputDifference(name, worst, magnitude, worst <= tolerance * max(1.0, magnitude))
