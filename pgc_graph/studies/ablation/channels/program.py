"""The runs of a tensor's channels as two models: one an image, and one a chunk of channels of that image.

The first one computes what the second one reads: tensors of the run without gates, and the changed channels. Between the
two, tensors are `(1, ...)`; the results have a row for each channel of the chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.interface import dimensions
from pgc_graph.analysis.reach import node_reads, upstream_nodes
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.extract import extract
from pgc_graph.studies.ablation.channels.compiler import write_runs
from pgc_graph.studies.ablation.channels.sheet import Sheet
from pgc_graph.studies.ablation.plan import Question

__all__ = ["ChannelProgram", "compile_channels"]

_OLDEST = 11  # the operator set that has all operators that are written here
_CHUNK_ELEMENTS = 1 << 18  # of the largest tensor of a chunk, 1 MiB of float32: it stays in a core's cache
_CHUNK = (4, 256)


@dataclass(frozen=True, eq=False)
class ChannelProgram:
    """Two models that score a tensor's channels.

    Attributes:
        front: Takes an image (and donors or noise), returns the tensors of `between`.
        items: Takes these tensors and `channels`, returns the results that are not None.
        between: Names of the tensors.
        channels: Name of the input for the chunk's channels.
        results: For each output wanted its name in `items`, or None where changing the tensor does not change it.
        chunk: Channels a call.
        donors: Name of the front's input for the image that `resample` takes tensors from, or empty.
        noise: Name of the front's input for what `noise` adds, or empty.
    """

    front: ir.Model
    items: ir.Model
    between: tuple[str, ...]
    channels: str
    results: tuple[str | None, ...]
    chunk: int
    donors: str
    noise: str


def compile_channels(question: Question) -> ChannelProgram | None:
    """Write the models for the channels of the only tensor of a question.

    Args:
        question: What is asked, of a model with a symbolic batch dimension whose shapes are known.

    Returns:
        The models, or None where the tensor changes nothing.

    Raises:
        UnsupportedError: The channels are not known, or cannot take the place of the batch.
    """
    version = question.model.opset_imports.get("") or 0
    if version < _OLDEST:
        raise UnsupportedError(f"the model has operator set {version}; channels are followed from {_OLDEST} on")
    sheet = Sheet(question)
    results = write_runs(sheet)
    sheet.model.graph.inputs.append(sheet.channels)
    live = [value for value in results if value is not None]
    if not live:
        return None
    between = _between(sheet, live)
    sheet.model.graph.outputs[:] = list(dict.fromkeys([*sheet.outputs, *live]))
    names = [str(value.name) for value in between]
    channels = str(sheet.channels.name)
    items = extract(sheet.model, [*names, channels], [str(value.name) for value in live]).model
    sheet.model.graph.outputs[:] = [value for value in between if not value.is_graph_input()]
    front = extract(sheet.model, (), [str(value.name) for value in sheet.model.graph.outputs]).model
    return ChannelProgram(
        front=front,
        items=items,
        between=tuple(names),
        channels=channels,
        results=tuple(None if value is None else str(value.name) for value in results),
        chunk=_chunk(sheet, live),
        donors=sheet.changes.donors,
        noise=sheet.changes.noise[0] if sheet.changes.noise else "",
    )


def _between(sheet: Sheet, results: list[ir.Value]) -> list[ir.Value]:
    """Return what the item nodes read of an image."""
    found: dict[ir.Value, None] = {}
    needed = set(upstream_nodes(sheet.model.graph, results))
    for node in sheet.item_nodes:
        for value in node_reads(node) if node in needed else ():
            producer = value.producer()
            is_fixed = value in sheet.independent or value is sheet.channels or value.const_value is not None
            if not is_fixed and (producer is None or producer not in sheet.item_nodes):
                found[value] = None
    return list(found)


def _chunk(sheet: Sheet, results: list[ir.Value]) -> int:
    """Return how many channels are run at once."""
    needed = set(upstream_nodes(sheet.model.graph, results))
    copied = [node for node in sheet.item_nodes if node in needed]
    sizes = [math.prod(dim or 1 for dim in dimensions(value) or ()) for node in copied for value in node.outputs]
    smallest, largest = _CHUNK
    return max(smallest, min(largest, _CHUNK_ELEMENTS // max(sizes, default=1)))
