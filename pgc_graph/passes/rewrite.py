"""What every pass returns."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["Change", "Rewrite", "Skip"]


@dataclass(frozen=True)
class Change:
    """One edit: which node or tensor, and what was done to it."""

    subject: str
    action: str


@dataclass(frozen=True)
class Skip:
    """One edit that was declined: which node or tensor, and why."""

    subject: str
    reason: str


@dataclass(frozen=True, eq=False)
class Rewrite:
    """The outcome of a pass.

    Attributes:
        model: The new model; the one given to the pass stays untouched.
        changes: What was done, in graph order.
        skipped: What was left alone although the pass looked at it, with reasons.
    """

    model: ir.Model
    changes: tuple[Change, ...] = ()
    skipped: tuple[Skip, ...] = ()
