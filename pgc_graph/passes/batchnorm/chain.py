"""Runs of nodes around a BatchNormalization that together are one affine map.

A run holds BatchNormalization, Mul, Add, Sub and Div by per-channel constants, and nodes that pass their input on
(Identity; Dropout in inference). Between two nodes of a run the tensor has no other user and is no graph output, and all
stand in the same graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.batchnorm.affine import Affine, Declined, is_batchnorm, read_affine, read_elementwise
from pgc_graph.passes.batchnorm.tensors import channels_of, rank_of
from pgc_graph.passes.idle import passes_on

__all__ = ["Link", "Span", "is_private", "spans"]


@dataclass(frozen=True, eq=False)
class Link:
    """A node of a run: which input carries the data, and its map (None if it passes its input on)."""

    node: ir.Node
    index: int
    affine: Affine | None

    @property
    def source(self) -> ir.Value:
        """The tensor that comes in."""
        value = self.node.inputs[self.index]
        assert value is not None
        return value


@dataclass(frozen=True, eq=False)
class Span:
    """A run, taken as one map.

    Attributes:
        lead: Nodes before it that pass their input on.
        core: From its first to its last affine node.
        trail: Nodes after it that pass their input on.
        affine: What it does.
        opset: Version of the default domain where it stands.
    """

    lead: tuple[Link, ...]
    core: tuple[Link, ...]
    trail: tuple[Link, ...]
    affine: Affine
    opset: int

    @property
    def name(self) -> str:
        """A name for what replaces it: that of its first BatchNormalization."""
        node = next(link.node for link in self.core if is_batchnorm(link.node))
        return node.name or str(node.outputs[0].name)

    @property
    def source(self) -> ir.Value:
        """The tensor that comes in, before what passes it on."""
        return (*self.lead, *self.core)[0].source

    @property
    def result(self) -> ir.Value:
        """The tensor that comes out, behind what passes it on."""
        return (*self.core, *self.trail)[-1].node.outputs[0]


def is_private(value: ir.Value) -> bool:
    """Say whether exactly one node uses a tensor, once, and the graph does not put it out."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def spans(node: ir.Node, affine: Affine, constants: Constants, opset: int) -> Iterator[Span]:
    """Yield the longest run around a BatchNormalization as a span, then the node alone if that is less.

    Args:
        node: The BatchNormalization.
        affine: What it does.
        constants: Of the model.
        opset: Version of the default domain where the node stands.
    """
    walker = _Walker(constants, opset, len(affine.scale))
    before, after = walker.backward(node), walker.forward(node)
    run = [*reversed(before), Link(node, 0, affine), *after]
    maps = [position for position, link in enumerate(run) if link.affine is not None]
    yield _span(run, maps[0], maps[-1], opset)
    if len(maps) > 1:
        yield _span(run, len(before), len(before), opset)


def _span(run: list[Link], first: int, last: int, opset: int) -> Span:
    start, end = first, last
    while start > 0 and run[start - 1].affine is None:
        start -= 1
    while end + 1 < len(run) and run[end + 1].affine is None:
        end += 1
    total: Affine | None = None
    for link in run[first : last + 1]:
        if link.affine is not None:
            total = link.affine if total is None else total.then(link.affine)
    assert total is not None
    return Span(tuple(run[start:first]), tuple(run[first : last + 1]), tuple(run[last + 1 : end + 1]), total, opset)


class _Walker:
    """Reads nodes around a BatchNormalization as links."""

    def __init__(self, constants: Constants, opset: int, channels: int) -> None:
        self._constants, self._opset, self._channels = constants, opset, channels

    def backward(self, node: ir.Node) -> list[Link]:
        """Return the links before a node, nearest first."""
        links: list[Link] = []
        value = node.inputs[0]
        while value is not None and is_private(value):
            producer = value.producer()
            if producer is None or producer.graph is not node.graph or value is not producer.outputs[0]:
                break
            link = self._read(producer, value)
            # A constant could be what gives the tensor its channels, by broadcasting.
            if link is None or (link.affine and channels_of(link.source, self._constants) != self._channels):
                break
            links.append(link)
            value = link.source
        return links

    def forward(self, node: ir.Node) -> list[Link]:
        """Return the links after a node, nearest first."""
        links: list[Link] = []
        value = node.outputs[0]
        while is_private(value):
            ((user, index),) = value.uses()
            link = self._read(user, value) if user.graph is node.graph else None
            if link is None or link.index != index:
                break
            links.append(link)
            value = user.outputs[0]
        return links

    def _read(self, node: ir.Node, tensor: ir.Value) -> Link | None:
        if passes_on(node, self._constants, self._opset):
            return Link(node, 0, None)
        if is_batchnorm(node):
            affine = read_affine(node, self._constants, self._opset)
            same = isinstance(affine, Affine) and len(affine.scale) == self._channels
            return Link(node, 0, affine) if same and not isinstance(affine, Declined) else None
        if self._opset < 7:
            return None
        rank = rank_of(tensor, self._constants)
        found = read_elementwise(node, self._constants, rank=rank, channels=self._channels)
        return None if found is None else Link(node, *found)
