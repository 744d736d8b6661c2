"""PGC networks that behave like trained ones: random weights, BatchNormalization statistics measured on images.

Statistics drawn at random make deep networks amplify rounding until float32 runs differ by 1e-4 among themselves.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.build.pgc import build_pgc
from pgc_graph.build.spec import ModelSpec, preset
from pgc_graph.build.weights import init_weights

__all__ = ["calibrated_model", "calibrated_pgc", "smooth_images"]


def smooth_images(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw `(count, 3, 32, 32)` images in [0, 1] with large patches of colour, as photographs have."""
    patches = np.random.default_rng(seed).random((count, 3, 5, 5), np.float32)
    return patches.repeat(8, axis=2).repeat(8, axis=3)[:, :, 4:36, 4:36]


def calibrated_pgc(variant: str) -> ir.Model:
    """Return a fresh PGC model of a preset."""
    return calibrated_model(preset(variant))


def calibrated_model(spec: ModelSpec) -> ir.Model:
    """Return a fresh PGC model of any kind."""
    return modelio.load(_bytes(spec))


@functools.cache
def _bytes(spec: ModelSpec) -> bytes:
    weights = _stirred(init_weights(spec, seed=3))
    for name, array in _measured(build_pgc(spec, weights), smooth_images(64, seed=1)).items():
        weights[name.removeprefix("base_model.")] = array
    data: bytes = build_pgc(spec, weights).SerializeToString()
    return data


def _stirred(weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Give every BatchNormalization a scale and a shift: fresh ones are 1 and 0, which hides mistakes."""
    generator = np.random.default_rng(4)
    stirred = dict(weights)
    for name in weights:
        if name.endswith("running_mean"):
            prefix, channels = name.removesuffix("running_mean"), len(weights[name])
            stirred[f"{prefix}weight"] = generator.uniform(0.6, 1.5, channels).astype(np.float32)
            stirred[f"{prefix}bias"] = generator.normal(0, 0.2, channels).astype(np.float32)
    return stirred


def _measured(model: onnx.ModelProto, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return mean and variance of what each BatchNormalization sees, by the names of its parameters."""
    outputs: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        # In training mode with momentum 0 the second and third output are the batch's own mean and variance.
        del node.attribute[:]
        settings = {"epsilon": 1e-5, "momentum": 0.0, "training_mode": 1}
        node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in settings.items())
        node.output.extend(f"{node.output[0]}_{what}" for what in ("mean", "variance"))
        outputs |= {node.input[3]: node.output[1], node.input[4]: node.output[2]}
    if not outputs:
        return {}
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs.values())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(None, {"images": images}), strict=True))
