"""The few forms that nearly every rule needs, each valid in the model's opset.

Where the forms of an operator differ (ONNX operator pages):

    ReduceSum, Squeeze, Unsqueeze    13   axes: attribute -> input
    ReduceMean, ReduceMax, ...       18   axes: attribute -> input
    Clip                             11   bounds: attributes -> inputs
    Equal                            11   compares floats
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from pgc_graph.autodiff.context import Writer
from pgc_graph.autodiff.emitter import Dim

__all__ = [
    "cast",
    "clip",
    "equal",
    "expand_like",
    "mask",
    "one_minus",
    "ones_like",
    "positive_axes",
    "positive_mask",
    "reduce",
    "reshape",
    "reshape_like",
    "scalar",
    "shape_of",
    "squeeze",
    "sum_to",
    "transpose",
    "unsqueeze",
    "zeros_like",
]

_STEEPEST = 3.0e38  # times the least normal float32, 1.2e-38, it is more than 1
_AXES_INPUT_OPSET = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}


def scalar(writer: Writer, number: float, like: ir.Value) -> ir.Value:
    """Return a constant of rank 0 and of another tensor's type."""
    return writer.constant(number, like=like)


def positive_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return axes counted from the front, in rising order."""
    return tuple(sorted(int(axis) % max(rank, 1) for axis in axes))


def reduce(
    writer: Writer, op_type: str, x: ir.Value, axes: Sequence[int] | None = None, *, keepdims: bool = True
) -> ir.Value:
    """Reduce over axes (all where None, none where empty) by ReduceSum, ReduceMean, ReduceMax, ..."""
    if axes is not None and not len(axes):
        return x
    return _with_axes(writer, op_type, x, axes, keepdims=int(keepdims))


def squeeze(writer: Writer, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Drop axes of size 1."""
    return _with_axes(writer, "Squeeze", x, axes) if len(axes) else x


