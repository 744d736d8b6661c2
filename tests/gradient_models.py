"""Small models to differentiate, and how they are run."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.runtime.session import RuntimeOptions, open_session

OPTIONS = RuntimeOptions("cpu")


def make(text: str, *, opset: int = 17, ir_version: int = 8) -> ir.Model:
    """Parse `(inputs) => (outputs) {nodes}`."""
    header = f'<ir_version: {ir_version}, opset_import: ["": {opset}, "local": 1]> g '
    return modelio.load(onnx.parser.parse_model(header + text))


def run(model: ir.Model, **feeds: object) -> dict[str, np.ndarray]:
    """Check a model and run it on float32 feeds; outputs by name."""
    modelio.check(model)
    arrays = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
    results = open_session(model, OPTIONS).run(arrays)
    return {str(value.name): array for value, array in zip(model.graph.outputs, results, strict=True)}
