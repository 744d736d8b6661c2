"""Are two models the same function on the inputs that matter? If not, where do they part?

An output passes if its largest |Δ| is within the tolerance, or within the relative tolerance times the largest |value| of
the reference. onnxruntime's own graph rewriting is off. Inputs are run one after the other and not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.errors import ParityError
from pgc_graph.runtime.difference import ArrayDifference, array_difference, feeds_for, worse_of
from pgc_graph.runtime.parity import DEFAULT_TOLERANCE, OutputDifference, allowed_tolerance
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session
from pgc_graph.studies.divergence import Divergence, Limits, find_divergence

__all__ = ["Verification", "verify"]

Feeds = Mapping[str, NDArray[Any]]
_PLAIN = RuntimeOptions(provider="cpu", optimise=False)


@dataclass(frozen=True)
class Verification:
    """The verdict on two models.

    Attributes:
        outputs: One entry an output of the reference; `tolerance` is what was allowed for it.
        runs: How many inputs were run.
        tolerance: The largest |Δ| asked for.
        relative_tolerance: The same, as a part of the reference's largest |value|.
        worst_run: The input, from 0, on which a failing output differs most; None where all pass.
        divergence: Where the models part, None where they do not or it was not asked for.
    """

    outputs: tuple[OutputDifference, ...]
    runs: int
    tolerance: float
    relative_tolerance: float
    worst_run: int | None
    divergence: Divergence | None

    @property
    def passed(self) -> bool:
        """Whether every output agrees."""
        return all(output.passed for output in self.outputs)


def verify(
    reference: ir.Model,
    candidate: ir.Model,
    feeds: Iterable[Feeds],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    relative_tolerance: float | None = None,
    locate: bool = True,
) -> Verification:
    """Run two models on the same inputs, compare their outputs, and find the first inner tensor that differs.

    Outputs are matched by name where both models have the name, the rest by position; inputs likewise.

    Args:
        reference: The model that is right by definition.
        candidate: The model to judge.
        feeds: Inputs, each one array an input of the reference.
        tolerance: Largest |Δ| allowed (more where the reference computes in float16 or bfloat16).
        relative_tolerance: Largest |Δ| allowed as a part of an output's largest |value|; None for the same number.
        locate: Whether to look for the first inner tensor that differs where an output does.

    Raises:
        ModelError: onnxruntime refuses or cannot run one of the models.
        ParityError: The models have different numbers of outputs.
        UnsupportedError: An output is not a tensor.
    """
    first, second = open_session(reference, _PLAIN), open_session(candidate, _PLAIN)
    names = _match_outputs(first, second)
    relative = tolerance if relative_tolerance is None else relative_tolerance
    limits = Limits(allowed_tolerance(reference, tolerance), allowed_tolerance(reference, relative))
    found = {name: ArrayDifference() for name in names}
    runs, worst, worst_run, worst_feed = 0, 0.0, None, None
    for feed in feeds:
        results = _run(first, feed, list(names)), _run(second, feeds_for(second, feed), list(names.values()))
        for name, left, right in zip(names, *results, strict=True):
            difference = array_difference(left, right, name=name)
            found[name] = worse_of(found[name], difference)
            excess = limits.excess(difference)
            if excess > max(1.0, worst):
                worst, worst_run, worst_feed = excess, runs, feed
        runs += 1
    outputs = tuple(_judged(name, difference, limits) for name, difference in found.items())
    divergence = None
    if locate and worst_feed is not None:
        failing = next(output.name for output in outputs if not output.passed)
        divergence = find_divergence(reference, candidate, worst_feed, (failing, names[failing]), limits)
    return Verification(outputs, runs, tolerance, relative, worst_run, divergence)


def _run(session: Session, feed: Feeds, names: list[str]) -> list[NDArray[Any]]:
    return session.run(feed, names)


def _match_outputs(first: Session, second: Session) -> dict[str, str]:
    if len(first.output_names) != len(second.output_names):
        raise ParityError(f"{len(second.output_names)} outputs instead of {len(first.output_names)}")
    spare = iter([name for name in second.output_names if name not in first.output_names])
    return {name: name if name in second.output_names else next(spare) for name in first.output_names}


def _judged(name: str, found: ArrayDifference, limits: Limits) -> OutputDifference:
    passed = limits.excess(found) <= 1
    allowed = limits.allowed(found)
    return OutputDifference(name, found.max_difference, found.max_magnitude, passed, allowed, found.note)
