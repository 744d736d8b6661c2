"""What a model is, in numbers: interface, operators, parameters, MACs, metadata, Sigmoid→Mul tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.macs import MacCount, count_macs
from pgc_graph.analysis.names import all_nodes
from pgc_graph.analysis.targets import Target, find_targets

__all__ = ["ModelSummary", "ParameterCount", "TensorInfo", "count_parameters", "summarise"]

_INDEX_TYPES = frozenset({ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING})


@dataclass(frozen=True)
class TensorInfo:
    """An input or output.

    Attributes:
        name: Its tensor name.
        dtype: Its element type, `?` where unknown or not a tensor.
        shape: A number, a symbol or None (unknown) a dimension; None if the rank is unknown.
        has_default: Whether it is an initializer that whoever runs the model can override.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    has_default: bool = False


@dataclass(frozen=True)
class ParameterCount:
    """The numbers that a model stores: initializers and Constant nodes of every scope; a shared tensor counts once.

    Attributes:
        tensors: How many tensors.
        elements: How many numbers.
        bytes: Their size, without the names and shapes around them.
        weights: Of the numbers, those that training finds: all but statistics and indices.
        statistics: Of the numbers, the running means and variances of BatchNormalization, which are not trained.
        indices: Of the numbers, those of int64, bool and string tensors: shapes, axes and the like.
    """

    tensors: int
    elements: int
    bytes: int
    weights: int
    statistics: int
    indices: int


@dataclass(frozen=True)
class ModelSummary:
    """What a model is.

    Attributes:
        ir_version: Of the file format.
        opset_imports: Version by domain; the default domain is the empty string.
        producer: Name and version of the tool that wrote the model.
        inputs: What can be fed.
        outputs: What comes out.
        nodes: Nodes in every scope.
        operators: Nodes by operator (`domain.Operator` outside the default domain), most frequent first.
        functions: Names of model-local functions.
        parameters: What the model stores.
        macs: What one image costs.
        sigmoid_mul: The Sigmoid→Mul tensors of the main graph, in graph order.
        metadata: The model's `metadata_props`.
        file_bytes: Size of the file, None for a model that was not read from one.
        external_bytes: Size of the weights that lie beside the file.
    """

    ir_version: int
    opset_imports: Mapping[str, int]
    producer: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: int
    operators: Mapping[str, int]
    functions: tuple[str, ...]
    parameters: ParameterCount
    macs: MacCount
    sigmoid_mul: tuple[Target, ...]
    metadata: Mapping[str, str]
    file_bytes: int | None
    external_bytes: int


def summarise(
    model: ir.Model, *, input_shapes: Mapping[str, Sequence[int]] | None = None, file_bytes: int | None = None
) -> ModelSummary:
    """Describe a model.

    Args:
        model: Stays untouched.
        input_shapes: Shapes for some inputs by name, where MACs depend on them.
        file_bytes: Size of the file that the model came from.

    Raises:
        OptionError: `input_shapes` names an input that does not exist, or contradicts its fixed shape.
        ModelError: The model's shapes cannot be inferred.
    """
    operators = Counter(_operator(node) for node in all_nodes(model))
    defaults = model.graph.initializers
    return ModelSummary(
        ir_version=model.ir_version,
        opset_imports=dict(model.opset_imports),
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        inputs=tuple(_info(value, has_default=value.name in defaults) for value in model.graph.inputs),
        outputs=tuple(_info(value) for value in model.graph.outputs),
        nodes=operators.total(),
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        functions=tuple(f"{domain}.{name}" for domain, name, _ in model.functions),
        parameters=count_parameters(model),
        macs=count_macs(model, input_shapes=input_shapes),
        sigmoid_mul=tuple(target for target in find_targets(model) if target.is_sigmoid_mul),
        metadata=dict(model.metadata_props),
        file_bytes=file_bytes,
        external_bytes=sum(t.nbytes for _, t in _stored(model) if isinstance(t, ir.ExternalTensor)),
    )


def count_parameters(model: ir.Model) -> ParameterCount:
    """Count the numbers that a model stores."""
    moments = {
        value
        for node in all_nodes(model)
        if node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx")
        for value in node.inputs[3:5]
    }
    stored = list(_stored(model))
    elements = sum(tensor.size for _, tensor in stored)
    statistics = sum(tensor.size for value, tensor in stored if value in moments)
    indices = sum(tensor.size for _, tensor in stored if tensor.dtype in _INDEX_TYPES)
    return ParameterCount(
        tensors=len(stored),
        elements=elements,
        bytes=sum(tensor.nbytes for _, tensor in stored if tensor.dtype != ir.DataType.STRING),
        weights=elements - statistics - indices,
        statistics=statistics,
        indices=indices,
    )


def _stored(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    for graph in (*model.graphs(), *(g for function in model.functions.values() for g in function.graph.subgraphs())):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value, value.const_value
    for node in all_nodes(model):
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            tensor = _constant(node)
            if tensor is not None:
                yield node.outputs[0], tensor


def _constant(node: ir.Node) -> ir.TensorProtocol | None:
    """Return what a Constant node holds, or None for text and for what a function is called with."""
    (attribute,) = node.attributes.values()
    if attribute.is_ref():
        return None
    if attribute.name == "value":
        return attribute.as_tensor()
    dtypes = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return ir.tensor(np.asarray(attribute.value, dtypes[attribute.name])) if attribute.name in dtypes else None


def _operator(node: ir.Node) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _info(value: ir.Value, *, has_default: bool = False) -> TensorInfo:
    shape = None
    if value.shape is not None:
        shape = tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)
    dtype = value.dtype
    return TensorInfo(str(value.name), "?" if dtype is None else _dtype_name(dtype), shape, has_default)


def _dtype_name(dtype: ir.DataType) -> str:
    # ONNX says FLOAT and DOUBLE where everybody else says float32 and float64.
    names = {ir.DataType.FLOAT: "float32", ir.DataType.DOUBLE: "float64"}
    return names.get(dtype, dtype.name.lower())
