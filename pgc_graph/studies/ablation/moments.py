"""Statistics of tensors that were measured on parts of the images, put together.

By Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pgc_graph.errors import UnsupportedError
from pgc_graph.studies.ablation.reference import TensorStatistics

__all__ = ["merge_moments"]


def merge_moments(
    tensor: str, one: TensorStatistics, images: int, other: TensorStatistics, more: int
) -> TensorStatistics:
    """Return the statistics of a tensor over the images of two parts.

    Args:
        tensor: Its name.
        one: Over the first part.
        images: How many images that is.
        other: Over the second part.
        more: How many images that is.

    Raises:
        UnsupportedError: The tensor has another shape in the other part.
    """
    if one.shape != other.shape:
        raise UnsupportedError(
            f"tensor {tensor!r} is {other.shape} for one image and {one.shape} for another; expected one shape"
        )
    share = more / (images + more)
    gap = other.mean - one.mean
    variance = one.std**2 * (1 - share) + other.std**2 * share + gap**2 * (share * (1 - share))
    return dataclasses.replace(one, mean=one.mean + gap * share, std=np.sqrt(variance))
