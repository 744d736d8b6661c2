"""The model that pruning has to be equal to: some channels multiplied by 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.channels import channel_count
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.passes.gates import gate_nodes, insert_gates
from pgc_graph.passes.shapes import with_shapes

__all__ = ["freeze_gates", "zero_channels", "zero_gates", "zeros_of_gates"]


def zero_channels(model: ir.Model, channels: Mapping[str, Iterable[int]]) -> ir.Model:
    """Return a model in which some channels of some tensors are multiplied by 0, by constants behind the tensors.

    Gates that the model has become constants: their defaults.

    Args:
        model: Stays untouched.
        channels: Channels by tensor.

    Raises:
        SelectionError: No tensor has one of the names.
        OptionError: A tensor has no such channel.
        UnsupportedError: Which axis of a tensor holds its channels is not known, or no node computes it.
    """
    frozen = freeze_gates(with_shapes(model))
    before = set(gate_nodes(frozen))
    gated = insert_gates(frozen, list(channels), per_channel=True)
    if gated.skipped:
        first = gated.skipped[0]
        raise UnsupportedError(f"no channel of {first.subject!r} can be removed: {first.reason}")
    shapes = {gate.tensor: gate.shape for gate in gated.gates}
    for node in gate_nodes(freeze_gates(gated.model)):
        name, gate = str(node.outputs[0].name), node.inputs[1]
        if name not in shapes or node.name in {old.name for old in before} or gate is None or gate.const_value is None:
            continue
        indices = sorted(set(channels[name]))
        values = gate.const_value.numpy().copy()
        flat = values.reshape(-1)
        if indices and not 0 <= indices[0] <= indices[-1] < flat.size:
            wrong = indices[0] if indices[0] < 0 else indices[-1]
            raise OptionError(f"{name!r} has no channel {wrong}; expected numbers from 0 to {flat.size - 1}")
        flat[indices] = 0
        gate.const_value = ir.tensor(values, dtype=gate.dtype, name=gate.name)
    return gated.model


def zero_gates(model: ir.Model, threshold: float) -> ir.Model:
    """Return a model in which every gate value of at most a threshold is 0; |value| counts."""
    result = model.clone()
    for node in gate_nodes(result):
        gate = node.inputs[1]
        if gate is not None and gate.const_value is not None:
            values = gate.const_value.numpy()
            small = np.abs(values.astype(np.float64)) <= threshold
            gate.const_value = ir.tensor(np.where(small, 0, values).astype(values.dtype), gate.dtype, name=gate.name)
    return result


def zeros_of_gates(model: ir.Model) -> dict[str, list[int]]:
    """Return the channels that a model's gates multiply by 0, by gated tensor; of a scalar gate all, where counted."""
    found: dict[str, list[int]] = {}
    for node in gate_nodes(model):
        output, gate = node.outputs[0], node.inputs[1]
        if gate is None or gate.const_value is None:
            continue
        values = gate.const_value.numpy().reshape(-1)
        if gate.const_value.shape.rank() == 0:
            values = np.broadcast_to(values, (channel_count(output) or 0,))
        zeros = np.flatnonzero(values == 0).tolist()
        if zeros:
            found[str(output.name)] = zeros
    return found


def freeze_gates(model: ir.Model) -> ir.Model:
    """Turn the gates of a model that is ours to edit into constants: nobody can feed them any more."""
    gates = {node.inputs[1] for node in gate_nodes(model)}
    inputs = model.graph.inputs
    inputs[:] = [value for value in inputs if value not in gates or value.const_value is None]
    return model
