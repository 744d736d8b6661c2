"""Pictures, models and comparisons for the tests of class-activation maps."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from conftest import REPOSITORY
from pgc_graph import modelio
from pgc_graph.analysis.targets import Target, find_targets
from pgc_graph.images import load_image, to_tensor
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.cam import CamOptions, CamResult

__all__ = [
    "INNER",
    "LAST",
    "OPTIONS",
    "RUNTIME",
    "TOLERANCE",
    "assert_maps",
    "crops",
    "maps_of",
    "shipped",
    "targets_of",
]

RUNTIME = RuntimeOptions("cpu", threads=1)
OPTIONS = CamOptions(steps=8, noise=0.1, seed=3)
INNER = "/base_model/features/features.1/block/block.5/Mul_output_0"
LAST = "/base_model/features/features.3/out_act/Mul_output_0"
TOLERANCE = 1e-4
"""Of the range of the map."""


def crops() -> np.ndarray:
    """Two crops that point and one that does not, `(3, 3, 32, 32)`."""
    names = ["pointing/synth000025_index", "pointing/synth000003_index", "not_pointing/synth000016_fist"]
    paths = [REPOSITORY / "models" / "crops" / f"{name}.png" for name in names]
    return np.stack([to_tensor(load_image(path), Preprocess((32, 32))) for path in paths])


def shipped(variant: str) -> ir.Model:
    return modelio.load(REPOSITORY / "models" / f"pgc_{variant}_32x32.onnx")


def targets_of(model: ir.Model, *tensors: str) -> list[Target]:
    by_name = {target.tensor: target for target in find_targets(model)}
    return [by_name[tensor] for tensor in tensors]


def maps_of(results: tuple[CamResult, ...], index: int = 0) -> np.ndarray:
    return np.stack([result.heatmaps[index].values for result in results])


def assert_maps(ours: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    assert ours.shape == expected.shape
    for drawn, exact in zip(ours, expected, strict=True):
        span = float(exact.max() - exact.min())
        assert np.abs(drawn - exact).max() <= tolerance * span, (np.abs(drawn - exact).max(), span)
