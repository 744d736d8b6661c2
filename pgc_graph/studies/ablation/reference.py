"""What an intervention has to know of the images before it starts: the tensors' statistics, and a pool of donors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.channels import channel_axis
from pgc_graph.analysis.interface import ImageInput
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.images import ImageBatch
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_graph.studies.ablation.intervention import Intervention, NoiseSource, donor_index

__all__ = ["DonorPool", "Noise", "TensorStatistics", "donor_pool", "measure_tensors", "pool_of"]

POOL = 64
"""Images whose tensors `resample` takes from: few enough to be kept, many enough to differ."""

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """A tensor over many images.

    Attributes:
        mean: Of the tensor's rank: 1 along the images, and along all axes that it is taken over.
        std: The population standard deviation, of the shape of `mean`.
        shape: Of the tensor, for one image.
        dtype: Of the tensor.
    """

    mean: Floats
    std: Floats
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Noise:
    """What `noise` adds to tensors."""

    def __init__(self, intervention: Intervention, statistics: Sequence[TensorStatistics]) -> None:
        self._sigma, self._source = intervention.sigma, None
        if intervention.mode == "noise":
            largest = max(math.prod(statistic.shape) for statistic in statistics)
            self._source = NoiseSource(intervention.seed, largest)

    def of(self, tensor: str, statistics: TensorStatistics, positions: NDArray[np.int64] | None) -> Array:
        """Return what is added to a tensor for the images at some positions: `(N, ...)` of the tensor's type."""
        if self._source is None or positions is None:
            raise AssertionError("this intervention adds no noise")
        noise = self._source.draw(tensor, positions, statistics.shape)
        return np.asarray(noise * (self._sigma * statistics.std).astype(np.float32), statistics.dtype)


@dataclass(frozen=True, eq=False)
class DonorPool:
    """Images that give their tensors to others.

    Attributes:
        paths: Their files.
        images: `(P, ...)` float32.
        seed: Decides who gives to whom.
    """

    paths: tuple[Path, ...]
    images: NDArray[np.float32]
    seed: int

    def donors(self, paths: Sequence[Path], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the donor of each of some images: never the image itself.

        Args:
            paths: Their files.
            positions: `(N,)`, where they stand among all images.
        """
        chosen = donor_index(self.seed, positions, len(self.paths))
        for row, path in enumerate(paths):
            if self.paths[chosen[row]] == path:
                chosen[row] = (chosen[row] + 1) % len(self.paths)
        return self.images[chosen]


def donor_pool(batches: Iterable[ImageBatch], seed: int) -> DonorPool:
    """Take the first images of some batches as donors.

    Raises:
        OptionError: There are not two images.
    """
    paths: list[Path] = []
    images: list[NDArray[np.float32]] = []
    for batch in batches:
        paths.extend(batch.paths)
        images.extend(batch.tensor)
        if len(paths) >= POOL:
            break
    if len(paths) < 2:
        raise OptionError(f"resample takes tensors from other images, but there is {len(paths)}; give at least two")
    return DonorPool(tuple(paths[:POOL]), np.stack(images[:POOL]), seed)


def pool_of(batches: Iterable[ImageBatch], intervention: Intervention) -> DonorPool | None:
    """Return who gives tensors to others, where an intervention needs that.

    Raises:
        OptionError: The batches can be read only once, and the intervention looks at them beforehand; or there are not two
            images.
    """
    if (intervention.needs_statistics or intervention.mode == "resample") and iter(batches) is batches:
        raise OptionError(
            f"{intervention.mode} looks at the images twice, but the batches can be read once; give a list"
        )
    return donor_pool(batches, intervention.seed) if intervention.mode == "resample" else None


def measure_tensors(
    model: ir.Model,
    tensors: Sequence[str],
    batches: Iterable[ImageBatch],
    intervention: Intervention,
    source: ImageInput,
    options: RuntimeOptions,
) -> tuple[TensorStatistics, ...]:
    """Run a model on images and return the mean and the spread of some of its tensors.

    Args:
        model: Stays untouched.
        tensors: Their names.
        batches: The images.
        intervention: Says what the mean is taken over.
        source: The model's image input.
        options: How to run.

    Raises:
        ModelError: onnxruntime cannot run the model.
        UnsupportedError: A tensor changes its shape from image to image.
    """
    asked = infer_shapes(model)
    values = {str(value.name): value for node in asked.graph for value in node.outputs}
    axes = [_axes(values[name], intervention) for name in tensors]
    asked.graph.outputs[:] = list(dict.fromkeys(values[name] for name in tensors))
    session = open_session(asked, options)
    moments: list[_Moments] = [_Moments(name) for name in tensors]
    for batch in batches:
        size = source.fixed_batch or len(batch.paths)
        for start in range(0, len(batch.paths), size or 1):
            rows = np.minimum(np.arange(start, start + size), len(batch.paths) - 1)
            count = min(size, len(batch.paths) - start)
            feed = {source.name: batch.tensor[rows].astype(source.dtype.numpy())}
            outputs = dict(zip(session.output_names, session.run(feed), strict=True))
            for moment, name, reduced in zip(moments, tensors, axes, strict=True):
                array = outputs[name]
                moment.add(array[:count] if array.ndim and len(array) == size else array, reduced)
    return tuple(moment.result() for moment in moments)


def _axes(value: ir.Value, intervention: Intervention) -> int | None:
    """Return the axis of channels that numbers are kept apart by, or None for one number an element."""
    by_element = intervention.mode == "mean" and intervention.mean_per == "element"
    return None if by_element else channel_axis(value)


class _Moments:
    """Mean and squared deviation, batch by batch (Chan, Golub and LeVeque 1979)."""

    def __init__(self, tensor: str) -> None:
        self._tensor = tensor
        self._count = 0
        self._mean, self._deviation = np.zeros(()), np.zeros(())
        self._shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] = np.dtype(np.float32)

    def add(self, array: Array, channel: int | None) -> None:
        shape = array.shape[1:]
        if self._shape is not None and shape != self._shape:
            raise UnsupportedError(
                f"tensor {self._tensor!r} is {shape} for one image and {self._shape} for another; expected one shape"
            )
        axes = tuple(axis for axis in range(array.ndim) if (axis == 0 if channel is None else axis != channel))
        values = np.asarray(array, np.float64)
        count = math.prod(array.shape[axis] for axis in axes)
        mean = values.mean(axis=axes, keepdims=True)
        deviation = ((values - mean) ** 2).sum(axis=axes, keepdims=True)
        total = self._count + count
        gap = mean - self._mean
        self._deviation = self._deviation + deviation + gap**2 * (self._count * count / total)
        self._mean = self._mean + gap * (count / total)
        self._count, self._shape, self._dtype = total, shape, array.dtype

    def result(self) -> TensorStatistics:
        if self._shape is None:
            raise AssertionError(f"{self._tensor} has been measured on no image")
        return TensorStatistics(self._mean, np.sqrt(self._deviation / self._count), self._shape, self._dtype)
