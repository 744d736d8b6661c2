"""Ablation-CAM: a channel weighs what the class loses without it; no gradient.

Desai and Ramaswamy 2020, equation 3: w_k = (y - y_k) / y, where y is the class's logit and y_k the one with channel k at 0;
L = ReLU(Σ_k w_k A_k). Two things differ, neither of which changes the map of an image whose y is positive:

1. The divisor is |y|: a negative y would turn the map into the one of what speaks against the class.
2. Where y is 0, nothing is divided.

Channels are switched off by gates, one image and many channels a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.gates import Gate, GatedModel, insert_gates
from pgc_graph.passes.taps import add_taps
from pgc_graph.runtime.session import Session, open_session
from pgc_graph.studies.cam.formulas import Axes
from pgc_graph.studies.cam.rows import RawMaps, Request
from pgc_graph.studies.cam.score import explained_rows

__all__ = ["ablation_maps"]

Array = NDArray[Any]


def ablation_maps(request: Request, axes: Mapping[str, Axes]) -> RawMaps:
    """Draw the map of each tensor, each of whose channels is switched off in turn.

    Args:
        request: Images and class.
        axes: The tensors, and where their channels and places are.

    Raises:
        UnsupportedError: None of the tensors can be gated, or the model's opset is too old for gates.
        ModelError: onnxruntime cannot run the model.
    """
    gated = _gated(request, axes)
    tensors = [gate.tensor for gate in gated.gates]
    tapped = add_taps(gated.model, [request.explained.tensor, *tensors], require_types=False).model
    session = open_session(tapped, request.runtime)
    wanted = [request.score, request.explained.tensor, *tensors]
    scores, logits, *activations = request.run(session, {request.source.name: request.images}, wanted)
    columns, numbers = explained_rows(request.explained, logits)
    maps: dict[str, NDArray[np.float32]] = {}
    for gate, activation in zip(gated.gates, activations, strict=True):
        drawn = []
        for index, row in enumerate(activation):
            without = _numbers_without(request, session, gate, axes[gate.tensor].channel, index, int(columns[index]))
            weights = (numbers[index] - without) / (abs(numbers[index]) or 1.0)
            channels_first = np.moveaxis(row, axes[gate.tensor].channel - 1, 0).astype(np.float64)
            drawn.append(np.maximum(np.tensordot(weights, channels_first, 1), 0).astype(np.float32))
        maps[gate.tensor] = np.stack(drawn)
    skipped = tuple(skip for skip in gated.skipped if skip.subject not in maps)
    return RawMaps(scores, logits, maps, session.provider, skipped)


def _gated(request: Request, axes: Mapping[str, Axes]) -> GatedModel:
    """Gate the channels, each row of a batch by gates of its own."""
    gated = insert_gates(request.model, list(axes), per_channel=True)
    if not gated.gates:
        skip = gated.skipped[0]
        raise UnsupportedError(f"the channels of no tensor can be switched off: {skip.subject!r} {skip.reason}")
    names = {gate.gate for gate in gated.gates}
    for value in gated.model.graph.inputs:
        if value.name in names and value.shape is not None:
            value.shape = ir.Shape([None, *value.shape[1:]])
    return gated


def _numbers_without(
    request: Request, session: Session, gate: Gate, axis: int, index: int, column: int
) -> NDArray[np.float64]:
    """Return the class's number of one image without each channel in turn, `(C,)`."""
    count = gate.shape[axis]
    image = request.images[index]
    alive = (1 - np.eye(count)).astype(image.dtype)
    gates = alive.reshape(count, *(count if place == axis else 1 for place in range(1, len(gate.shape))))
    images = np.broadcast_to(image, (count, *image.shape))
    (logits,) = request.run(session, {request.source.name: images, gate.gate: gates}, [request.explained.tensor])
    return request.explained.sign * logits.reshape(count, -1)[:, column].astype(np.float64)
