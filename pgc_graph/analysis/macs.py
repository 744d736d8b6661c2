"""Count multiply-accumulates (MACs).

Counting rules. One MAC is one multiplication with its addition; biases, activations, pooling, normalisation and other
elementwise work are not counted. Products with padding zeros are, as is usual.

| operator                              | MACs                                                                      |
|---------------------------------------|---------------------------------------------------------------------------|
| Conv, ConvInteger, QLinearConv        | elements of the output x input channels / groups x elements of the kernel |
| ConvTranspose                         | elements of the input x output channels / groups x elements of the kernel |
| Gemm, MatMul, MatMulInteger, QLinear… | elements of the output x length of the contracted axis                    |

An If counts its costlier branch. Counting is for one image: a symbolic first dimension becomes 1, a fixed batch of the
only input is divided out. Functions are inlined first. What multiplies but cannot be counted is named, never guessed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx.inliner
import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.analysis.interface import dimensions, feed_shapes
from pgc_graph.analysis.names import node_graphs
from pgc_graph.errors import ModelError

__all__ = ["MacCount", "UncountedNode", "count_macs", "count_node_macs"]

# Positions of the two factors among the inputs of a node.
_CONVOLUTIONS = {"Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
_PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
_NO_RULE = frozenset({"Attention", "DeformConv", "Einsum", "GRU", "LSTM", "LinearAttention", "RNN"})
_KEPT_BYTES = 1000


@dataclass(frozen=True)
class UncountedNode:
    """A node that multiplies, or may, and whose MACs are unknown, and why."""

    node: str
    op_type: str
    reason: str


@dataclass(frozen=True)
class MacCount:
    """What one image costs.

    Attributes:
        total: MACs of one image, over the nodes that could be counted.
        by_operator: The same by operator.
        uncounted: Nodes that are missing from it.
        input_shapes: The shape of each input that was assumed, None where unknown.
        batch: The images that these inputs hold.
    """

    total: int
    by_operator: Mapping[str, int]
    uncounted: tuple[UncountedNode, ...]
    input_shapes: Mapping[str, tuple[int | None, ...] | None]
    batch: int = 1


def count_macs(model: ir.Model, *, input_shapes: Mapping[str, Sequence[int]] | None = None) -> MacCount:
    """Count the MACs of one image by the rules above, with shapes from onnx's shape inference.

    Args:
        model: Stays untouched.
        input_shapes: Shapes for some inputs by name; open dimensions of the others come from the model's metadata.

    Raises:
        OptionError: `input_shapes` names an input that does not exist, or contradicts its fixed shape.
        ModelError: The model cannot be serialised or a function cannot be inlined.
    """
    shapes = feed_shapes(model, input_shapes or {})
    graph = ir.from_proto(_inferred(model, shapes)).graph
    counts, uncounted = _count(graph)
    batch = _batch(shapes)
    by_operator = {op_type: macs // batch for op_type, macs in sorted(counts.items())}
    return MacCount(sum(by_operator.values()), by_operator, tuple(uncounted), shapes, batch)


def count_node_macs(model: ir.Model) -> dict[str, float]:
    """Count the MACs of one image node by node, by the name of a node's first output: the main graph's, functions inlined.

    Args:
        model: Stays untouched.

    Raises:
        ModelError: The model cannot be serialised or a function cannot be inlined.
    """
    shapes = feed_shapes(model, {})
    batch = _batch(shapes)
    nodes = [node for node in ir.from_proto(_inferred(model, shapes)).graph if node.outputs]
    return {str(node.outputs[0].name): _node_macs(node)[0] / batch for node in nodes}


def _batch(shapes: Mapping[str, tuple[int | None, ...] | None]) -> int:
    """Return the images in a batch, where there is one input and it is a batch of images."""
    (only,) = shapes.values() if len(shapes) == 1 else (None,)
    return only[0] or 1 if only is not None and len(only) == 4 else 1


def _inferred(model: ir.Model, shapes: Mapping[str, tuple[int | None, ...] | None]) -> onnx.ModelProto:
    """Return the model without its large weights, functions inlined, with the shapes that follow from its inputs'."""
    proto = modelio.to_proto(model)
    _drop_weights(proto.graph)
    symbols: dict[str, int] = {}
    for value in proto.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name) or (), strict=False):
            if dim.dim_param and size is not None:
                symbols[dim.dim_param] = size
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        _fix_dimensions(value, shapes.get(value.name), symbols)
    try:
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"onnx cannot infer the shapes of the model: {' '.join(str(error).split())[:300]}") from error


