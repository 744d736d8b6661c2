"""Judges of an opset conversion: onnxruntime on both models, and onnx.reference on the one with the newer opset.

onnx.reference implements the newest version of many operators only, so it is not asked about old ones.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from pgc_graph import modelio
from pgc_graph.runtime.parity import random_feeds
from pgc_graph.runtime.session import RuntimeOptions, open_session

__all__ = ["assert_same_function", "from_text", "operators"]


def from_text(text: str, opset: int) -> ir.Model:
    """Parse a graph in ONNX text."""
    return modelio.load(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}'))


def operators(model: ir.Model) -> list[str]:
    """List the operators of the main graph, without constants."""
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def assert_same_function(
    source: ir.Model,
    converted: ir.Model,
    tolerance: float = 1e-5,
    *,
    spread: float = 6.0,
    reference: bool = True,
    runtime: bool = True,
) -> float:
    """Check that a conversion is valid and computes the same; return the largest |Δ|.

    Args:
        source: The model before.
        converted: The model after.
        tolerance: Largest |Δ|, in proportion above 1.
        spread: Float inputs are drawn from -spread/2 to spread/2.
        reference: Whether onnx.reference is a judge.
        runtime: Whether onnxruntime can run the source.
    """
    modelio.check(converted)
    after = open_session(converted, RuntimeOptions(provider="cpu", optimise=False))
    before = open_session(source, RuntimeOptions(provider="cpu", optimise=False)) if runtime else None
    newer = max(source, converted, key=lambda model: model.opset_imports.get("", 0))
    judge = ReferenceEvaluator(modelio.to_proto(newer)) if reference else None
    worst = 0.0
    for feeds in random_feeds(source, runs=2):
        feeds = {
            name: ((array.astype(np.float64) - 0.5) * spread).astype(array.dtype) if array.dtype.kind == "f" else array
            for name, array in feeds.items()
        }
        results = after.run(feeds)
        expectations = [] if before is None else [before.run(feeds)]
        expectations += [] if judge is None else [judge.run(None, feeds)]
        for expected in expectations:
            worst = max([worst, *(_difference(a, b, tolerance) for a, b in zip(expected, results, strict=True))])
    return worst


def _difference(expected: np.ndarray, result: np.ndarray, tolerance: float) -> float:
    assert expected.shape == result.shape
    assert expected.dtype == result.dtype
    left, right = expected.astype(np.float64), result.astype(np.float64)
    np.testing.assert_allclose(right, left, rtol=tolerance, atol=tolerance)
    finite = np.isfinite(left)
    return float(np.max(np.abs(left[finite] - right[finite]), initial=0.0))
