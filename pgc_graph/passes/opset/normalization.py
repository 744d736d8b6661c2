"""Normalisations (ONNX operator pages).

    BatchNormalization     7   `is_test` went
                           9   `spatial` went: statistics are per channel, as with 1, its default
                          14   inference is `training_mode` = 0, and no outputs but the first; before, only the latter
                          15   the parameters may have other types than the data
    LayerNormalization    17   new; RMSNormalization 23
    GroupNormalization    18   new, with scale and bias per group; 21 per channel

Types are evened out by computing in the widest of them, as the mixed form does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pgc_graph.passes.opset.site import CannotConvertError, Site

__all__ = [
    "batchnorm_7_up",
    "batchnorm_9_up",
    "batchnorm_14_down",
    "batchnorm_14_up",
    "batchnorm_15_down",
    "group_norm_down",
    "group_norm_up",
    "layer_norm_down",
    "rms_norm_down",
]

_FLOATS = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)
_TRAINING = "it is in training mode"
_INFERENCE = "export the model in inference mode"


def batchnorm_7_up(site: Site) -> str:
    """Drop `is_test`, which has to be set."""
    if not site.attribute("is_test", 0):
        raise CannotConvertError(f"{_TRAINING} (is_test = 0)", _INFERENCE)
    site.drop_attribute("is_test")
    return _inference_outputs(site) or "is_test dropped"


def batchnorm_9_up(site: Site) -> str:
    """Drop `spatial`, which has to be 1."""
    if not site.attribute("spatial", 1):
        raise CannotConvertError("spatial = 0: its statistics are per position", "write it as Sub, Div, Mul and Add")
    return ""


def batchnorm_14_up(site: Site) -> str:
    """Go from five outputs to three, all but the first unused."""
    return _inference_outputs(site)


def batchnorm_14_down(site: Site) -> str:
    """Go from `training_mode` to none, and to one type for data and parameters."""
    if site.attribute("training_mode", 0):
        raise CannotConvertError(_TRAINING, _INFERENCE)
    site.drop_attribute("training_mode")
    return _inference_outputs(site) or _even_types(site, (0, 1, 2, 3, 4))


def batchnorm_15_down(site: Site) -> str:
    """Give scale, bias and data one type."""
    types = _types(site, (0, 1, 2))
    statistics = _types(site, (3, 4))
    return _even_types(site, (0, 1, 2, 3, 4)) if len(types) > 1 or len(statistics) > 1 else ""


def _inference_outputs(site: Site) -> str:
    outputs = site.node.outputs
    if any(site.output_used(index) for index in range(1, len(outputs))):
        raise CannotConvertError(_TRAINING, _INFERENCE)
    if len(outputs) > 1:
        site.node.resize_outputs(1)
    return ""


def _types(site: Site, indices: tuple[int, ...]) -> set[ir.DataType]:
    found = {site.constants.dtype(site.operand(index)) for index in indices}
    return {dtype for dtype in found if dtype is not None}


def _even_types(site: Site, indices: tuple[int, ...]) -> str:
    types = _types(site, indices)
    if len(types) <= 1:
        return ""
    widest = max(types, key=_FLOATS.index)
    if types >= set(_FLOATS[:2]):  # neither of float16 and bfloat16 holds the other
        widest = max(widest, ir.DataType.FLOAT, key=_FLOATS.index)
    x = site.operand(0)
    operands = [_cast(site, site.operand(index), widest) for index in indices]
    attributes = {name: attribute.value for name, attribute in site.node.attributes.items()}
    y = site.emit(site.node.op_type, operands, attributes, like=x, dtype=widest)
    site.replace(_cast(site, y, site.dtype()))
    return f"computed in {widest.name.lower()}"


def _cast(site: Site, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    if value.dtype == dtype:
        return value
    return site.emit("Cast", [value], {"to": int(dtype)}, like=value, dtype=dtype)


def layer_norm_down(site: Site) -> str:
    """Write (x - mean) / sqrt(variance + epsilon) * scale + bias, in `stash_type` up to the division."""
    x, axes = site.operand(0), _last_axes(site)
    wide, inner = _stash(site, x)
    mean = _reduce(site, wide, axes)
    centred = site.emit("Sub", [wide, mean], like=wide)
    variance = _reduce(site, site.emit("Mul", [centred, centred], like=wide), axes)
    deviation = _deviation(site, variance, inner)
    normal = _cast_if(site, site.emit("Div", [centred, deviation], like=wide), x, inner)
    scaled = site.emit("Mul", [normal, site.operand(1)], like=x)
    bias = site.input(2)
    results = [scaled if bias is None else site.emit("Add", [scaled, bias], like=x)]
    if len(site.node.outputs) > 1:
        one = site.constant("one", np.array(1.0), inner)
        results = [*results, mean, site.emit("Div", [one, deviation], like=deviation)]
    site.replace(*results)
    return "mean, variance and scale written out"


def rms_norm_down(site: Site) -> str:
    """Write x / sqrt(mean(x²) + epsilon) * scale, in `stash_type` up to the division."""
    x, axes = site.operand(0), _last_axes(site)
    wide, inner = _stash(site, x)
    square = _reduce(site, site.emit("Mul", [wide, wide], like=wide), axes)
    normal = site.emit("Div", [wide, _deviation(site, square, inner)], like=wide)
    site.replace(site.emit("Mul", [_cast_if(site, normal, x, inner), site.operand(1)], like=x))
    return "root mean square and scale written out"


def _last_axes(site: Site) -> list[int]:
    axis = int(site.attribute("axis", -1))
    return list(range(axis, 0)) if axis < 0 else list(range(axis - site.rank(), 0))


def _stash(site: Site, x: ir.Value) -> tuple[ir.Value, ir.DataType]:
    """Return the data in the type to compute in, and that type."""
    inner = ir.DataType(site.attribute("stash_type", int(ir.DataType.FLOAT)))
    held = site.dtype()
    # A float64 is not narrowed: the operator's own function body would, onnxruntime does not.
    inner = held if held == ir.DataType.DOUBLE else inner
    return (x if held == inner else site.emit("Cast", [x], {"to": int(inner)}, like=x, dtype=inner)), inner


def _cast_if(site: Site, value: ir.Value, like: ir.Value, inner: ir.DataType) -> ir.Value:
    held = site.dtype()
    return value if held == inner else site.emit("Cast", [value], {"to": int(held)}, like=like)


def _reduce(site: Site, value: ir.Value, axes: list[int]) -> ir.Value:
    rank = None if value.shape is None else len(value.shape)
    dims: Any = None if value.shape is None else [*list(value.shape)[: -len(axes)], *[1] * len(axes)]
    attributes: dict[str, Any] = {"keepdims": 1}
    operands = [value]
    if site.target >= 18:
        operands.append(site.constant("axes", np.array(axes)))
    else:
        attributes["axes"] = axes if rank is None else [axis % rank for axis in axes]
    return site.emit("ReduceMean", operands, attributes, dtype=value.dtype, dims=dims)


def _deviation(site: Site, variance: ir.Value, dtype: ir.DataType) -> ir.Value:
    epsilon = site.constant("epsilon", np.array(site.attribute("epsilon", 1e-5)), dtype)
    return site.emit("Sqrt", [site.emit("Add", [variance, epsilon], like=variance)], like=variance)


def group_norm_up(site: Site) -> str:
    """Repeat scale and bias of each group for its channels."""
    groups, channels = int(site.attribute("num_groups")), _channels(site)
    for index, what in ((1, "scale"), (2, "bias")):
        value = site.operand(index)
        each = site.emit("Reshape", [value, site.constant(f"{what}_column", [groups, 1])], dtype=value.dtype)
        target = site.constant(f"{what}_groups", [groups, channels // groups])
        wide = site.emit("Expand", [each, target], dtype=value.dtype)
        flat = site.constant(f"{what}_channels", [channels])
        site.set_input(index, site.emit("Reshape", [wide, flat], dtype=value.dtype, dims=[channels]))
    return "scale and bias repeated for each channel"


def group_norm_down(site: Site) -> str:
    """Write it as InstanceNormalization of the groups, with their scale and bias (18), or each channel's (21) behind."""
    x, groups, rank = site.operand(0), int(site.attribute("num_groups")), site.rank()
    wide, inner = _stash(site, x)
    shape = site.emit("Shape", [x], dtype=ir.DataType.INT64, dims=[rank])
    rows = site.emit(
        "Reshape", [wide, site.constant("groups", [0, groups, -1])], dtype=inner, dims=[None, groups, None]
    )
    per_group = site.target < 18
    if per_group:
        affine = [_cast(site, site.operand(index), inner) for index in (1, 2)]
    else:
        affine = [site.constant(name, np.full(groups, fill), inner) for name, fill in (("ones", 1), ("zeros", 0))]
    epsilon = {"epsilon": site.attribute("epsilon", 1e-5)}
    normal = site.emit("InstanceNormalization", [rows, *affine], epsilon, like=rows)
    image = site.emit("Reshape", [normal, shape], like=wide)
    if per_group:
        site.replace(_cast_if(site, image, x, inner))
        return "InstanceNormalization of the groups"
    column = site.constant("column", [-1, *[1] * (rank - 2)])
    scale, bias = (site.emit("Reshape", [site.operand(index), column], dtype=x.dtype) for index in (1, 2))
    scaled = site.emit("Mul", [_cast_if(site, image, x, inner), scale], like=x)
    site.replace(site.emit("Add", [scaled, bias], like=x))
    return "InstanceNormalization of the groups, Mul, Add"


def _channels(site: Site) -> int:
    channels = site.dims()[1]
    if channels is None:
        raise CannotConvertError("its number of channels is open", "fix the input's shape")
    return channels
