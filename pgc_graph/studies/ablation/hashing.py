"""Scatter whole numbers evenly over 64 bits: choices that look random and depend on nothing but a number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["scatter"]


def scatter(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one hash a number: the finaliser of SplitMix64 (Steele, Lea and Flood 2014), modulo 2^64."""
    mixed = (np.atleast_1d(numbers) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
