"""Parity of a rewrite, looked at where probabilities cannot hide a difference.

A probability near 0 or 1 hides what happened to its logit, so where both graphs have the tensor before the last Sigmoid
or Softmax, it is compared as well (with four times the tolerance, which keeps the probability within it).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.runtime.parity import OutputDifference, ParityReport

__all__ = ["check_parity", "parity_words", "worst_output"]

_LOGIT_FACTOR = 4


def check_parity(
    before: ir.Model,
    after: ir.Model,
    *,
    runs: int,
    seed: int,
    tolerance: float,
    shapes: dict[str, tuple[int, ...]],
) -> ParityReport:
    """Run two versions of a model on random inputs and compare their outputs, and their logits where both have them.

    Args:
        before: The version that is right by definition.
        after: The version to judge.
        runs: Random inputs.
        seed: Of the random inputs.
        tolerance: Largest |Δ| allowed, in proportion where an output exceeds 1.
        shapes: Shapes of inputs by name, where the model leaves them open.
    """
    from pgc_graph.passes.taps import add_taps
    from pgc_graph.runtime.parity import compare, random_feeds

    feeds = list(random_feeds(before, runs=runs, seed=seed, fixed=shapes))
    outputs, logits = len(before.graph.outputs), (_logits(before), _logits(after))
    if len(logits[0]) == len(logits[1]) > 0:
        before = add_taps(before, logits[0], require_types=False).model
        after = add_taps(after, logits[1], require_types=False).model
    report = compare(before, after, feeds=feeds, tolerance=tolerance)
    judged = [
        output if index < outputs else _judge_logit(output, tolerance) for index, output in enumerate(report.outputs)
    ]
    return dataclasses.replace(report, outputs=tuple(judged))


def parity_words(parity: ParityReport | None, outputs: int) -> str:
    """Say in a few words how a check went.

    Args:
        parity: The report, None if parity was not checked.
        outputs: How many outputs the model has; entries beyond are logits.
    """
    if parity is None:
        return "parity not checked"
    largest = max((output.max_difference for output in parity.outputs[:outputs]), default=0.0)
    logits = [output.max_difference for output in parity.outputs[outputs:]]
    extra = f" (logit {max(logits):.1e})" if logits else ""
    verdict = "ok" if parity.passed else "FAILED"
    return f"parity {verdict}: max |Δ| = {largest:.1e}{extra} over {parity.runs} random inputs"


def worst_output(parity: ParityReport) -> OutputDifference:
    """Return the output that failed by most."""
    return max((output for output in parity.outputs if not output.passed), key=lambda output: output.max_difference)


def _judge_logit(output: OutputDifference, tolerance: float) -> OutputDifference:
    # A probability moves by at most a quarter of what its logit moves by.
    allowed = max(_LOGIT_FACTOR * tolerance, output.tolerance)
    passed = output.passed or (not output.note and output.max_difference <= allowed * max(1.0, output.max_magnitude))
    return dataclasses.replace(output, tolerance=allowed, passed=passed)


def _logits(model: ir.Model) -> list[str]:
    from pgc_graph.analysis.logit import logit_tensor

    found = [logit_tensor(output) for output in model.graph.outputs]
    names = [str(value.name) for value in found if value is not None and not value.is_graph_output()]
    return list(dict.fromkeys(names))
