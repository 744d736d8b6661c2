"""How gates are learned, and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.passes.rewrite import Skip

__all__ = ["PENALTIES", "CurvePoint", "LearnSettings", "Learned", "LearnedGate", "LearningResult"]

PENALTIES = ("l1", "l0")


@dataclass(frozen=True)
class LearnSettings:
    """How gates are learned.

    Attributes:
        sparsity: λ, what an open gate costs, in units of the loss (nats an image).
        penalty: `l1`, λ·Σ|g| with gates clipped to [0, 1], or `l0`, hard-concrete gates.
        per_channel: One gate a channel instead of one a tensor.
        steps: Most steps.
        learning_rate: Of Adam.
        batch_size: Images a step; a model with a fixed batch decides itself.
        seed: Of the order of the images and of the noise of `l0`.
        patience: Steps without a better smoothed objective after which learning stops; 0 for never.
        cost: `none`, every gate costs the same, or `macs`, in proportion to the MACs of the nodes that lead to its tensor.
    """

    sparsity: float = 0.01
    penalty: str = "l1"
    per_channel: bool = False
    steps: int = 500
    learning_rate: float = 0.01
    batch_size: int = 32
    seed: int = 0
    patience: int = 100
    cost: str = "none"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sparsity) and self.sparsity >= 0):
            raise OptionError(f"sparsity {self.sparsity} makes no sense; expected a finite number, 0 or more")
        if self.penalty not in PENALTIES:
            raise OptionError(f"there is no penalty {self.penalty!r}; expected {' or '.join(PENALTIES)}")
        if self.cost not in ("none", "macs"):
            raise OptionError(f"gates cannot be weighed by {self.cost!r}; expected none or macs")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise OptionError(f"learning rate {self.learning_rate} makes no sense; expected a finite number above 0")
        if min(self.steps, self.batch_size) < 1 or min(self.seed, self.patience) < 0:
            raise OptionError("steps and batch size must be at least 1, seed and patience at least 0; change them")


@dataclass(frozen=True)
class LearnedGate:
    """The gate of one tensor after learning.

    Attributes:
        rank: From 1, the most open first.
        target: The tensor.
        gate: The graph input.
        values: In [0, 1]: one, or one a channel.
        mean: Of them.
        kept: How many are above 0.
    """

    rank: int
    target: Target
    gate: str
    values: tuple[float, ...]
    mean: float
    kept: int


@dataclass(frozen=True)
class CurvePoint:
    """How good the classifier is with only the most open gates, each at its learned value.

    Attributes:
        kept: How many of them; the others are 0.
        agreement: The share of images on which it predicts the class that it predicts without gates.
        loss: The mean task loss, in nats.
        accuracy: On labelled images, or None.
        f1: Of class 1 or, with more than two classes, the mean over classes; on labelled images, or None.
    """

    kept: int
    agreement: float
    loss: float
    accuracy: float | None
    f1: float | None


@dataclass(frozen=True)
class LearningResult:
    """The outcome of learning.

    Attributes:
        settings: How gates were learned.
        gates: One a tensor, ranked.
        curve: From few gates to all.
        ungated: The same figures with all gates at 1; `kept` counts all.
        total: How many gate values there are.
        kept: How many of them are above 0.
        steps: How many steps were made.
        ended: `steps`, `patience` or `interrupted`.
        history: Task loss and objective of each step.
        image_count: How many images were learned from.
        labelled_count: How many of them have a label that is a class; the others are to be scored as without gates.
        skipped_count: How many could not be read.
        skipped_tensors: Tensors that could not be gated, and why.
    """

    settings: LearnSettings
    gates: tuple[LearnedGate, ...]
    curve: tuple[CurvePoint, ...]
    ungated: CurvePoint
    total: int
    kept: int
    steps: int
    ended: str
    history: tuple[tuple[float, float], ...]
    image_count: int
    labelled_count: int
    skipped_count: int
    skipped_tensors: tuple[Skip, ...]


@dataclass(frozen=True, eq=False)
class Learned:
    """The gated model with its learned values as defaults, and how it came about."""

    model: ir.Model
    result: LearningResult
