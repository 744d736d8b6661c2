"""How far a fast way of running a model may be from the plain one."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

__all__ = ["allowed_difference", "usual_difference"]

_TOLERANCE = {ir.DataType.FLOAT16: 1e-2}
_DEFAULT = 1e-5
_ROUNDING_MARGIN = 4
_ROUNDING_LIMIT = 1e-2


def usual_difference(dtype: ir.DataType) -> float:
    """Return the largest difference that nobody looks into, by what the model computes with."""
    return _TOLERANCE.get(dtype, _DEFAULT)


def allowed_difference(dtype: ir.DataType, difference: float, rounding: Callable[[], float]) -> float:
    """Return the largest difference that is put down to rounding.

    Args:
        dtype: What the model computes with.
        difference: The one that was found.
        rounding: Measures how far the plain way is from itself where onnxruntime computes in another order; asked only
            if the difference is more than usual. Some networks amplify rounding.
    """
    allowed = usual_difference(dtype)
    return allowed if difference <= allowed else max(allowed, min(_ROUNDING_LIMIT, _ROUNDING_MARGIN * rounding()))
