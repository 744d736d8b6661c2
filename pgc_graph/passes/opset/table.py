"""Every adapter, by operator and by the opset at whose border it stands.

An adapter `up` takes a node from the opset before to that opset, `down` from it to the one before. A conversion goes
from border to border, so that a node on its way from 21 to 9 meets each of its own, and what one adapter writes meets the
next. A border that is not listed is a relabel, or the node is refused (`schemas.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from pgc_graph.passes.opset import activations as act
from pgc_graph.passes.opset import (
    axes,
    broadcasting,
    comparison,
    normalization,
    operands,
    pooling,
    resize,
    slicing,
    softmax,
    tensors,
)
from pgc_graph.passes.opset.site import Adapter

__all__ = ["ADAPTERS", "Pair", "adapter_for"]


class Pair(NamedTuple):
    """The adapters at one border."""

    up: Adapter | None = None
    down: Adapter | None = None


_AXES = Pair(axes.axes_to_input, axes.axes_to_attribute)
_POSITIVE_AXES = Pair(down=axes.positive_axes)
_POSITIVE_AXIS = Pair(down=axes.positive_axis)
_SOFTMAX = Pair(softmax.softmax_up, softmax.softmax_down)
_REDUCE = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSumSquare"),
)
_WITH_AXIS = ("ArgMax", "ArgMin", "Concat", "Flatten", "Hardmax", "LogSoftmax", "Softmax", "Split")

ADAPTERS: dict[tuple[str, int], Pair] = {
    # axes.py
    **{(op_type, 18): _AXES for op_type in _REDUCE},
    **{(op_type, 13): _AXES for op_type in ("ReduceSum", "Squeeze", "Unsqueeze")},
    **{(op_type, 11): _POSITIVE_AXES for op_type in (*_REDUCE, "ReduceSum", "Squeeze", "Unsqueeze")},
    **{(op_type, 11): _POSITIVE_AXIS for op_type in _WITH_AXIS},
    ("Gather", 11): Pair(down=axes.positive_indices),
    # softmax.py
    **{(op_type, 13): _SOFTMAX for op_type in ("Softmax", "LogSoftmax", "Hardmax")},
    # normalization.py
    ("BatchNormalization", 7): Pair(up=normalization.batchnorm_7_up),
    ("BatchNormalization", 9): Pair(up=normalization.batchnorm_9_up),
    ("BatchNormalization", 14): Pair(normalization.batchnorm_14_up, normalization.batchnorm_14_down),
    ("BatchNormalization", 15): Pair(down=normalization.batchnorm_15_down),
    ("LayerNormalization", 17): Pair(down=normalization.layer_norm_down),
    ("GroupNormalization", 18): Pair(down=normalization.group_norm_down),
    ("GroupNormalization", 21): Pair(normalization.group_norm_up, normalization.group_norm_down),
    ("RMSNormalization", 23): Pair(down=normalization.rms_norm_down),
    # activations.py
    ("Celu", 12): Pair(down=act.celu_down),
    ("HardSwish", 14): Pair(down=act.hard_swish_down),
    ("Mish", 18): Pair(down=act.mish_down),
    ("Gelu", 20): Pair(down=act.gelu_down),
    ("Swish", 24): Pair(down=act.swish_out),
    ("Swish", 25): Pair(up=act.swish_out),
    # operands.py
    ("Clip", 11): Pair(operands.clip_up, operands.clip_down),
    ("Dropout", 7): Pair(up=operands.dropout_7_up),
    ("Dropout", 12): Pair(operands.dropout_up, operands.dropout_down),
    ("TopK", 10): Pair(operands.topk_up, operands.topk_down),
    ("Gemm", 11): Pair(down=operands.gemm_down),
    ("Reshape", 14): Pair(down=operands.reshape_14_down),
    ("Split", 13): Pair(operands.split_13_up, operands.split_13_down),
    ("Split", 18): Pair(operands.split_18_up, operands.split_18_down),
    # slicing.py
    ("Slice", 10): Pair(slicing.slice_10_up, slicing.slice_10_down),
    ("Slice", 11): Pair(down=slicing.slice_11_down),
    ("Pad", 11): Pair(slicing.pad_11_up, slicing.pad_11_down),
    ("Pad", 18): Pair(down=slicing.pad_18_down),
    ("Pad", 19): Pair(down=slicing.pad_19_down),
    # resize.py
    ("Upsample", 9): Pair(resize.upsample_9_up, resize.upsample_9_down),
    ("Upsample", 10): Pair(up=tensors.renamed("Resize")),
    ("Resize", 10): Pair(down=resize.resize_10_down),
    ("Resize", 11): Pair(resize.resize_11_up, resize.resize_11_down),
    ("Resize", 13): Pair(resize.resize_13_up, resize.resize_13_down),
    ("Resize", 18): Pair(down=resize.resize_18_down),
    ("Resize", 19): Pair(down=resize.resize_19_down),
    # pooling.py
    ("MaxPool", 10): Pair(down=pooling.pool_10_down),
    ("AveragePool", 10): Pair(down=pooling.pool_10_down),
    ("AveragePool", 7): Pair(up=pooling.average_pool_7_up),
    ("RoiAlign", 16): Pair(pooling.roi_align_up, pooling.roi_align_down),
    # broadcasting.py
    ("PRelu", 7): Pair(up=broadcasting.prelu_up),
    **{(op_type, 8): Pair(down=broadcasting.equal_shapes) for op_type in ("Max", "Mean", "Min", "Sum")},
    # comparison.py
    ("IsNaN", 9): Pair(down=comparison.is_nan_down),
    ("Equal", 11): Pair(down=comparison.equal_down),
    ("Pow", 12): Pair(down=comparison.pow_down),
    ("LessOrEqual", 12): Pair(down=comparison.or_equal_down("Greater")),
    ("GreaterOrEqual", 12): Pair(down=comparison.or_equal_down("Less")),
    # tensors.py
    ("Constant", 12): Pair(down=tensors.constant_down),
    ("Shape", 15): Pair(down=tensors.shape_down),
    ("CastLike", 15): Pair(down=tensors.cast_like_down),
    ("Scatter", 11): Pair(up=tensors.renamed("ScatterElements")),
    ("ScatterElements", 11): Pair(down=tensors.renamed("Scatter")),
    ("GridSample", 20): Pair(tensors.grid_sample_up, tensors.grid_sample_down),
    ("QuantizeLinear", 13): Pair(down=tensors.quantization_13_down),
    ("DequantizeLinear", 13): Pair(down=tensors.quantization_13_down),
}


def adapter_for(op_type: str, source: int, target: int) -> Adapter | None:
    """Return what takes an operator from one opset to its neighbour, or None if nothing is needed or known."""
    pair = ADAPTERS.get((op_type, max(source, target)), Pair())
    return pair.up if target > source else pair.down
