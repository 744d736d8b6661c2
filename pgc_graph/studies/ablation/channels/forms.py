"""In which form a tensor is known while one channel of another is changed.

What follows from changing channel c of a tensor T, for a chunk of B channels of one image, is not computed as B whole
tensors where less will do. A tensor that nothing changes has no form: it is the one of the run without gates, (1, ...).

| form     | the tensor, for each of the B channels                                                                   |
|----------|----------------------------------------------------------------------------------------------------------|
| `Few`    | that of the run without gates, but for the channel c (or a few that belong to it)                          |
| `Delta`  | that of the run without gates plus a change (B, ...)                                                      |
| `Scaled` | a `Few`, or what nothing changes, times a factor (B, C, 1, ...): what squeeze-and-excitation makes of it   |
| `Dense`  | (B, ...)                                                                                                  |
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["Delta", "Dense", "Few", "Form", "Part", "Scaled"]


@dataclass(frozen=True, eq=False)
class Part:
    """Channels that change, one for each channel of the gate's tensor.

    Attributes:
        first: Channel c of the gate's tensor changes channel first + c.
        values: `(1, C, ...)`: at channel c, what channel first + c becomes when channel c of the gate's tensor is changed.
    """

    first: int
    values: ir.Value


@dataclass(frozen=True, eq=False)
class Few:
    """Only the channels of some parts are other than without gates."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Delta:
    """What has to be added to the tensor of the run without gates, `(B, ...)`."""

    change: ir.Value


@dataclass(frozen=True, eq=False)
class Scaled:
    """A tensor times a factor.

    Attributes:
        source: The tensor before, as it is without gates.
        few: What changes in it; None where nothing does.
        factor: `(B, C, 1, ...)`.
    """

    source: ir.Value
    few: Few | None
    factor: ir.Value


@dataclass(frozen=True, eq=False)
class Dense:
    """The whole tensor, `(B, ...)`."""

    value: ir.Value


Form = Few | Delta | Scaled | Dense
