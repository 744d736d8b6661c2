"""Where the windows of a convolution or a pooling lie.

Window o covers the positions o s - p + t d for t = 0 ... k - 1 of an axis, for stride s, padding p before the axis,
dilation d and kernel size k (ONNX operators Conv, ConvTranspose, AveragePool, MaxPool, LpPool; attribute `auto_pad`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.autodiff.context import Context
from pgc_graph.autodiff.emitter import Dim

__all__ = ["Windows", "transposed_windows", "window_positions", "windows"]


@dataclass(frozen=True)
class Windows:
    """Sliding windows over the spatial axes, one number an axis.

    Attributes:
        kernel: Sizes k.
        strides: Strides s.
        dilations: Dilations d.
        begins: Padding p before the axis.
        ends: Padding after it.
        wide: Sizes of the side that windows slide over, as far as known.
        narrow: How many windows there are, as far as known.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    wide: tuple[Dim, ...]
    narrow: tuple[Dim, ...]

    @property
    def axes(self) -> range:
        """The spatial axes, which follow batch and channels."""
        return range(2, 2 + len(self.kernel))

    @property
    def spans(self) -> tuple[int, ...]:
        """From the first to the last position of a window: d (k - 1)."""
        return tuple(d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True))

    @property
    def remainders(self) -> tuple[int | None, ...]:
        """How many padded positions at the end no stride reaches (below 0: the last window ends behind them)."""
        sizes = zip(self.wide, self.narrow, self.begins, self.ends, self.spans, self.strides, strict=True)
        return tuple(
            (wide + begin + end - span - 1) - (narrow - 1) * stride
            if isinstance(wide, int) and isinstance(narrow, int)
            else (0 if stride == 1 else None)
            for wide, narrow, begin, end, span, stride in sizes
        )


def windows(context: Context, kernel: tuple[int, ...], x: ir.Value, y: ir.Value) -> Windows:
    """Read the windows of a Conv or a pooling from its attributes.

    Args:
        context: The node.
        kernel: Its kernel sizes.
        x: What the windows slide over.
        y: One element a window.

    Raises:
        UnsupportedError: Padding depends on sizes that only show at run time.
    """
    ones = (1,) * len(kernel)
    strides = tuple(context.attribute("strides", ones))
    dilations = tuple(context.attribute("dilations", ones))
    wide = context.dims(x)[2:]
    spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    mode = context.attribute("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = tuple(context.attribute("pads", (0,) * (2 * len(kernel))))
        begins, ends = pads[: len(kernel)], pads[len(kernel) :]
    elif mode == "VALID":
        begins = ends = (0,) * len(kernel)
    else:
        totals = [_same(context, x, *sizes) for sizes in zip(wide, strides, spans, strict=True)]
        begins, ends = _halves(totals, more_at_end=mode == "SAME_UPPER")
    return Windows(kernel, strides, dilations, begins, ends, wide, context.dims(y)[2:])


def transposed_windows(context: Context, kernel: tuple[int, ...], x: ir.Value, y: ir.Value) -> Windows:
    """Read the windows of a ConvTranspose: they slide over its output, and its input has one element a window.

    Raises:
        UnsupportedError: Padding depends on sizes that only show at run time, or the output's shape is not known rightly.
    """
    if context.rank(y) != context.rank(x):
        # onnx infers too few dimensions for a ConvTranspose whose output_shape is smaller than its input.
        context.refuse(f"its output is said to be of shape {y.shape}, of another rank than its input; state its shape")
    ones = (1,) * len(kernel)
    strides = tuple(context.attribute("strides", ones))
    dilations = tuple(context.attribute("dilations", ones))
    extra = tuple(context.attribute("output_padding", (0,) * len(kernel)))
    spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    mode = context.attribute("auto_pad", "NOTSET")
    if context.attribute("output_shape") is None and mode in ("NOTSET", "", "VALID"):
        none = (0,) * (2 * len(kernel))
        pads = none if mode == "VALID" else tuple(context.attribute("pads", none))
        begins, ends = pads[: len(kernel)], pads[len(kernel) :]
    else:
        axes = range(2, 2 + len(kernel))
        sizes = zip(context.static_dims(x, axes), context.static_dims(y, axes), strides, spans, extra, strict=True)
        totals = [max((narrow - 1) * s + span + 1 + e - wide, 0) for narrow, wide, s, span, e in sizes]
        begins, ends = _halves(totals, more_at_end=mode == "SAME_UPPER")
    # What output_padding adds lies behind the last window, like padding that is taken back.
    ends = tuple(end - more for end, more in zip(ends, extra, strict=True))
    return Windows(kernel, strides, dilations, begins, ends, context.dims(y)[2:], context.dims(x)[2:])


def window_positions(found: Windows, axis: int) -> NDArray[np.int64]:
    """Return which position each tap of each window reads, (windows, taps); those in the padding lie outside the axis.

    Args:
        found: Windows whose number is known.
        axis: Which spatial axis, from 0.
    """
    count = found.narrow[axis]
    if not isinstance(count, int):
        raise ValueError(f"the number of windows on axis {axis} is {count}")
    starts = np.arange(count)[:, None] * found.strides[axis] - found.begins[axis]
    return starts + np.arange(found.kernel[axis])[None] * found.dilations[axis]


def _same(context: Context, x: ir.Value, size: Dim, stride: int, span: int) -> int:
    if stride == 1:
        return span
    if not isinstance(size, int):
        context.refuse(
            f"auto_pad depends on the shape {x.shape} of {x.name!r}, expected fixed dimensions; fix them first"
        )
    return max((-(-size // stride) - 1) * stride + span + 1 - size, 0)


def _halves(totals: list[int], *, more_at_end: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if more_at_end else (large, small)
