"""The features of PGC s differentiated by onnxsim's `graph_grad` (static shapes, float32), as one more judge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from calibrated import smooth_images
from pgc_graph import modelio
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.passes.batch import set_batch
from pgc_graph.passes.extract import extract
from pgc_graph.runtime.session import RuntimeOptions, open_session
from reference.onnxsim_gradient import onnxsim_gradient

FEATURES = "/base_model/features/features.3/out_act/Mul_output_0"


@pytest.mark.parametrize("stage", ["images", "/base_model/features/features.1/out_act/Mul_output_0"])
def test_the_same_gradient(pgc_model: Callable[[str], ir.Model], stage: str) -> None:
    model = extract(set_batch(pgc_model("s"), 2).model, outputs=[FEATURES]).model
    images = smooth_images(2)
    seed = np.random.default_rng(0).normal(size=(2, 64, 8, 8)).astype(np.float32)
    theirs = onnxsim_gradient(modelio.to_proto(model), [stage])
    ours = gradient_graph(model, FEATURES, [stage], seeded=True)
    options = RuntimeOptions("cpu")
    expected = open_session(theirs.SerializeToString(), options).run({"images": images, "seed": seed})[-1]
    result = open_session(ours.model, options).run({"images": images, f"{FEATURES}_seed": seed})[-1]
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())
    assert len(list(ours.model.graph)) < len(theirs.graph.node)
