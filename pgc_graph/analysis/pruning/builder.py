"""The account that operator rules keep: every tensor's channels, what is coupled, what shrinks with them, what is pinned.

Every channel has a number (id). Operators that only move channels hand on the ids of what they read; operators that
compute new values hand out new ids and couple them with the old ones. Coupled channels go together or stay together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.constants import Constants

__all__ = ["Builder", "Channels", "Count", "Elementwise", "Ids", "KeepsZero", "Layer", "Slice", "SplitSizes"]

Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a tensor: the axis that holds them and their ids along it."""

    axis: int
    ids: Ids


@dataclass(frozen=True, eq=False)
class Slice:
    """A constant input of a node that shrinks along an axis with these channels."""

    node: ir.Node
    index: int
    axis: int
    ids: Ids


@dataclass(frozen=True, eq=False)
class Count:
    """An entry of a constant input (a Reshape target, a Resize size) that states the number of these channels."""

    node: ir.Node
    index: int
    place: int
    ids: Ids


@dataclass(frozen=True, eq=False)
class SplitSizes:
    """A Split along channels: the ids that each output gets."""

    node: ir.Node
    parts: tuple[Ids, ...]


@dataclass(frozen=True, eq=False)
class Elementwise:
    """A node that computes each channel of its output from the same channel of its operands alone.

    Attributes:
        node: The node.
        operands: The ids of each input, None where it has no channels of its own.
        axis: The axis of the output that holds its channels.
        outputs: Their ids.
    """

    node: ir.Node
    operands: tuple[Ids | None, ...]
    axis: int
    outputs: Ids


@dataclass(frozen=True, eq=False)
class KeepsZero:
    """A node whose output channel is a constant only if the input channel is 0 (padded averages, sums, powers)."""

    inputs: Ids
    outputs: Ids


@dataclass(frozen=True, eq=False)
class Layer:
    """A node that sums over channels with constant weights: Conv, ConvTranspose, Gemm, MatMul.

    Attributes:
        node: The node.
        inputs: Ids of the channels that it sums over, None if they cannot change.
        outputs: Ids of what it puts out.
        input_axis: The axis of the weight that is summed over; of a grouped Conv, within a group.
        output_axis: The axis of the weight that gives the outputs.
        groups: Of a Conv, else 1.
    """

    node: ir.Node
    inputs: Ids | None
    outputs: Ids
    input_axis: int
    output_axis: int
    groups: int = 1


Step: TypeAlias = "Elementwise | KeepsZero | Layer"


@dataclass(eq=False)
class Builder:
    """What the rules write into; one a model."""

    constants: Constants
    opset: int
    channels: dict[ir.Value, Channels] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    splits: list[SplitSizes] = field(default_factory=list)
    pins: dict[int, str] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)

    def fresh(self, count: int) -> Ids:
        """Hand out new ids."""
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def root(self, item: int) -> int:
        """Return the id that stands for all that an id is coupled with."""
        parents = self.parents
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    def couple(self, first: Ids, second: Ids) -> None:
        """Couple ids one by one."""
        for left, right in zip(first.tolist(), second.tolist(), strict=True):
            a, b = self.root(left), self.root(right)
            if a != b:
                self.parents[max(a, b)] = min(a, b)

    def pin(self, ids: Ids, reason: str) -> None:
        """Forbid that channels go."""
        for item in ids.tolist():
            self.pins.setdefault(item, reason)

    def pin_inputs(self, node: ir.Node, reason: str) -> None:
        """Forbid that the channels of anything that a node reads go."""
        self.pin_values((value for value in node.inputs if value is not None), reason)

    def pin_values(self, values: Iterable[ir.Value], reason: str) -> None:
        """Forbid that the channels of some tensors go."""
        for value in values:
            if value in self.channels:
                self.pin(self.channels[value].ids, reason)
