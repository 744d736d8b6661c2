"""Gradients of convolutions (ONNX operators Conv and ConvTranspose), in any number of dimensions and groups.

With the windows of `windows.py`, y[o] = sum over t of w[t] x[o s - p + t d]:

1. Data. gx is the transposed convolution of g with the same w. With stride 1 that is a convolution of g with w reversed and
   its channels swapped, padded by d (k - 1) - p, which runs several times faster in onnxruntime than ConvTranspose, most of
   all depthwise. A strided depthwise one becomes such a convolution of g with zeros put between its elements.
2. Weights. gw is a convolution of x with g as its kernel, strides and dilations swapped, batch and channels transposed.
   Groups: x (N, G C, ...) is seen as (C, G N, ...). Without a window to speak of (1x1) it is a product of matrices.
3. ConvTranspose is the transposed map of x: gx is a Conv of g with w, gw as in 2 with x and g in each other's role.

Negative padding (more is cut off than a window is long) is a cut before the convolution.
"""

from __future__ import annotations

import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.conv_weights import kernel_gradient
from pgc_graph.autodiff.cuts import cut_to, flip, pad
from pgc_graph.autodiff.forms import positive_axes, reduce, reshape, transpose
from pgc_graph.autodiff.stretch import put_zeros_between
from pgc_graph.autodiff.windows import Windows, transposed_windows, windows

__all__ = ["conv", "conv_transpose"]


def conv(context: Context) -> Gradients:
    """y = w * x + b."""
    x, w, g = context.operand(0), context.operand(1), context.gradient
    groups = int(context.attribute("group", 1))
    found = windows(context, context.static_dims(w)[2:], x, context.y)
    return [
        _conv_data(context, g, w, found, groups, x) if context.wants(0) else None,
        kernel_gradient(context, x, g, w, found, groups) if context.wants(1) else None,
        _bias(context, g) if context.wants(2) else None,
    ]


def conv_transpose(context: Context) -> Gradients:
    """y = the transposed map of * applied to x, plus b (case 3)."""
    x, w, g = context.operand(0), context.operand(1), context.gradient
    groups = int(context.attribute("group", 1))
    found = transposed_windows(context, context.static_dims(w)[2:], x, context.y)
    gx = None
    if context.wants(0):
        gx = _convolve(context, g, w, found.begins, found.ends, found.strides, found.dilations, groups)
        gx = cut_to(context, gx, x, [axis for axis in found.axes if context.dims(gx)[axis] != context.dims(x)[axis]])
    return [
        gx,
        kernel_gradient(context, g, x, w, found, groups) if context.wants(1) else None,
        _bias(context, g) if context.wants(2) else None,
    ]


def _bias(context: Context, g: ir.Value) -> ir.Value:
    axes = positive_axes([0, *range(2, context.rank(g))], context.rank(g))
    return reduce(context, "ReduceSum", g, axes, keepdims=False)


def _conv_data(context: Context, g: ir.Value, w: ir.Value, found: Windows, groups: int, x: ir.Value) -> ir.Value:
    """Case 1."""
    rest = found.remainders
    ends = tuple(span - end for span, end in zip(found.spans, found.ends, strict=True))
    begins = tuple(span - begin for span, begin in zip(found.spans, found.begins, strict=True))
    fixed = all(isinstance(dim, int) for dim in (*found.wide, *found.narrow))
    outputs, inputs = context.static_dims(w)[:2]
    if all(stride == 1 for stride in found.strides):
        gx = _convolve(context, g, _swapped(context, w, groups), begins, ends, None, found.dilations, groups)
    elif fixed and inputs == 1 and outputs == groups:
        stuffed = put_zeros_between(context, g, found.strides)
        # Behind the last element s - 1 zeros were put as well: so much less padding, and more for what no stride reached.
        spare = zip(ends, rest, found.strides, strict=True)
        ends = tuple(end + (left or 0) - (stride - 1) for end, left, stride in spare)
        gx = _convolve(context, stuffed, _swapped(context, w, groups), begins, ends, None, found.dilations, groups)
    else:
        gx = _conv_transposed(context, g, w, found, groups)
        gx = cut_to(context, gx, x, [axis for axis, left in zip(found.axes, rest, strict=True) if left is None])
    gx.shape = x.shape
    return gx


def _conv_transposed(context: Context, g: ir.Value, w: ir.Value, found: Windows, groups: int) -> ir.Value:
    """Write a ConvTranspose that is as long as the input, or longer where its length is unknown."""
    rest = [stride - 1 if left is None else left for left, stride in zip(found.remainders, found.strides, strict=True)]
    extra = [max(left - end, 0) for left, end in zip(rest, found.ends, strict=True)]
    ends = [max(end - left, 0) for left, end in zip(rest, found.ends, strict=True)]
    return context.emit(
        "ConvTranspose",
        g,
        w,
        strides=list(found.strides),
        dilations=list(found.dilations),
        group=groups,
        pads=[*found.begins, *ends],
        output_padding=extra if any(extra) else None,
    )


def _swapped(context: Context, w: ir.Value, groups: int) -> ir.Value:
    """Reverse a kernel and swap its channels: (G M, C, ...) to (G C, M, ...)."""
    outputs, inputs, *kernel = context.static_dims(w)
    reversed_kernel = flip(context, w, [axis for axis, size in enumerate(kernel, 2) if size > 1])
    if inputs == 1 and outputs == groups:
        return reversed_kernel
    if groups == 1:
        return transpose(context, reversed_kernel, [1, 0, *range(2, 2 + len(kernel))])
    split = reshape(context, reversed_kernel, [groups, outputs // groups, inputs, *kernel])
    turned = transpose(context, split, [0, 2, 1, *range(3, 3 + len(kernel))])
    return reshape(context, turned, [groups * inputs, outputs // groups, *kernel])


def _convolve(
    context: Context,
    x: ir.Value,
    w: ir.Value,
    begins: tuple[int, ...],
    ends: tuple[int, ...],
    strides: tuple[int, ...] | None,
    dilations: tuple[int, ...],
    groups: int,
) -> ir.Value:
    """Write a Conv whose padding may be negative."""
    cuts = {axis: (min(b, 0), min(e, 0)) for axis, (b, e) in enumerate(zip(begins, ends, strict=True), 2)}
    return context.emit(
        "Conv",
        pad(context, x, cuts),
        w,
        strides=None if strides is None else list(strides),
        dilations=list(dilations),
        group=groups,
        pads=[max(side, 0) for side in (*begins, *ends)],
    )
