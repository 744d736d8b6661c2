"""Images in, maps out, by any method."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.passes.taps import add_taps
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_graph.studies.ablation.classes import class_names, read_target
from pgc_graph.studies.cam.ablation import ablation_maps
from pgc_graph.studies.cam.attribution import integrated_gradients, smoothgrad
from pgc_graph.studies.cam.eigen import eigen_map
from pgc_graph.studies.cam.graph import cam_model, divide
from pgc_graph.studies.cam.methods import GRAPH_METHODS, INPUT_METHODS, CamOptions, CamResult, check_method
from pgc_graph.studies.cam.rows import RawMaps, Request
from pgc_graph.studies.cam.score import explained_rows, explained_tensor
from pgc_graph.studies.heatmap import Heatmap, SkippedTarget

__all__ = ["class_activation_maps"]

logger = logging.getLogger(__name__)


def class_activation_maps(
    model: ir.Model,
    images: NDArray[np.floating[Any]],
    targets: Sequence[Target] = (),
    *,
    method: str = "gradcam",
    target: str = "argmax",
    options: CamOptions | None = None,
    baseline: NDArray[np.floating[Any]] | None = None,
    runtime: RuntimeOptions | None = None,
) -> tuple[CamResult, ...]:
    """Draw which places of images speak for a class.

    Gradients of all tensors come from one backward pass a batch. The number that is explained is the class's logit, where
    the model has logits.

    Args:
        model: An image classifier; stays untouched.
        images: `(N, 3, H, W)` or `(N, H, W, 3)`, rows of the model's input, as `pgc_graph.images.to_tensor` makes them.
        targets: The tensors, in the order in which their maps are wanted; not needed by methods that draw the input.
        method: One of `pgc_graph.studies.cam.METHODS`.
        target: The class: `argmax` (each image's own; of a single score the class that it is the probability of), a
            class's name or its index.
        options: Steps, noise, seed, batch size.
        baseline: One row of the model's input, against which integrated-gradients compares; zeros if None. A black image
            is something else where the model's preprocessing subtracts a mean.
        runtime: How to run the model.

    Returns:
        One result an image. Its maps are `(H, W)` of the tensor (or of the input), or a strip `(1, T)` for tokens.

    Raises:
        OptionError: An unknown method or class, or images that are no batch.
        SelectionError: No targets, or one that the main graph does not hold.
        UnsupportedError: The model is no image classifier, none of the targets has a map, or the graph cannot be
            differentiated.
        ModelError: onnxruntime cannot run the model.
    """
    check_method(method)
    typed = infer_shapes(model)
    source, dtype = image_input(typed), image_input(typed).dtype.numpy()
    if images.ndim != 4 or not len(images):
        raise OptionError(f"images of shape {images.shape} are no batch; expected (N, 3, H, W) or (N, H, W, 3)")
    explained = explained_tensor(typed, read_target(typed, target))
    request = Request(typed, np.asarray(images, dtype), explained, options or CamOptions(), runtime)
    if method in INPUT_METHODS:
        start = np.zeros(images.shape[1:], np.float64) if baseline is None else np.asarray(baseline, np.float64)
        raw = smoothgrad(request) if method == "smoothgrad" else integrated_gradients(request, start)
        targets = [Target(source.name, source.name, "Input")]
    elif method in GRAPH_METHODS:
        raw = _from_graph(request, targets, method, target)
    else:
        raw = _from_activations(request, targets, method)
    for skip in raw.skipped:
        logger.warning("no map of tensor %s: it %s", skip.subject, skip.reason)
    return _results(request, targets, method, raw)


def _from_graph(request: Request, targets: Sequence[Target], method: str, target: str) -> RawMaps:
    """One forward and one backward pass a batch give the maps of all tensors."""
    cam = cam_model(request.model, [item.tensor for item in targets], method=method, target=target)
    session = open_session(add_taps(cam.model, [request.explained.tensor]).model, request.runtime)
    wanted = [request.score, request.explained.tensor, *(item.output for item in cam.maps)]
    scores, logits, *maps = request.run(session, {request.source.name: request.images}, wanted)
    by_tensor = {item.tensor: array for item, array in zip(cam.maps, maps, strict=True)}
    return RawMaps(scores, logits, by_tensor, session.provider, cam.skipped)


def _from_activations(request: Request, targets: Sequence[Target], method: str) -> RawMaps:
    """Methods that need no gradient."""
    axes, skipped = divide(request.model, [item.tensor for item in targets])
    if method == "ablationcam":
        raw = ablation_maps(request, axes)
        return dataclasses.replace(raw, skipped=(*skipped, *raw.skipped))
    session = open_session(add_taps(request.model, [request.explained.tensor, *axes]).model, request.runtime)
    wanted = [request.score, request.explained.tensor, *axes]
    scores, logits, *activations = request.run(session, {request.source.name: request.images}, wanted)
    maps = {
        tensor: np.stack([eigen_map(np.moveaxis(row, place.channel - 1, 0)) for row in activation])
        for (tensor, place), activation in zip(axes.items(), activations, strict=True)
    }
    return RawMaps(scores, logits, maps, session.provider, tuple(skipped))


def _results(request: Request, targets: Sequence[Target], method: str, raw: RawMaps) -> tuple[CamResult, ...]:
    columns, numbers = explained_rows(request.explained, raw.logits)
    reasons = {skip.subject: skip.reason for skip in raw.skipped}
    drawn = [item for item in targets if item.tensor in raw.maps]
    skipped = tuple(SkippedTarget(item, reasons[item.tensor]) for item in targets if item.tensor in reasons)
    knows_class = method != "eigencam"
    return tuple(
        CamResult(
            heatmaps=tuple(_heatmap(item, raw.maps[item.tensor][index]) for item in drawn),
            score_name=request.score,
            scores=np.asarray(raw.scores[index], np.float32).reshape(-1),
            provider=raw.provider,
            labels=class_names(request.model),
            skipped=skipped,
            method=method,
            class_index=request.explained.class_of(int(columns[index])) if knows_class else None,
            explained=float(numbers[index]) if knows_class else 0.0,
        )
        for index in range(len(request.images))
    )


def _heatmap(target: Target, values: NDArray[np.float32]) -> Heatmap:
    if not np.isfinite(values).all():
        logger.warning("the map of tensor %s holds values that are not finite", target.tensor)
    elif not values.any():
        logger.warning("nothing in tensor %s speaks for the class: its map is 0 everywhere", target.tensor)
    drawn = Heatmap(target, np.atleast_2d(values), values.ndim == 2, 0.0)
    return dataclasses.replace(drawn, intensity=float(drawn.normalised.mean()))
