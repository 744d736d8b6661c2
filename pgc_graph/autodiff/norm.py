"""Gradients of normalisation (ONNX operators Softmax, BatchNormalization, LayerNormalization, GroupNormalization, ...).

Softmax       y (g - sum g y)            over the axis; before opset 13 over it and all axes behind it
LogSoftmax    g - exp(y) sum g
BatchNormalization in inference: y = scale r (x - mean) + bias with r = 1 / sqrt(variance + epsilon), so
              scale r g;  sum g r (x - mean);  sum g;  -scale r sum g;  -scale r³ / 2 sum g (x - mean)
all others    y = scale n + bias with n = r (x - mean), mean and r taken over some axes of x itself:
              r (h - mean(h) - n mean(h n)) with h = scale g;  sum g n;  sum g
              (Ba, Kiros and Hinton, "Layer Normalization", 2016; without mean(h) for RMSNormalization)
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import cast, reduce, reshape, reshape_like, scalar, sum_to, unsqueeze

__all__ = [
    "batch_normalization",
    "group_normalization",
    "instance_normalization",
    "layer_normalization",
    "log_softmax",
    "softmax",
]

_SOFTMAX_OPSET = 13  # before, all axes from `axis` on counted as one
_GROUP_SCALE_OPSET = 21  # before, GroupNormalization had one scale a group instead of one a channel
_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def softmax(context: Context) -> Gradients:
    """y = exp(x) / sum exp(x)."""
    y, g = context.y, context.gradient
    total = reduce(context, "ReduceSum", context.emit("Mul", g, y), _softmax_axes(context))
    return [context.emit("Mul", y, context.emit("Sub", g, total))]


def log_softmax(context: Context) -> Gradients:
    """y = x - log sum exp(x)."""
    total = reduce(context, "ReduceSum", context.gradient, _softmax_axes(context))
    return [context.emit("Sub", context.gradient, context.emit("Mul", context.emit("Exp", context.y), total))]


def _softmax_axes(context: Context) -> list[int]:
    if context.opset >= _SOFTMAX_OPSET:
        return [int(context.attribute("axis", -1))]
    rank = context.rank(context.operand())
    return list(range(int(context.attribute("axis", 1)) % max(rank, 1), rank))


def batch_normalization(context: Context) -> Gradients:
    """y = scale (x - mean) / sqrt(variance + epsilon) + bias, one of each a channel."""
    if context.attribute("training_mode", 0) or len(context.node.outputs) > 1:
        context.refuse("it is in training mode, expected inference; export the model in inference mode")
    x, scale, mean, variance = (context.operand(index) for index in (0, 1, 3, 4))
    g, rank = context.gradient, context.rank(x)
    shifted = context.emit("Add", variance, scalar(context, context.attribute("epsilon", 1e-5), variance))
    r = context.emit("Reciprocal", context.emit("Sqrt", shifted))
    factor = context.emit("Mul", cast(context, scale, context.dtype(r)), r)
    gx = context.emit("Mul", g, _per_channel(context, factor, x, rank)) if context.wants(0) else None
    found: list[ir.Value | None] = [gx, None, None, None, None]
    if not any(context.wanted[1:]):
        return found
    others = [axis for axis in range(rank) if axis != 1]
    total = cast(context, reduce(context, "ReduceSum", g, others, keepdims=False), context.dtype(r))
    centred = context.emit("Sub", x, _per_channel(context, mean, x, rank))
    moment = reduce(context, "ReduceSum", context.emit("Mul", g, centred), others, keepdims=False)
    moment = cast(context, moment, context.dtype(r))
    half_cube = context.emit("Mul", context.emit("Mul", factor, context.emit("Mul", r, r)), scalar(context, -0.5, r))
    found[1] = context.emit("Mul", moment, r)
    found[2] = total
    found[3] = context.emit("Neg", context.emit("Mul", factor, total))
    found[4] = context.emit("Mul", moment, half_cube)
    return [
        cast(context, value, context.dtype(context.operand(index))) if value is not None and wanted else None
        for index, (value, wanted) in enumerate(zip(found, context.wanted, strict=True))
    ]


def layer_normalization(context: Context) -> Gradients:
    """y = scale n + bias, normalised over `axis` and all axes behind it (also RMSNormalization)."""
    x = context.operand()
    rank = context.rank(x)
    axes = range(int(context.attribute("axis", -1)) % rank, rank)
    return _normalised(context, x, context.gradient, axes, centre=context.node.op_type != "RMSNormalization")


def instance_normalization(context: Context) -> Gradients:
    """y = scale n + bias with one scale a channel, normalised over the axes behind the channels."""
    x = context.operand()
    return _normalised(context, x, context.gradient, range(2, context.rank(x)), per_channel=True)


def group_normalization(context: Context) -> Gradients:
    """y = scale n + bias with one scale a channel, normalised over each group of channels and the axes behind them.

    Statistics are taken with each group as a row: (N, C, ...) -> (N, groups, rest).
    """
    if context.opset < _GROUP_SCALE_OPSET:
        context.refuse(f"its form before opset {_GROUP_SCALE_OPSET} is withdrawn; convert the model")
    x, groups = context.operand(), int(context.attribute("num_groups"))
    work, rank = _work_type(context, x), context.rank(x)
    g, scale = cast(context, context.gradient, work), cast(context, context.operand(1), work)
    n, r = _statistics(context, reshape(context, cast(context, x, work), [0, groups, -1]), [2])
    weighed = context.emit("Mul", g, _per_channel(context, scale, g, rank))
    rows = _input_gradient(context, reshape(context, weighed, [0, groups, -1]), n, r, [2])
    gx = cast(context, reshape_like(context, rows, x), context.dtype(x))
    return [gx, *_scale_and_bias(context, g, reshape_like(context, n, x), per_channel=True)]


def _normalised(
    context: Context, x: ir.Value, g: ir.Value, axes: Sequence[int], *, centre: bool = True, per_channel: bool = False
) -> Gradients:
    work, rank = _work_type(context, x), context.rank(x)
    n, r = _statistics(context, cast(context, x, work), axes, centre=centre)
    wide = cast(context, g, work)
    scale = cast(context, context.operand(1), work)
    weighed = context.emit("Mul", wide, _per_channel(context, scale, x, rank) if per_channel else scale)
    gx = cast(context, _input_gradient(context, weighed, n, r, axes, centre=centre), context.dtype(x))
    return [gx, *_scale_and_bias(context, wide, n, per_channel=per_channel)]


def _scale_and_bias(context: Context, g: ir.Value, n: ir.Value, *, per_channel: bool) -> Gradients:
    """Return sum g n and sum g in the shapes of scale and bias."""
    found: list[ir.Value | None] = []
    for index, part in ((1, context.emit("Mul", g, n)), (2, g)):
        own = context.input(index)
        if own is None or not context.wants(index):
            found.append(None)
        elif per_channel:
            others = [axis for axis in range(context.rank(context.y)) if axis != 1]
            total = reduce(context, "ReduceSum", part, others, keepdims=False)
            found.append(cast(context, total, context.dtype(own)))
        else:
            found.append(cast(context, sum_to(context, part, own, spread=context.y), context.dtype(own)))
    return found


def _statistics(
    context: Context, x: ir.Value, axes: Sequence[int], *, centre: bool = True
) -> tuple[ir.Value, ir.Value]:
    """Return the normalised tensor and 1 / sqrt(variance + epsilon) over axes."""
    centred = context.emit("Sub", x, reduce(context, "ReduceMean", x, axes)) if centre else x
    variance = reduce(context, "ReduceMean", context.emit("Mul", centred, centred), axes)
    shifted = context.emit("Add", variance, scalar(context, context.attribute("epsilon", 1e-5), x))
    r = context.emit("Reciprocal", context.emit("Sqrt", shifted))
    return context.emit("Mul", centred, r), r


def _input_gradient(
    context: Context, h: ir.Value, n: ir.Value, r: ir.Value, axes: Sequence[int], *, centre: bool = True
) -> ir.Value:
    """Return r (h - mean(h) - n mean(h n))."""
    along = context.emit("Mul", n, reduce(context, "ReduceMean", context.emit("Mul", h, n), axes))
    rest = context.emit("Sub", h, reduce(context, "ReduceMean", h, axes)) if centre else h
    return context.emit("Mul", r, context.emit("Sub", rest, along))


def _per_channel(context: Context, vector: ir.Value, x: ir.Value, rank: int) -> ir.Value:
    """Shape one number a channel so that it broadcasts over a tensor with channels on axis 1, in the tensor's type."""
    return unsqueeze(context, cast(context, vector, context.dtype(x)), list(range(1, rank - 1)))


def _work_type(context: Context, x: ir.Value) -> ir.DataType:
    """Statistics of half-precision tensors are taken in float32, as the operators do."""
    dtype = context.dtype(x)
    return ir.DataType.FLOAT if dtype in _NARROW else dtype
