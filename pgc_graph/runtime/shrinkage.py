"""What a smaller version of a model saves: parameters, MACs, latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.macs import count_macs
from pgc_graph.analysis.summary import count_parameters
from pgc_graph.runtime.difference import array_difference
from pgc_graph.runtime.parity import random_feeds
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_graph.runtime.timing import TimingOptions, time_models

__all__ = ["Shrinkage", "Sizes", "compare_sizes", "ignores_inputs"]

_SAME = 1e-6


@dataclass(frozen=True)
class Sizes:
    """What a model costs.

    Attributes:
        parameters: Numbers that it stores, but for indices and running statistics.
        macs: Multiply-accumulates of one image.
        milliseconds: Median latency, None if not measured.
    """

    parameters: int
    macs: int
    milliseconds: float | None


@dataclass(frozen=True)
class Shrinkage:
    """Two versions of a model side by side.

    Attributes:
        before: The larger one.
        after: The smaller one.
        runs: Runs of each that were timed, interleaved, on one thread.
    """

    before: Sizes
    after: Sizes
    runs: int


def ignores_inputs(model: ir.Model, *, seed: int, shapes: Mapping[str, tuple[int, ...]] | None = None) -> bool:
    """Say whether a model puts out the same for different random inputs, so that equality to it means little.

    Args:
        model: The model.
        seed: Of the inputs.
        shapes: Shapes of inputs by name, where the model leaves them open.

    Raises:
        ModelError: onnxruntime refuses or cannot run the model.
        UnsupportedError: Inputs cannot be drawn.
    """
    session = open_session(model, RuntimeOptions(provider="cpu", optimise=False))
    draws = [next(random_feeds(model, runs=1, seed=seed + place, fixed=shapes)) for place in range(4)]
    first, *others = [session.run(feeds) for feeds in draws]
    return all(
        array_difference(left, right, name="").max_difference <= _SAME
        for other in others
        for left, right in zip(first, other, strict=True)
    )


def compare_sizes(
    before: ir.Model, after: ir.Model, *, runs: int, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Shrinkage:
    """Count parameters and MACs of two versions of a model and time them side by side, interleaved, on one thread.

    Args:
        before: The larger one.
        after: The smaller one.
        runs: Runs of each to time; 0 to time nothing.
        shapes: Shapes of inputs by name, where the model leaves them open.

    Raises:
        ModelError: Shapes cannot be inferred, or onnxruntime refuses a model.
    """
    pairs = [("before", before), ("after", after)]
    times: list[float | None] = [None, None]
    if runs:
        report = time_models(pairs, TimingOptions(provider="cpu", threads=(1,), runs=runs), shapes=shapes)
        times = [latency.p50 for latency in report.latencies]
    sizes = [
        Sizes(count_parameters(model).weights, count_macs(model, input_shapes=shapes).total, milliseconds)
        for (_, model), milliseconds in zip(pairs, times, strict=True)
    ]
    return Shrinkage(sizes[0], sizes[1], runs)
