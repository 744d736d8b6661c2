"""Resize written out, for opsets that cannot express it: it acts on each axis by itself, and is linear in the pixels.

    nearest         Gather with the indices of the pixels that are taken
    linear, cubic   MatMul with the weights (new size, old size), on the last two axes

The weights are what the operator makes of a unit matrix; onnx.reference computes them in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from pgc_graph.passes.opset.site import CannotConvertError, Site

__all__ = ["resize_explicitly"]

_FIX = "fix the input's shape"


def resize_explicitly(site: Site) -> str:
    """Replace Resize by one Gather or MatMul an axis.

    Raises:
        CannotConvertError: The sizes are open, or depend on the aspect ratio, or it crops.
    """
    if site.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise CannotConvertError("it crops a region (tf_crop_and_resize)", "crop by Slice")
    if site.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise CannotConvertError("its size follows the aspect ratio", "give the sizes themselves")
    nearest = site.attribute("mode", "nearest") == "nearest"
    if not nearest and not site.dtype().is_floating_point():
        raise CannotConvertError("it interpolates integers", "cast the input to float")
    plan = [(axis, _weights(site, axis, request)) for axis, request in _requests(site).items()]
    if not nearest and any(axis < site.rank() - 2 for axis, _ in plan):
        raise CannotConvertError("it interpolates other axes than the last two")
    y, dims = site.operand(0), list(site.dims())
    for axis, weights in plan:
        dims[axis] = len(weights)
        y = _gather(site, y, axis, weights, dims) if nearest else _multiply(site, y, axis, weights, dims)
    site.replace(y if plan else site.emit("Identity", [y], like=y))
    return "written out as Gather" if nearest else "written out as MatMul"


def _requests(site: Site) -> dict[int, dict[str, NDArray[Any]]]:
    """Return what is asked of each axis that changes: a scale or a size."""
    axes = site.attribute("axes", range(site.rank()))
    scales, sizes = site.known(2, "scales"), site.known(3, "sizes")
    requests: dict[int, dict[str, NDArray[Any]]] = {}
    for index, axis in enumerate(int(axis) % site.rank() for axis in axes):
        size = site.dims()[axis]
        if scales is not None and scales.size:
            if scales[index] == 1:
                continue
            requests[axis] = {"scales": np.array([scales[index], 1], np.float32)}
        elif sizes is not None:
            if size == sizes[index]:
                continue
            requests[axis] = {"sizes": np.array([sizes[index], size or 0], np.int64)}
        if size is None:
            raise CannotConvertError("it cannot be expressed, and the size is open", _FIX)
    return requests


def _weights(site: Site, axis: int, request: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Resize a unit matrix along its first axis: (new size, old size)."""
    unit = np.eye(int(site.dims()[axis] or 0))
    kept: dict[str, Any] = {name: held.value for name, held in site.node.attributes.items() if name != "axes"}
    names = ["unit", "", *(name if name in request else "" for name in ("scales", "sizes"))]
    node = onnx.helper.make_node("Resize", names, ["weights"], **kept)
    inputs = [onnx.ValueInfoProto(name=name) for name in ("unit", *request)]
    graph = onnx.helper.make_graph([node], "axis", inputs, [onnx.ValueInfoProto(name="weights")])
    single = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
    weights: NDArray[np.float64] = np.asarray(
        next(iter(ReferenceEvaluator(single).run(None, {"unit": unit, **request})))
    )
    return weights


def _gather(site: Site, y: ir.Value, axis: int, weights: NDArray[np.float64], dims: list[Any]) -> ir.Value:
    indices = site.constant("pixels", weights.argmax(axis=1))
    return site.emit("Gather", [y, indices], {"axis": axis}, dtype=y.dtype, dims=dims)


def _multiply(site: Site, y: ir.Value, axis: int, weights: NDArray[np.float64], dims: list[Any]) -> ir.Value:
    last = axis == site.rank() - 1
    matrix = site.constant("weights", weights.T if last else weights, site.dtype())
    operands = [y, matrix] if last else [matrix, y]
    return site.emit("MatMul", operands, dtype=y.dtype, dims=dims)