def unsqueeze(writer: Writer, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Insert axes of size 1, counted in the result."""
    return _with_axes(writer, "Unsqueeze", x, axes) if len(axes) else x


def shape_of(writer: Writer, x: ir.Value) -> ir.Value:
    """Return a tensor's shape as an int64 tensor: a constant where it is known."""
    dims = () if x.shape is None else tuple(dim for dim in x.shape if isinstance(dim, int))
    if x.shape is not None and len(dims) == len(x.shape):
        return writer.constant(dims)
    return writer.emit("Shape", x)


def reshape(writer: Writer, x: ir.Value, target: Sequence[int] | ir.Value) -> ir.Value:
    """Reshape; a number 0 copies the dimension, and one -1 takes what is left, as in ONNX."""
    return writer.emit("Reshape", x, target if isinstance(target, ir.Value) else writer.constant(list(target)))


def reshape_like(writer: Writer, x: ir.Value, like: ir.Value) -> ir.Value:
    """Give a tensor the shape of another one with as many elements."""
    if like.shape is not None and x.shape is not None and _dims(x) == _dims(like) and None not in _dims(x):
        return x
    dims = None if like.shape is None else _dims(like)
    open_dims = [] if dims is None else [dim for dim in dims if not isinstance(dim, int)]
    if dims is not None and len(open_dims) <= 1 and 0 not in dims:
        value = reshape(writer, x, [dim if isinstance(dim, int) else -1 for dim in dims])
    else:
        value = reshape(writer, x, writer.emit("Shape", like))
    value.shape = like.shape if like.shape is not None else value.shape
    return value


def expand_like(writer: Writer, x: ir.Value, like: ir.Value) -> ir.Value:
    """Broadcast a tensor to the shape of another one."""
    if like.shape is not None and x.shape is not None and _dims(x) == _dims(like) and None not in _dims(x):
        return x
    value = writer.emit("Expand", x, shape_of(writer, like))
    value.shape = like.shape if like.shape is not None else value.shape
    return value


def zeros_like(writer: Writer, x: ir.Value) -> ir.Value:
    """Return zeros of a tensor's type and shape."""
    return expand_like(writer, scalar(writer, 0.0, x), x)


def ones_like(writer: Writer, x: ir.Value) -> ir.Value:
    """Return ones of a tensor's type and shape."""
    return expand_like(writer, scalar(writer, 1.0, x), x)


def transpose(writer: Writer, x: ir.Value, order: Sequence[int]) -> ir.Value:
    """Permute axes; nothing is emitted where they stay."""
    return x if list(order) == list(range(len(order))) else writer.emit("Transpose", x, perm=list(order))


def cast(writer: Writer, x: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Convert a tensor; nothing is emitted where it has the type already."""
    return x if x.dtype == dtype else writer.emit("Cast", x, to=int(dtype))


def mask(writer: Writer, condition: ir.Value, like: ir.Value) -> ir.Value:
    """Turn a condition into ones and zeros of another tensor's type."""
    return cast(writer, condition, writer.dtype(like))


def one_minus(writer: Writer, x: ir.Value) -> ir.Value:
    """Return 1 - x for numbers in [0, 1]: HardSigmoid, as onnxruntime keeps it in the blocked layout of convolutions."""
    if writer.dtype(x) == ir.DataType.FLOAT:
        return writer.emit("HardSigmoid", x, alpha=-1.0, beta=1.0)
    return writer.emit("Sub", scalar(writer, 1.0, x), x)


def positive_mask(writer: Writer, x: ir.Value) -> ir.Value:
    """Return 1 where x > 0 and 0 elsewhere: in float32 a HardSigmoid (see `one_minus`), steep enough for any number."""
    if writer.dtype(x) == ir.DataType.FLOAT:
        return writer.emit("HardSigmoid", x, alpha=_STEEPEST, beta=0.0)
    return mask(writer, writer.emit("Greater", x, scalar(writer, 0.0, x)), x)


def equal(writer: Writer, a: ir.Value, b: ir.Value) -> ir.Value:
    """Compare floating-point tensors."""
    if writer.opset >= 11:
        return writer.emit("Equal", a, b)
    unequal = writer.emit("Or", writer.emit("Less", a, b), writer.emit("Greater", a, b))
    return writer.emit("Not", unequal)


def clip(writer: Writer, x: ir.Value, low: float | None, high: float | None) -> ir.Value:
    """Keep a tensor within bounds, None where there is none."""
    if writer.opset < 11:
        return writer.emit("Clip", x, min=low, max=high)
    bounds = [None if bound is None else scalar(writer, bound, x) for bound in (low, high)]
    return writer.emit("Clip", x, *bounds)


def sum_to(writer: Writer, x: ir.Value, like: ir.Value, *, spread: Sequence[Dim] | ir.Value | None = None) -> ir.Value:
    """Undo broadcasting: sum a tensor over the axes along which another one was repeated.

    Args:
        writer: Writes nodes: the rule's context.
        x: A gradient of the broadcast shape.
        like: The tensor that was broadcast, and whose shape the result has.
        spread: The dimensions of `x`, or a tensor that has them, such as the node's output, where more may be known of
            them.

    Raises:
        UnsupportedError: A rank is unknown; or, below opset 13, it only shows at run time whether an axis was repeated.
    """
    wide, narrow = _merged(writer, x, spread), writer.dims(like)
    lead = len(wide) - len(narrow)
    pairs = list(zip(wide[lead:], narrow, strict=True))
    ones = [lead + axis for axis, (out, own) in enumerate(pairs) if own == 1 and out != 1]
    unclear = [axis for axis, (out, own) in enumerate(pairs) if _unclear(out, own)]
    leading = list(range(lead))
    if ones:
        value = squeeze(writer, reduce(writer, "ReduceSum", x, [*leading, *ones]), leading)
    else:
        value = reduce(writer, "ReduceSum", x, leading, keepdims=False)
    if unclear:
        value = _sum_at_run_time(writer, value, like)
    if value is not x:
        value.shape = like.shape
    return value


def _sum_at_run_time(writer: Writer, x: ir.Value, like: ir.Value) -> ir.Value:
    """Sum over the axes whose sizes turn out to differ."""
    if writer.opset < 13:
        writer.refuse(
            f"whether {like.name!r} of shape {like.shape} is broadcast only shows at run time, which takes opset 13; fix "
            "its shape, or convert the model to opset 13"
        )
    differs = writer.emit("Not", writer.emit("Equal", writer.emit("Shape", x), writer.emit("Shape", like)))
    axes = reshape(writer, writer.emit("NonZero", differs), [-1])
    return writer.emit("ReduceSum", x, axes, keepdims=1, noop_with_empty_axes=1)


def _unclear(out: Dim, own: Dim) -> bool:
    if isinstance(own, int) or out == 1:
        return False
    return own is None or out != own


def _merged(writer: Writer, x: ir.Value, spread: Sequence[Dim] | ir.Value | None) -> tuple[Dim, ...]:
    """Return the dimensions of `x`, those that are open taken from where more is known."""
    if isinstance(spread, ir.Value):
        spread = None if spread.shape is None else writer.dims(spread)
    if spread is None or x.shape is None:
        return writer.dims(x) if spread is None else tuple(spread)
    pairs = zip(writer.dims(x), spread, strict=True)
    return tuple(theirs if isinstance(theirs, int) or ours is None else ours for ours, theirs in pairs)


def _with_axes(writer: Writer, op_type: str, x: ir.Value, axes: Sequence[int] | None, **attributes: Any) -> ir.Value:
    if axes is None:
        return writer.emit(op_type, x, **attributes)
    listed = [int(axis) for axis in axes]
    if writer.opset >= _AXES_INPUT_OPSET.get(op_type, 18):
        return writer.emit(op_type, x, writer.constant(listed), **attributes)
    return writer.emit(op_type, x, axes=listed, **attributes)


def _dims(value: ir.Value) -> tuple[Dim, ...]:
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape or ())
