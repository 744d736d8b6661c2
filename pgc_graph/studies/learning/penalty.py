"""From free numbers to gates in [0, 1], what open gates cost, and the slopes of both.

1. `l1`: the numbers are the gates, clipped to [0, 1] after each step; a gate g costs |g|.
2. `l0`: hard-concrete gates (Louizos, Welling and Kingma 2018, "Learning Sparse Neural Networks through L0
   Regularization", equations 10 to 13). With u uniform, s = sigmoid((log u - log(1 - u) + a) / β) and
   g = clip(s (ζ - γ) + γ, 0, 1); a gate costs P(g > 0) = sigmoid(a - β log(-γ / ζ)). After learning,
   g = clip(sigmoid(a) (ζ - γ) + γ, 0, 1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["BETA", "GAMMA", "ZETA", "cost_of", "gates_of", "initial", "sampled"]

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
_OPEN = 3.0  # the number a of a gate before learning: 1 after clipping

Floats = NDArray[np.float64]


def initial(penalty: str, count: int) -> Floats:
    """Return `(count,)` numbers for gates that are open."""
    return np.full(count, 1.0 if penalty == "l1" else _OPEN)


def gates_of(penalty: str, numbers: Floats) -> Floats:
    """Return the gates, in [0, 1], without noise."""
    if penalty == "l1":
        return np.clip(numbers, 0, 1)
    return np.clip(_sigmoid(numbers) * (ZETA - GAMMA) + GAMMA, 0, 1)


def sampled(penalty: str, numbers: Floats, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the gates of one step and their slopes by the numbers; `l0` draws noise."""
    if penalty == "l1":
        return np.clip(numbers, 0, 1), np.ones_like(numbers)
    uniform = generator.uniform(1e-6, 1 - 1e-6, numbers.shape)
    squashed = _sigmoid((np.log(uniform) - np.log1p(-uniform) + numbers) / BETA)
    stretched = squashed * (ZETA - GAMMA) + GAMMA
    slope = (ZETA - GAMMA) * squashed * (1 - squashed) / BETA
    return np.clip(stretched, 0, 1), np.where((stretched > 0) & (stretched < 1), slope, 0.0)


def cost_of(penalty: str, numbers: Floats) -> tuple[Floats, Floats]:
    """Return what each gate costs, in [0, 1], and the slope of that by its number."""
    if penalty == "l1":
        return np.clip(numbers, 0, 1), np.ones_like(numbers)
    chance = _sigmoid(numbers - BETA * math.log(-GAMMA / ZETA))
    return chance, chance * (1 - chance)


def _sigmoid(x: Floats) -> Floats:
    value: Floats = np.exp(-np.logaddexp(0, -x))
    return value
