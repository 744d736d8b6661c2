"""Repeat elements, or put zeros between them, by ways that onnxruntime runs fast.

Where the forms differ (ONNX operator pages): Upsample until opset 9, Resize from 10 on, which takes a region of interest
and says how it rounds from 11 on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pgc_graph.autodiff.context import Writer

__all__ = ["put_zeros_between", "repeat_elements"]


def repeat_elements(writer: Writer, x: ir.Value, times: Sequence[int]) -> ir.Value:
    """Repeat each element of the spatial axes of (N, C, ...), so many times an axis."""
    if all(count == 1 for count in times):
        return x
    scales = writer.constant([1.0, 1.0, *map(float, times)], dtype=ir.DataType.FLOAT)
    if writer.opset < 10:
        return writer.emit("Upsample", x, scales, mode="nearest")
    if writer.opset < 11:
        return writer.emit("Resize", x, scales, mode="nearest")
    region = writer.constant([], dtype=ir.DataType.FLOAT) if writer.opset < 13 else None
    return writer.emit(
        "Resize",
        x,
        region,
        scales,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def put_zeros_between(writer: Writer, x: ir.Value, strides: Sequence[int]) -> ir.Value:
    """Put stride - 1 zeros behind each element of the spatial axes of (N, C, ...), whose sizes are known.

    Raises:
        UnsupportedError: They are not.
    """
    if all(stride == 1 for stride in strides):
        return x
    sizes = writer.static_dims(x, range(2, 2 + len(strides)))
    mask = np.zeros([size * stride for size, stride in zip(sizes, strides, strict=True)])
    mask[tuple(slice(None, None, stride) for stride in strides)] = 1.0
    return writer.emit("Mul", repeat_elements(writer, x, strides), writer.constant(mask, like=x))
