"""Write the runs of a tensor's channels, each of them changed on its own, as one graph for a chunk of channels.

1. *Channels apart.* As long as operators keep channels apart (`channelwise.py`), changing one channel changes that channel
   alone. The whole tensor is changed at once and followed: channel c of the result is what it becomes when channel c
   is changed. That is one run for all channels.
2. *Rank one.* The first operator that mixes channels, if it is linear (Conv, Gemm, MatMul with fixed weights W), adds
   W[:, c] * (changed - unchanged channel c) to what it gives without gates (`updates.py`).
3. *Scaled.* Squeeze-and-excitation multiplies all channels by factors that the changed one has had its share in. The
   pointwise convolution after it is a matrix product of W, its columns scaled, and the unchanged tensor: one product for
   the whole chunk.
4. *Dense.* Everything else is run for the whole chunk, channels along the batch axis.

What the rules cannot follow becomes dense; what cannot be given rows is refused, and whoever asks runs it another way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import onnx_ir as ir

from pgc_graph.analysis.interface import dimensions
from pgc_graph.analysis.reach import READS_SHAPE_ONLY, node_reads
from pgc_graph.studies.ablation.channels.channelwise import (
    BROADCASTING,
    is_standard,
    keeps_channels,
    needs_all_channels,
)
from pgc_graph.studies.ablation.channels.forms import Delta, Dense, Few, Form, Part
from pgc_graph.studies.ablation.channels.runs import ChannelRuns
from pgc_graph.studies.ablation.channels.sheet import Sheet
from pgc_graph.studies.ablation.channels.updates import add_product, add_scaled, add_update

__all__ = ["write_runs"]


Rule = Callable[[ChannelRuns, ir.Node], Form | None]


def write_runs(sheet: Sheet) -> tuple[ir.Value | None, ...]:
    """Add the runs of the channels of the sheet's tensor to its graph.

    Returns:
        For each output wanted, the tensor that has its rows, or None where changing the tensor does not change it.

    Raises:
        UnsupportedError: The tensor has no known channels, or the batch cannot be replaced by channels.
    """
    runs = ChannelRuns(sheet)
    for node in sheet.nodes:
        if node.op_type in READS_SHAPE_ONLY or not any(read in runs.forms for read in node_reads(node)):
            continue
        form = next((form for form in (rule(runs, node) for rule in RULES) if form is not None), None)
        if form is not None:
            runs.forms[node.outputs[0]] = form
        else:
            copy = _whole(runs, node)
            runs.forms.update((old, Dense(new)) for old, new in zip(node.outputs, copy.outputs, strict=True))
    return tuple(runs.dense(output) if output in runs.forms else None for output in sheet.outputs)


def _apart(runs: ChannelRuns, node: ir.Node) -> Form | None:
    """Channels are kept apart: the changed tensor is followed as a whole."""
    changed = frozenset(read for read in node_reads(node) if read in runs.forms)
    few = [runs.few(value) for value in changed]
    if None in few or not keeps_channels(node, changed, runs.sheet.constants):
        return None
    if needs_all_channels(node) or len(changed) > 1:
        whole = {value: runs.whole(value) for value in changed}
        replaced = {value: values for value, values in whole.items() if values is not None}
        if len(replaced) < len(whole):
            return None
        return Few((Part(0, runs.sheet.copies.copy(node, replaced).outputs[0]),))
    (value,) = changed
    parts = few[0].parts if few[0] is not None else ()
    return Few(tuple(Part(part.first, _part(runs, node, value, part)) for part in parts))


def _part(runs: ChannelRuns, node: ir.Node, value: ir.Value, part: Part) -> ir.Value:
    """Copy a node for the channels of a part; there may be more channels in the whole tensor."""
    copy = runs.sheet.copies.copy(node, {value: part.values}).outputs[0]
    if copy.shape is not None:
        copy.shape = ir.Shape([*list(copy.shape)[:1], runs.count, *list(copy.shape)[2:]])
    return copy


def _side_by_side(runs: ChannelRuns, node: ir.Node) -> Form | None:
    """Concat along the channels: a channel changes for each operand that has one."""
    shape = dimensions(node.outputs[0])
    if node.op_type != "Concat" or not is_standard(node) or shape is None:
        return None
    inputs = [value for value in node.inputs if value is not None]
    lengths = [(dimensions(value) or (None, None))[1] for value in inputs]
    affected = [value for value in inputs if value in runs.forms]
    if node.attributes.get_int("axis", 1) % len(shape) != 1 or None in lengths or not all(map(runs.few, affected)):
        return None
    starts = itertools.accumulate((length or 0 for length in lengths), initial=0)
    parts = [
        Part(start + part.first, part.values)
        for value, start in zip(inputs, starts, strict=False)
        for part in getattr(runs.few(value), "parts", ())
    ]
    return Few(tuple(parts))


def _sum(runs: ChannelRuns, node: ir.Node) -> Form | None:
    """What is added to a tensor that changes by Δ changes by Δ."""
    if node.op_type not in ("Add", "Sub") or not is_standard(node):
        return None
    first, second = node.inputs
    if first is None or second is None or dimensions(first) != dimensions(second):
        return None
    forms = [runs.forms.get(value) for value in (first, second)]
    if isinstance(forms[0], Delta) and forms[1] is None:
        return forms[0]
    return forms[1] if node.op_type == "Add" and isinstance(forms[1], Delta) and forms[0] is None else None


def _whole(runs: ChannelRuns, node: ir.Node) -> ir.Node:
    """Copy a node that is run for the whole chunk."""
    sheet, replaced = runs.sheet, dict[ir.Value, ir.Value]()
    for read in node_reads(node):
        if read in runs.forms:
            replaced[read] = runs.dense(read)
        elif read in sheet.independent:
            replaced[read] = sheet.row_shape(read)
        elif node.op_type not in BROADCASTING:
            replaced[read] = sheet.expanded(read)
    return sheet.copy(node, replaced)


RULES: tuple[Rule, ...] = (_apart, _side_by_side, _sum, add_scaled, add_product, add_update)
"""Tried in this order; where none applies, a node is run for the whole chunk."""
