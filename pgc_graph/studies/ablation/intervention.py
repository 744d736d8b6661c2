"""What is done to a tensor, one tensor at a time.

| mode       | the tensor t of an image becomes                                                                   |
|------------|----------------------------------------------------------------------------------------------------|
| `zero`     | 0 · t                                                                                              |
| `scale`    | value · t                                                                                          |
| `mean`     | its mean over the images, one number a channel or one an element                                   |
| `resample` | the t of another image: of a pool of up to 64 images, the one that a hash of seed and position says |
| `noise`    | t + sigma · s · z, with s its standard deviation over the images (one a channel), z standard normal |

Channels are those of `channel_axis`; where nothing tells which axis holds them, mean and deviation are one an element.
z is a stretch of one long sequence of normal numbers drawn from the seed; where it starts is a hash of the seed, the
tensor's name and the image's position. What happens to an image depends neither on batches nor on threads.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError
from pgc_graph.studies.ablation.hashing import scatter

__all__ = ["MODES", "Intervention", "NoiseSource", "donor_index", "scaling"]

MODES = ("zero", "scale", "mean", "resample", "noise")

_NOISE_STARTS = 1 << 20


@dataclass(frozen=True)
class Intervention:
    """What is done to a tensor.

    Attributes:
        mode: One of `MODES`.
        value: The factor of `scale`.
        mean_per: Whether `mean` takes one number a `channel` or one an `element`.
        sigma: The strength of `noise`, in standard deviations of the tensor.
        seed: Of `resample` and `noise`.
    """

    mode: str = "zero"
    value: float = 0.0
    mean_per: str = "channel"
    sigma: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise OptionError(f"there is no intervention {self.mode!r}; expected {', '.join(MODES)}")
        if not math.isfinite(self.value):
            raise OptionError(f"ablation value {self.value} makes no sense; expected a finite number")
        if self.value and self.mode != "scale":
            raise OptionError(f"a value of {self.value} has no meaning for intervention {self.mode}; take scale")
        if self.mean_per not in ("channel", "element"):
            raise OptionError(f"the mean cannot be taken per {self.mean_per}; expected channel or element")
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise OptionError(f"noise of strength {self.sigma} makes no sense; expected a finite number above 0")
        if self.seed < 0:
            raise OptionError(f"seed {self.seed} is negative; expected 0 or more")

    @property
    def factor(self) -> float:
        """What a scaled tensor is multiplied by."""
        return self.value if self.mode == "scale" else 0.0

    @property
    def makes_constant(self) -> bool:
        """Whether the tensor no longer depends on the image."""
        return self.mode in ("zero", "mean") or (self.mode == "scale" and self.value == 0)

    @property
    def needs_statistics(self) -> bool:
        """Whether the images have to be looked at once before the study."""
        return self.mode in ("mean", "noise")


def scaling(value: float) -> Intervention:
    """Return the intervention that multiplies tensors by a number: `zero` or `scale`.

    Raises:
        OptionError: The number is not finite.
    """
    return Intervention("scale", value) if value else Intervention()


class NoiseSource:
    """Standard normal numbers for any tensor of any image."""

    def __init__(self, seed: int, largest: int) -> None:
        """Draw the sequence; `largest` is the number of elements of the largest tensor, for one image."""
        self._seed = np.uint64(seed)
        self._sequence = np.random.default_rng(seed).standard_normal(_NOISE_STARTS + largest, np.float32)

    def draw(self, tensor: str, positions: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the noise of a tensor for some images.

        Args:
            tensor: Its name.
            positions: `(N,)`, where the images stand among all.
            shape: The tensor's, for one image.

        Returns:
            `(N, *shape)` float32.
        """
        stream = scatter(scatter(np.atleast_1d(self._seed)) ^ np.uint64(zlib.crc32(tensor.encode())))
        starts = (scatter(stream ^ positions.astype(np.uint64)) % np.uint64(_NOISE_STARTS)).tolist()
        size = math.prod(shape)
        return np.stack([self._sequence[start : start + size] for start in starts]).reshape(-1, *shape)


def donor_index(seed: int, positions: NDArray[np.int64], pool: int) -> NDArray[np.int64]:
    """Say which image of a pool gives its tensors to the images at some positions.

    Args:
        seed: The seed.
        positions: `(N,)`, where the images stand among all.
        pool: How many images the pool has.
    """
    stream = scatter(np.array([seed], np.uint64))
    return (scatter(stream ^ positions.astype(np.uint64)) % np.uint64(pool)).astype(np.int64)
