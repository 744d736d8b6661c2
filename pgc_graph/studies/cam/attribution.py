"""Which pixels of the image itself speak for a class: maps of the size of the model's input.

1. Integrated gradients (Sundararajan et al. 2017, equation 1): (x - x') · ∫ ∂y/∂x(x' + a (x - x')) da for a from 0 to 1,
   the integral by the midpoint rule, whose error falls with the square of the number of steps (the paper's right sum:
   with the number). A place's value is the sum over its colours, signed; all of them add up to y(x) - y(x').
2. SmoothGrad (Smilkov et al. 2017, section 3): the mean gradient of noisy copies x + e, e normal with the standard
   deviation noise · (max x - min x). A place's value is the largest |mean gradient| of its colours (Simonyan et al. 2014).

In both the class is the one found in the image itself, not in a point of the path or a noisy copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.channels import channel_axis
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.taps import add_taps
from pgc_graph.runtime.session import open_session
from pgc_graph.studies.cam.rows import RawMaps, Request
from pgc_graph.studies.cam.score import explained_rows, numpy_seed

__all__ = ["input_channel_axis", "integrated_gradients", "smoothgrad"]

Array = NDArray[Any]
Slope = Callable[[Array], NDArray[np.float64]]
"""From copies of one image `(S, ...)` to the mean gradient of its class by them."""


def integrated_gradients(request: Request, baseline: Array) -> RawMaps:
    """Attribute each image's logit to its places, as against a baseline.

    Args:
        request: Images and class.
        baseline: One row of the model's input: what "nothing to see" looks like.

    Raises:
        UnsupportedError: The input holds whole numbers, or the graph cannot be differentiated.
        ModelError: onnxruntime cannot run the model.
    """
    steps = request.options.steps
    shares = ((np.arange(steps) + 0.5) / steps).reshape(-1, *[1] * baseline.ndim)

    def attribute(image: Array, slope: Slope) -> NDArray[np.float64]:
        way = image.astype(np.float64) - baseline
        attributed: NDArray[np.float64] = way * slope(baseline + shares * way)
        return attributed

    return _by_image(request, attribute, lambda attributed, axis: attributed.sum(axis))


def smoothgrad(request: Request) -> RawMaps:
    """Draw the gradient of each image's logit by its places, averaged over noisy copies.

    Args:
        request: Images and class.

    Raises:
        UnsupportedError: The input holds whole numbers, or the graph cannot be differentiated.
        ModelError: onnxruntime cannot run the model.
    """
    options = request.options

    def attribute(image: Array, slope: Slope) -> NDArray[np.float64]:
        noise = np.random.default_rng(options.seed).normal(size=(options.steps, *image.shape))
        strength = options.noise * (float(image.max()) - float(image.min()))
        return slope(image.astype(np.float64) + strength * noise)

    return _by_image(request, attribute, lambda attributed, axis: np.abs(attributed).max(axis))


def input_channel_axis(model: ir.Model) -> int:
    """Return the axis that holds the colours of the model's input: 1, or 3 where images are channels-last."""
    if model.metadata_props.get("pgc.layout") == "NHWC":
        return 3
    (value,) = (value for value in model.graph.inputs if value.name not in model.graph.initializers)
    return channel_axis(value) or 1


def _by_image(
    request: Request,
    attribute: Callable[[Array, Slope], NDArray[np.float64]],
    reduce: Callable[[NDArray[np.float64], int], NDArray[np.float64]],
) -> RawMaps:
    source, explained = request.source, request.explained
    if source.takes_pixels:
        raise UnsupportedError(
            f"input {source.name!r} holds uint8: there is no gradient by whole numbers; use a method that draws tensors"
        )
    gradient = gradient_graph(request.model, explained.tensor, [source.name], seeded=True)
    ((_, seed_name),) = gradient.seeds
    slope_name = gradient.gradients[0].output
    session = open_session(add_taps(gradient.model, [explained.tensor]).model, request.runtime)
    shape = (len(request.images), explained.columns, *[1] * (explained.rank - 2))[: explained.rank]
    zeros = np.zeros(shape, _numpy_type(gradient.model, seed_name))
    feeds = {source.name: request.images, seed_name: zeros}
    scores, logits = request.run(session, feeds, [request.score, explained.tensor])
    columns, _ = explained_rows(explained, logits)
    axis = input_channel_axis(request.model) - 1
    maps = []
    for image, seed in zip(request.images, numpy_seed(explained, columns, zeros), strict=True):

        def slope(copies: Array, seed: Array = seed) -> NDArray[np.float64]:
            fed = {source.name: copies.astype(request.images.dtype), seed_name: np.stack([seed] * len(copies))}
            mean: NDArray[np.float64] = request.run(session, fed, [slope_name])[0].mean(0, dtype=np.float64)
            return mean

        maps.append(reduce(attribute(image, slope), axis).astype(np.float32))
    return RawMaps(scores, logits, {source.name: np.stack(maps)}, session.provider)


def _numpy_type(model: ir.Model, name: str) -> Any:
    (dtype,) = (value.dtype for value in model.graph.inputs if value.name == name)
    if dtype is None:
        raise UnsupportedError(f"the type of tensor {name!r} is unknown; state it as value_info in the model")
    return dtype.numpy()
