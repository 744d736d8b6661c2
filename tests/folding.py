"""Small models with BatchNormalization, and the judges of what folding makes of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from pgc_graph import modelio
from pgc_graph.analysis.names import all_graphs
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.rewrite import Rewrite
from pgc_graph.runtime.session import RuntimeOptions, open_session

BN = "BatchNormalization <epsilon = 0.01>"


def make(text: str, weights: dict[str, np.ndarray], *, ir_version: int = 8, opset: int = 17) -> ir.Model:
    """Parse `(inputs) => (outputs) {nodes}` and give it initializers."""
    header = f'<ir_version: {ir_version}, opset_import: ["": {opset}]> g '
    proto = onnx.parser.parse_model(header + text)
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return modelio.load(proto)


def bn_parameters(channels: int, seed: int = 0, prefix: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        f"{prefix}s": rng.uniform(0.5, 2, channels).astype(np.float32),
        f"{prefix}b": rng.normal(size=channels).astype(np.float32),
        f"{prefix}m": rng.normal(size=channels).astype(np.float32),
        f"{prefix}v": rng.uniform(0.1, 3, channels).astype(np.float32),
    }


def random(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check(
    model: ir.Model,
    feeds: dict[str, np.ndarray],
    *,
    by_reference: bool = True,
    by_runtime: bool = True,
    assume_default_inputs: bool = False,
) -> Rewrite:
    """Fold, and compare with both judges; the input model must stay untouched and the result be valid."""
    before = modelio.to_bytes(model)
    rewrite = fold_batchnorm(model, assume_default_inputs=assume_default_inputs)
    assert modelio.to_bytes(model) == before
    modelio.check(rewrite.model)
    judges = []
    if by_runtime:
        judges.append(lambda m: open_session(m, RuntimeOptions("cpu", optimise=False)).run(feeds))
    if by_reference:
        judges.append(lambda m: ReferenceEvaluator(modelio.to_proto(m)).run(None, feeds))
    for judge in judges:
        for want, got in zip(judge(model), judge(rewrite.model), strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, atol=1e-5 * max(1.0, float(np.abs(want).max())), rtol=0)
    again = fold_batchnorm(rewrite.model)
    assert not again.changes
    assert not dead(rewrite.model)
    return rewrite


def dead(model: ir.Model) -> list[str]:
    """Initializers without a use, which are no graph inputs either."""
    return [
        str(value.name)
        for graph in all_graphs(model)
        for value in graph.initializers.values()
        if not (value.uses() or value.is_graph_input() or value.is_graph_output())
    ]


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]
