"""Weights for an untrained network that behaves like a trained one.

Fresh weights hide mistakes: BatchNorm statistics are 0 and 1, and the score is 0.5000 whatever the image. Here every
BatchNorm gets random scale and shift and the statistics that images really have there, and logits spread around 0 by 1.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.build.pgc import build_pgc
from pgc_graph.build.spec import ModelSpec
from pgc_graph.build.weights import init_weights
from pgc_graph.passes.taps import add_taps
from pgc_graph.runtime.session import RuntimeOptions, open_session

Weights = dict[str, NDArray[np.float32]]


def lively_weights(spec: ModelSpec, seed: int) -> Weights:
    """Draw weights for a spec whose head ends in a linear layer (every PGC head does)."""
    generator = np.random.default_rng(seed)
    weights = {name: _kernel(array, generator) for name, array in init_weights(spec, seed).items()}
    images = generator.random((48, 3, 4, 4), dtype=np.float32)
    images = images.repeat(spec.image_size[0] // 4, axis=2).repeat(spec.image_size[1] // 4, axis=3)
    for prefix, tensor in _norms(spec, weights):
        values = _observe(spec, weights, images, tensor)
        axes = (0, *range(2, values.ndim))
        channels = values.shape[1]
        weights[f"{prefix}running_mean"] = values.mean(axis=axes) + generator.normal(0, 0.05, channels).astype(np.float32)
        weights[f"{prefix}running_var"] = values.var(axis=axes) * generator.uniform(0.7, 1.4, channels).astype(np.float32)
        weights[f"{prefix}weight"] = generator.uniform(0.6, 1.5, channels).astype(np.float32)
        weights[f"{prefix}bias"] = generator.normal(0, 0.2, channels).astype(np.float32)
    return _spread(spec, weights, images)


def _kernel(array: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    # Variance 2 / fan-in: fresh depthwise kernels (2 / fan-out) let no signal through.
    if array.ndim < 4:
        return array
    return generator.normal(0, (2 / np.prod(array.shape[1:])) ** 0.5, array.shape).astype(np.float32)


def _norms(spec: ModelSpec, weights: Weights) -> list[tuple[str, str]]:
    model = modelio.load(build_pgc(spec, weights))
    nodes = [node for node in model.graph if node.op_type == "BatchNormalization"]
    names = [(str(node.inputs[1].name), str(node.inputs[0].name)) for node in nodes if node.inputs[1] and node.inputs[0]]
    return [(scale.removeprefix("base_model.").removesuffix("weight"), tensor) for scale, tensor in names]


def _observe(spec: ModelSpec, weights: Weights, images: NDArray[np.float32], tensor: str) -> NDArray[np.float32]:
    model = add_taps(modelio.load(build_pgc(spec, weights)), [tensor]).model
    values: NDArray[np.float32] = open_session(model, RuntimeOptions("cpu", threads=1)).run({"images": images}, [tensor])[0]
    return values


def _spread(spec: ModelSpec, weights: Weights, images: NDArray[np.float32]) -> Weights:
    last = max(name for name in weights if name.startswith("head.") and weights[name].ndim == 2).removesuffix("weight")
    session = open_session(build_pgc(dataclasses.replace(spec), weights).SerializeToString(), RuntimeOptions("cpu"))
    score = session.run({"images": images})[0].astype(np.float64)
    logits = np.log(score / (1 - score))
    scale = 1 / logits.std()
    weight = (scale * weights[f"{last}weight"]).astype(np.float32)
    bias = (scale * (weights[f"{last}bias"] - logits.mean())).astype(np.float32)
    return {**weights, f"{last}weight": weight, f"{last}bias": bias}
