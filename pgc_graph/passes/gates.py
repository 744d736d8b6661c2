"""Put a gate behind tensors: a multiplication by a number that is 1 unless whoever runs the model says otherwise.

1. Each gate is an initializer that is a graph input as well, so it has a default and can be fed (ONNX IR specification,
   "Initializers"). The gated file computes the same function in any runtime; a gate that were an initializer alone would
   be folded away.
2. The gated tensor keeps its name, and the producer's output gets a new one: consumers, captures in subgraphs and graph
   outputs stay as they are.
3. A scalar gate has rank 0, so broadcasting cannot raise the rank of what it multiplies. A per-channel gate has a
   dimension for every axis of the tensor, 1 except for the channels.
4. Before IR version 4 every initializer is a graph input and runtimes take it for a constant. Such a model is raised to
   version 4, where the same initializers are constants because they are no inputs.
5. Simplifiers take a defaulted input for a constant and remove the gate: gates come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.channels import channel_axis
from pgc_graph.analysis.names import FreshNames, tensor_names
from pgc_graph.errors import SelectionError, UnsupportedError
from pgc_graph.passes.rewrite import Change, Rewrite, Skip
from pgc_graph.passes.shapes import infer_shapes

__all__ = ["Gate", "GatedModel", "gate_nodes", "insert_gates"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
_NODE_PREFIX = "Gate::"
_BROADCASTING_OPSET = 7  # Mul broadcasts like numpy from here on
_DEFAULTS_IR = 4  # from here on an initializer need not be an input, and one that is can be overridden
_BFLOAT16_OPSET = 13  # and takes bfloat16 from here on


@dataclass(frozen=True)
class Gate:
    """A gate in a model.

    Attributes:
        tensor: The tensor that was asked for.
        gate: The graph input that multiplies it; 1 by default.
        shape: The gate's shape: empty for a scalar, else one dimension an axis of the tensor.
    """

    tensor: str
    gate: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class GatedModel(Rewrite):
    """The outcome of `insert_gates`.

    Attributes:
        gates: One a gated tensor, in the order asked for, those that the model had before included.
    """

    gates: tuple[Gate, ...] = ()


def insert_gates(model: ir.Model, tensors: Sequence[str], *, per_channel: bool = False) -> GatedModel:
    """Put a gate behind each of some tensors, of the tensor's own dtype.

    A tensor that is gated already, that no node of the main graph produces, or whose type or channels are unknown or
    unsuited is left alone, with a reason.

    Args:
        model: Stays untouched.
        tensors: Names of tensors; one that is named twice is gated once.
        per_channel: One gate value a channel instead of one a tensor.

    Returns:
        The gated model, the same function as long as no gate is fed, and its gates.

    Raises:
        SelectionError: No tensor of the model has one of the names.
        UnsupportedError: The model's opset is too old for multiplication with broadcasting.
    """
    known = tensor_names(model)
    unknown = [name for name in tensors if name not in known]
    if unknown:
        raise SelectionError(f"no tensor is named {unknown[0]!r}; list the tensors with --list-targets --include-all")
    opset = model.opset_imports.get("", _BROADCASTING_OPSET)
    if opset < _BROADCASTING_OPSET:
        raise UnsupportedError(f"gates need opset {_BROADCASTING_OPSET}, the model has {opset}; convert it first")
    gated = model.clone()
    typed = _typed_values(model, tensors)
    produced = {str(value.name): value for node in gated.graph for value in node.outputs if value.name}
    fresh = FreshNames(gated)
    gates: list[Gate] = []
    changes: list[Change] = []
    skipped: list[Skip] = []
    for name in dict.fromkeys(tensors):
        value = produced.get(name)
        existing = None if value is None else _existing_gate(value)
        if existing is not None:
            gates.append(Gate(name, str(existing.name), _dimensions(existing)))
            skipped.append(Skip(name, f"is gated already, by {existing.name}"))
            continue
        shape, reason = _gate_shape(typed.get(name), opset, per_channel=per_channel)
        if value is None or reason:
            skipped.append(Skip(name, reason))
            continue
        gates.append(_insert(gated, value, typed[name], shape, fresh))
        changes.append(Change(name, f"gated by {gates[-1].gate}"))
    if changes and gated.ir_version < _DEFAULTS_IR:
        changes.append(_allow_defaults(gated, {gate.gate for gate in gates}))
    return GatedModel(gated, tuple(changes), tuple(skipped), tuple(gates))


def gate_nodes(model: ir.Model) -> tuple[ir.Node, ...]:
    """Return the nodes of the main graph that `insert_gates` put in, in graph order."""
    return tuple(node for node in model.graph if node.op_type == "Mul" and str(node.name).startswith(_NODE_PREFIX))


def _typed_values(model: ir.Model, names: Sequence[str]) -> dict[str, ir.Value]:
    """Return the main graph's tensors by name, with inferred types and shapes where the model lacks one."""

    def values(source: ir.Model) -> dict[str, ir.Value]:
        return {str(value.name): value for node in source.graph for value in node.outputs if value.name}

    known = values(model)
    if all(known[name].dtype is not None and known[name].shape is not None for name in names if name in known):
        return known
    return values(infer_shapes(model))


