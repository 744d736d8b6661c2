"""Eigen-CAM: the activation seen along its own main direction; no class, no gradient.

Muhammad and Yeasin 2020, equations 3 and 4: of the activation as a matrix O of places by channels, O = U Σ Vᵀ, the map is
O v₁. O is not centred, as in the paper. The sign of a singular vector is arbitrary (which the paper does not speak of):
here it is the one that makes the map's sum positive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["eigen_map"]


def eigen_map(activation: NDArray[Any]) -> NDArray[np.float32]:
    """Project an activation on its first right singular vector.

    Args:
        activation: `(C, ...)`, one image's, channels first.

    Returns:
        The map, of the remaining shape; all 0 where the activation holds what is not finite.
    """
    matrix = activation.reshape(len(activation), -1).T.astype(np.float64)  # (places, C)
    if not np.isfinite(matrix).all():
        return np.zeros(activation.shape[1:], np.float32)
    direction = np.linalg.svd(matrix, full_matrices=False)[2][0]
    projected = matrix @ direction
    signed = projected if projected.sum() >= 0 else -projected
    drawn: NDArray[np.float32] = signed.reshape(activation.shape[1:]).astype(np.float32)
    return drawn
