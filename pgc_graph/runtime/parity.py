"""Are two models the same function? Answered by running both on the same random inputs, unoptimised.

onnxruntime's own graph rewriting is off, so that it cannot apply to the reference what is being checked.

Integers, booleans and text must be equal. Floats may differ by the tolerance; where a model computes in float16 or
bfloat16, which cannot hold more, by a few units in the last place of that type.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.interface import feed_shapes, real_inputs
from pgc_graph.analysis.names import all_nodes
from pgc_graph.errors import ParityError, UnsupportedError
from pgc_graph.runtime.difference import ArrayDifference, array_difference, feeds_for, worse_of
from pgc_graph.runtime.session import RuntimeOptions, open_session

__all__ = [
    "DEFAULT_TOLERANCE",
    "OutputDifference",
    "ParityReport",
    "allowed_tolerance",
    "assert_parity",
    "compare",
    "random_feeds",
]

DEFAULT_TOLERANCE = 1e-5
_BATCH_SIZES = (1, 3, 4)
_UNKNOWN_DIMENSION = 32
_COARSE_EPSILONS = {ir.DataType.FLOAT16: 2.0**-10, ir.DataType.BFLOAT16: 2.0**-7}
_UNITS_IN_LAST_PLACE = 4
_STORAGE = ("Cast", "Constant")
Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class OutputDifference:
    """How far one output differs over all runs.

    Attributes:
        name: The output's name.
        max_difference: The largest |Δ|.
        max_magnitude: The largest |value| of the reference.
        passed: Whether max_difference <= tolerance * max(1, max_magnitude), with the same shapes and dtypes.
        tolerance: What was allowed for this output: the report's, or more where the model computes in a coarse type.
        note: What else is wrong (shapes, dtypes, non-finite values), or empty.
    """

    name: str
    max_difference: float
    max_magnitude: float
    passed: bool
    tolerance: float
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
        UnsupportedError: An output is not a tensor.
        ParityError: The models have different numbers of outputs.
    """
    options = RuntimeOptions(provider="cpu", optimise=False)
    first, second = open_session(reference, options), open_session(candidate, options)
    if len(first.output_names) != len(second.output_names):
        raise ParityError(f"{len(second.output_names)} outputs instead of {len(first.output_names)}")
    pairs = [(first.run(feed), second.run(feeds_for(second, feed))) for feed in feeds]
    allowed = allowed_tolerance(reference, tolerance)
    outputs = tuple(
        _difference(name, [(a[index], b[index]) for a, b in pairs], allowed)
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
        detail = worst.note or f"max |Δ| = {worst.max_difference:.3g}, allowed {worst.tolerance:g}"
        raise ParityError(f"parity failed on output {worst.name!r}: {detail}")
    return report


def random_feeds(
    model: ir.Model, *, runs: int = 4, seed: int = 0, fixed: Mapping[str, tuple[int, ...]] | None = None
) -> Iterator[Feeds]:
    """Draw random inputs for a model: floats uniform in [0, 1), small non-negative integers, mixed booleans.

    A symbolic first dimension takes different sizes from run to run; other unknown dimensions of images take the size
    that the metadata `pgc.image_size` states and 3 channels, all others 32.

    Args:
        model: The model to feed; inputs with a default value are left out.
        runs: How many.
        seed: Of the generator.
        fixed: Shapes for some inputs by name.

    Raises:
        OptionError: `fixed` names an input that does not exist, or contradicts its fixed shape.
        UnsupportedError: An input is not a tensor, or of a type that cannot be drawn, or its rank is unknown.
    """
    generator = np.random.default_rng(seed)
    for run in range(runs):
        batch = _BATCH_SIZES[run % len(_BATCH_SIZES)]
        shapes = feed_shapes(model, fixed or {}, batch=batch)
        yield {
            str(value.name): _draw(value, _filled(value, shapes[str(value.name)]), generator)
            for value in real_inputs(model)
        }


def _filled(value: ir.Value, shape: tuple[int | None, ...] | None) -> tuple[int, ...]:
    if shape is None:
        raise UnsupportedError(f"input {value.name!r} has no shape; give one with --input-shape {value.name}=1,3,32,32")
    return tuple(_UNKNOWN_DIMENSION if dim is None else dim for dim in shape)


def _draw(value: ir.Value, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
    dtype = value.dtype
    if dtype is None or not isinstance(value.type, ir.TensorType) or dtype == ir.DataType.STRING:
        raise UnsupportedError(f"input {value.name!r} is not a tensor of numbers; random inputs cannot be drawn for it")
    if dtype == ir.DataType.BOOL:
        return generator.random(shape) < 0.5
    if dtype.is_integer():
        return generator.integers(0, 8, shape).astype(dtype.numpy())
    return _random_floats(shape, generator).astype(dtype.numpy())


def _random_floats(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    fine = generator.random(shape)
    if len(shape) != 4 or min(shape) == 0:
        return fine
    # White noise looks all the same to a network that pools: patches of one value make images that differ.
    patch = max(1, max(shape[1:]) // 4)
    coarse = generator.random((shape[0], *(-(-length // patch) for length in shape[1:])))
    for axis, length in enumerate(shape[1:], start=1):
        coarse = np.repeat(coarse, min(patch, length), axis=axis).take(range(length), axis=axis)
    return 0.75 * coarse + 0.25 * fine


def allowed_tolerance(model: ir.Model | bytes, tolerance: float) -> float:
    """Return the tolerance asked for, or more where a model computes in a type that cannot hold as much.

    Args:
        model: The reference; what matters are the types of its tensors.
        tolerance: Largest |Δ| for outputs of magnitude up to 1.
    """
    return max(tolerance, _UNITS_IN_LAST_PLACE * _coarsest_epsilon(model))


def _coarsest_epsilon(model: ir.Model | bytes) -> float:
    """Return the distance from 1 to the next number of the coarsest type that a model computes in, 0 for float32."""
    loaded = modelio.load(model) if isinstance(model, bytes) else model
    # A weight that is only stored in float16 is cast before anything is computed with it.
    operands = (
        value for node in all_nodes(loaded) if node.op_type not in _STORAGE for value in (*node.inputs, *node.outputs)
    )
    types = {value.dtype for value in operands if value is not None}
    return max((_COARSE_EPSILONS.get(dtype, 0.0) for dtype in types if dtype is not None), default=0.0)


def _difference(name: str, pairs: list[tuple[NDArray[Any], NDArray[Any]]], tolerance: float) -> OutputDifference:
    found = functools.reduce(worse_of, (array_difference(*pair, name=name) for pair in pairs), ArrayDifference())
    passed = not found.note and found.max_difference <= tolerance * max(1.0, found.max_magnitude)
    return OutputDifference(name, found.max_difference, found.max_magnitude, passed, tolerance, found.note)
