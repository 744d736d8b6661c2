"""Cut channels out of a model: smaller weights, the same nodes and names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.pruning.builder import Builder, Channels, Layer
from pgc_graph.analysis.pruning.groups import ChannelGroups
from pgc_graph.analysis.pruning.known import Float64
from pgc_graph.analysis.pruning.removal import Removal
from pgc_graph.passes.edit import GraphEditor, remove_unused_initializers
from pgc_graph.passes.prune.bias import add_to_bias, contribution
from pgc_graph.passes.prune.write import Operand, write_constants

__all__ = ["cut_channels"]

_SIZES_INPUT_OPSET = 13  # from here on Split takes its sizes as an input
Arrays = dict[Operand, NDArray[np.generic]]


def cut_channels(model: ir.Model, found: ChannelGroups, removal: Removal) -> None:
    """Remove groups of channels from a model that is ours to edit.

    Args:
        model: The model that the groups are of.
        found: Its groups.
        removal: Which of them go.
    """
    account = found.account
    kept = ~removal.groups[found.group]
    editor = GraphEditor(model)
    arrays: Arrays = {}
    shifts: dict[Layer, Float64] = {}
    for layer in (step for step in account.steps if isinstance(step, Layer)):
        shift = contribution(layer, removal, kept, account)
        if shift is not None:
            shifts[layer] = shift
        _cut_layer(layer, kept, account, arrays)
    for item in account.slices:
        if not kept[item.ids].all():
            key = (item.node, item.index)
            array = arrays[key] if key in arrays else _constant(account, key)
            arrays[key] = np.compress(kept[item.ids], array, axis=item.axis)
    for key, array in _counted(account, kept):
        arrays[key] = array
    write_constants(arrays, editor)
    for layer, shift in shifts.items():
        add_to_bias(layer.node, shift, account.constants, editor)
    _write_splits(model, account, kept, editor)
    for value, channels in account.channels.items():
        _shrink(value, channels, kept)
    remove_unused_initializers(model)


def _constant(account: Builder, key: Operand) -> NDArray[np.generic]:
    node, index = key
    array = account.constants.value(node.inputs[index])
    assert array is not None
    return array


def _cut_layer(layer: Layer, kept: NDArray[np.bool_], account: Builder, arrays: Arrays) -> None:
    outputs = kept[layer.outputs]
    inputs = np.ones(1, bool) if layer.inputs is None else kept[layer.inputs]
    if outputs.all() and inputs.all():
        return
    key = (layer.node, 1)
    weight = _constant(account, key)
    if layer.groups == 1:
        weight = np.compress(outputs, weight, axis=layer.output_axis)
        arrays[key] = weight if layer.inputs is None else np.compress(inputs, weight, axis=layer.input_axis)
        return
    by_group = inputs.reshape(layer.groups, -1)
    places = [np.flatnonzero(by_group[row // (len(outputs) // layer.groups)]) for row in np.flatnonzero(outputs)]
    rows = [weight[row][place] for row, place in zip(np.flatnonzero(outputs), places, strict=True)]
    arrays[key] = np.stack(rows)
    layer.node.attributes["group"] = ir.AttrInt64("group", int(by_group.any(axis=1).sum()))


def _counted(account: Builder, kept: NDArray[np.bool_]) -> Iterator[tuple[Operand, NDArray[np.generic]]]:
    for item in account.counts:
        if not kept[item.ids].all():
            array = _constant(account, (item.node, item.index)).copy()
            array[item.place] = int(kept[item.ids].sum())
            yield (item.node, item.index), array


def _write_splits(model: ir.Model, account: Builder, kept: NDArray[np.bool_], editor: GraphEditor) -> None:
    for item in account.splits:
        if all(kept[ids].all() for ids in item.parts):
            continue
        sizes = [int(kept[ids].sum()) for ids in item.parts]
        item.node.attributes.pop("num_outputs", None)
        if model.opset_imports.get("", 1) < _SIZES_INPUT_OPSET:
            item.node.attributes["split"] = ir.AttrInt64s("split", sizes)
            continue
        old = item.node.inputs[1] if len(item.node.inputs) > 1 else None
        if old is None:
            item.node.resize_inputs(2)
        name = str(item.node.name or item.node.outputs[0].name) if old is None else str(old.name)
        value = editor.constant(f"{name}/split", np.asarray(sizes, np.int64), ir.DataType.INT64, item.node)
        item.node.replace_input_with(1, value)
        editor.remove_orphans([old])


def _shrink(value: ir.Value, channels: Channels, kept: NDArray[np.bool_]) -> None:
    if value.shape is None or kept[channels.ids].all():
        return
    dims = list(value.shape)
    dims[channels.axis] = int(kept[channels.ids].sum())
    value.shape = ir.Shape(dims)