def _fix_dimensions(
    value: onnx.ValueInfoProto, shape: tuple[int | None, ...] | None, symbols: Mapping[str, int]
) -> None:
    if not value.type.tensor_type.HasField("shape"):
        return
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.WhichOneof("value") != "dim_value":
            size = symbols.get(dim.dim_param) if shape is None else shape[axis]
            if size is not None:
                dim.dim_value = size


def _drop_weights(graph: onnx.GraphProto) -> None:
    # Shape inference serialises the model (2 GiB at most); of large weights only the shape matters. Small tensors
    # stay: they may be the target of a Reshape.
    kept = []
    inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _KEPT_BYTES // 8:
            kept.append(tensor)
        elif tensor.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _count(graph: ir.Graph) -> tuple[Counter[str], list[UncountedNode]]:
    counts: Counter[str] = Counter()
    uncounted: list[UncountedNode] = []
    for node in graph:
        bodies = [_count(body) for body in node_graphs(node)]
        if bodies and node.op_type == "If":
            costliest = max((branch for branch, _ in bodies), key=lambda branch: branch.total())
            counts += costliest
            uncounted += [node for _, missing in bodies for node in missing]
        elif any(body.total() or missing for body, missing in bodies):
            uncounted.append(_uncounted(node, "its body runs an unknown number of times"))
        else:
            macs, reason = _node_macs(node)
            counts[node.op_type] += macs
            uncounted += [_uncounted(node, reason)] if reason else []
    return +counts, uncounted


def _uncounted(node: ir.Node, reason: str) -> UncountedNode:
    return UncountedNode(node.name or str(node.outputs[0].name), node.op_type, reason)


def _node_macs(node: ir.Node) -> tuple[int, str]:
    """Return a node's MACs, or 0 and the reason why they are unknown."""
    if node.domain not in ("", "ai.onnx"):
        return 0, f"no rule for operators of domain {node.domain}"
    if node.op_type in _NO_RULE:
        return 0, "no rule for this operator"
    if node.op_type == "ConvTranspose":
        factors = _elements(node.inputs[0]), _kernel(node.inputs[1])
    elif node.op_type in _CONVOLUTIONS:
        factors = _elements(node.outputs[0]), _kernel(node.inputs[_CONVOLUTIONS[node.op_type][1]])
    elif node.op_type in _PRODUCTS:
        factors = _elements(node.outputs[0]), _contracted(node, *_PRODUCTS[node.op_type])
    else:
        return 0, ""
    if None in factors:
        return 0, "its shapes are unknown"
    return math.prod(factor for factor in factors if factor is not None), ""


def _elements(value: ir.Value | None) -> int | None:
    shape = None if value is None else dimensions(value)
    return None if shape is None else _product(shape)


def _product(dims: Sequence[int | None]) -> int | None:
    known = [dim for dim in dims if dim is not None]
    return math.prod(known) if len(known) == len(dims) else None


def _kernel(value: ir.Value | None) -> int | None:
    """Return the elements of one filter: all axes of the weight but the first."""
    shape = None if value is None else dimensions(value)
    return None if shape is None else _product(shape[1:])


def _contracted(node: ir.Node, first: int, second: int) -> int | None:
    """Return the length of the axis that a matrix product sums over, which either factor tells."""
    axis_first = 0 if _is_transposed(node, "transA") else -1
    axis_second = -1 if _is_transposed(node, "transB") else -2
    for position, axis in ((first, axis_first), (second, axis_second)):
        value = node.inputs[position]
        shape = None if value is None else dimensions(value)
        if shape and shape[max(axis, -len(shape))] is not None:
            return shape[max(axis, -len(shape))]
    return None


def _is_transposed(node: ir.Node, attribute: str) -> bool:
    return node.op_type == "Gemm" and node.attributes.get_int(attribute, 0) != 0
