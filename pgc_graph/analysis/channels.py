"""Which axis of a tensor holds its channels.

The question is answered by following the tensor back to an operator that knows:

1. a tensor of rank 2 is `(N, C)`: axis 1;
2. convolutions, poolings and normalisations over batches or instances have their channels on axis 1 (ONNX operator
   pages);
3. MatMul and LayerNormalization have them on the last axis;
4. Transpose moves them, elementwise operators and the like keep them;
5. an image input has them where its dimension is 3.

Where the way back ends elsewhere, rank 4 and 5 are taken for NCHW and NCDHW; for rank 3 there is no good guess: feature
maps are `(N, C, L)`, tokens are `(N, T, C)`.
"""

from __future__ import annotations

from collections import deque

import onnx_ir as ir

from pgc_graph.analysis.interface import image_input

__all__ = ["channel_axis", "channel_count", "feature_map_axis"]

_CHANNELS_FIRST = frozenset(
    {
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "DepthToSpace",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "GroupNormalization",
        "InstanceNormalization",
        "LRN",
        "LpPool",
        "MaxPool",
        "QLinearConv",
        "SpaceToDepth",
    }
)
_CHANNELS_LAST = frozenset({"MatMul", "Gemm", "LayerNormalization", "RMSNormalization"})
_KEEPS_AXES = frozenset(
    {
        "Abs",
        "Add",
        "Cast",
        "CastLike",
        "Celu",
        "Clip",
        "Concat",
        "Div",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "Pow",
        "Relu",
        "Resize",
        "Selu",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Swish",
        "Tanh",
        "Where",
    }
)
_UNKNOWN = -1


def channel_axis(value: ir.Value) -> int | None:
    """Return the axis that holds a tensor's channels, or None if it has none or nothing tells which."""
    if value.shape is None or len(value.shape) < 2:
        return None
    rank, permutations = len(value.shape), list[list[int]]()
    current, seen = value, set[ir.Value]()
    axis = _known_axis(current, rank)
    while axis is None and current not in seen:
        seen.add(current)
        node = current.producer()
        source = None if node is None else _source(node, rank)
        if node is None or source is None:
            axis = 1 if rank in (4, 5) else _UNKNOWN
        else:
            if node.op_type == "Transpose":
                permutations.append(_permutation(node, rank))
            current = source
            axis = _known_axis(current, rank)
    if axis is None or axis == _UNKNOWN:
        return None
    for permutation in reversed(permutations):
        axis = permutation.index(axis)
    return axis


def channel_count(value: ir.Value) -> int | None:
    """Return how many channels a tensor has, or None if that is unknown."""
    axis = channel_axis(value)
    size = None if axis is None or value.shape is None else value.shape[axis]
    return size if isinstance(size, int) else None


def feature_map_axis(value: ir.Value | None, model: ir.Model) -> int:
    """Return where a tensor of rank 4 has its channels, 1 or 3, by the graph alone: no shape need be known.

    Every operand is followed upstream, to the model's image or to an operator that fixes the layout; 1 where neither is.
    """
    queue, seen = deque([value] if value is not None else []), set[int]()
    while queue:
        current = queue.popleft()
        if id(current) in seen:
            continue
        seen.add(id(current))
        node = current.producer()
        if node is None:
            if current.is_graph_input() and current.name == image_input(model).name:
                return _image_axis(model)
        elif node.op_type in _CHANNELS_FIRST:
            return 1
        elif node.op_type == "Transpose" and len(node.attributes.get_ints("perm", ())) == 4:
            return 3 if tuple(node.attributes.get_ints("perm")) == (0, 2, 3, 1) else 1
        else:
            queue.extend(operand for operand in node.inputs if operand is not None)
    return 1


def _image_axis(model: ir.Model) -> int:
    shape = image_input(model).shape
    layout = model.metadata_props.get("pgc.layout") or ("NCHW" if shape[1] == 3 or shape[3] != 3 else "NHWC")
    return 3 if layout == "NHWC" else 1


def _known_axis(value: ir.Value, rank: int) -> int | None:
    if rank == 2:
        return 1
    node = value.producer()
    if node is not None:
        if node.op_type in _CHANNELS_FIRST:
            return 1
        return rank - 1 if node.op_type in _CHANNELS_LAST else None
    if value.shape is not None and rank == 4 and value.is_graph_input():
        return next((axis for axis in (1, 3) if value.shape[axis] == 3), None)
    return None


def _source(node: ir.Node, rank: int) -> ir.Value | None:
    """Return the operand whose axes a node keeps or permutes, or None if it does neither."""
    if node.op_type == "Transpose":
        return node.inputs[0]
    if node.op_type not in _KEEPS_AXES:
        return None
    for operand in node.inputs:
        if operand is not None and operand.const_value is None and operand.shape is not None:
            producer = operand.producer()
            constant = producer is not None and producer.op_type == "Constant"
            if len(operand.shape) == rank and not constant:
                return operand
    return None


def _permutation(node: ir.Node, rank: int) -> list[int]:
    attribute = node.attributes.get("perm")
    return list(reversed(range(rank))) if attribute is None else list(attribute.as_ints())