def _gate_shape(value: ir.Value | None, opset: int, *, per_channel: bool) -> tuple[tuple[int, ...], str]:
    """Return the shape of a tensor's gate, or why it cannot have one."""
    if value is None:
        return (), "no node of the main graph produces it (gates go behind nodes outside of subgraphs)"
    if not isinstance(value.type, ir.TensorType) or value.dtype is None:
        return (), "its type is unknown or not a tensor; a gate must have the same type"
    if value.dtype not in _DTYPES:
        return (), f"holds {value.dtype}; only FLOAT, FLOAT16, DOUBLE and BFLOAT16 tensors can be gated"
    if value.dtype == ir.DataType.BFLOAT16 and opset < _BFLOAT16_OPSET:
        return (), f"holds BFLOAT16, which Mul takes from opset {_BFLOAT16_OPSET} on; the model has {opset}"
    if not per_channel:
        return (), ""
    axis = channel_axis(value)
    if axis is None or value.shape is None:
        shown = "of unknown rank" if value.shape is None else f"of shape {value.shape}"
        return (), f"is {shown}: which axis holds its channels is not known; use a scalar gate"
    count = value.shape[axis]
    if not isinstance(count, int):
        return (), f"is of shape {value.shape}: its number of channels (axis {axis}) is not known; use a scalar gate"
    return tuple(count if index == axis else 1 for index in range(len(value.shape))), ""


def _existing_gate(value: ir.Value) -> ir.Value | None:
    """Return the gate that multiplies a tensor already, before or after it."""
    producer = value.producer()
    nodes = ([] if producer is None else [producer]) + [node for node, index in value.uses() if index == 0]
    for node in nodes:
        if node.op_type == "Mul" and str(node.name).startswith(_NODE_PREFIX):
            gate = node.inputs[1]
            if gate is not None and gate.is_graph_input() and gate.is_initializer():
                return gate
    return None


def _insert(model: ir.Model, value: ir.Value, typed: ir.Value, shape: tuple[int, ...], fresh: FreshNames) -> Gate:
    name, dtype, producer = str(value.name), typed.dtype, value.producer()
    if dtype is None or producer is None:
        raise AssertionError(f"{name} has neither been typed nor produced")
    ones = np.ones(shape, dtype.numpy())
    gate = ir.Value(name=fresh.claim(f"gate::{name}"), shape=ir.Shape(shape), type=ir.TensorType(dtype))
    gate.const_value = ir.tensor(ones, dtype=dtype, name=gate.name)
    output = ir.Value(name=name, shape=value.shape, type=typed.type)
    output.doc_string = value.doc_string
    node = ir.Node("", "Mul", [value, gate], outputs=[output], name=fresh.claim(f"{_NODE_PREFIX}{name}"))
    value.type = typed.type
    value.replace_all_uses_with(output, replace_graph_outputs=True)
    node.replace_input_with(0, value)  # the line above has turned the gate's own input as well
    value.name = fresh.claim(f"{name}::ungated")
    model.graph.insert_after(producer, node)
    model.graph.inputs.append(gate)
    model.graph.register_initializer(gate)
    return Gate(name, str(gate.name), shape)


def _allow_defaults(model: ir.Model, gates: set[str]) -> Change:
    """Raise the IR version so that gates can be fed; all other initializers stay constants (case 4)."""
    before, model.ir_version = model.ir_version, _DEFAULTS_IR
    inputs = model.graph.inputs
    inputs[:] = [value for value in inputs if value.name in gates or not value.is_initializer()]
    return Change("the model", f"IR version {before} -> {_DEFAULTS_IR}, so that gates can be fed")


def _dimensions(value: ir.Value) -> tuple[int, ...]:
    return tuple(int(dim) for dim in value.shape or () if isinstance(dim, int))
