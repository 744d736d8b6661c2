"""What every method is given, what it returns, and how many rows are run in batches that the model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput, image_input, score_output
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.rewrite import Skip
from pgc_graph.runtime.session import RuntimeOptions, Session
from pgc_graph.studies.cam.methods import CamOptions
from pgc_graph.studies.cam.score import Explained

__all__ = ["RawMaps", "Request"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be explained.

    Attributes:
        model: The classifier, shapes inferred.
        images: `(N, ...)`, rows of the model's input, of its type.
        explained: The tensor of logits and the class.
        options: Steps, noise, seed, batch size.
        runtime: How to run the model.
    """

    model: ir.Model
    images: Array
    explained: Explained
    options: CamOptions
    runtime: RuntimeOptions | None

    @property
    def source(self) -> ImageInput:
        """The input that takes the images."""
        return image_input(self.model)

    @property
    def score(self) -> str:
        """The name of the output with the scores."""
        return str(score_output(self.model).name)

    def run(self, session: Session, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return outputs for all rows; independent of how they are batched as long as the model's rows are independent.

        Args:
            session: A model made of `model`.
            feeds: Arrays with one row an image, all of the same number of rows.
            outputs: The outputs wanted; each has one row an image.

        Raises:
            ModelError: onnxruntime fails while running.
            UnsupportedError: An output has not one row an image.
        """
        total, fixed = len(next(iter(feeds.values()))), self.source.fixed_batch
        size = fixed or self.options.batch_size
        unique = list(dict.fromkeys(outputs))
        found: dict[str, list[Array]] = {name: [] for name in unique}
        for start in range(0, total, size):
            count = min(size, total - start)
            chunk = {name: array[start : start + count] for name, array in feeds.items()}
            if fixed and count < size:
                # A model of a fixed batch is fed the last row again and again.
                chunk = {name: np.concatenate([a, a[-1:].repeat(size - count, 0)]) for name, a in chunk.items()}
            for name, array in zip(unique, session.run(chunk, unique), strict=True):
                if array.ndim == 0 or len(array) != (fixed or count):
                    raise UnsupportedError(
                        f"tensor {name!r} has shape {array.shape} for {fixed or count} images; expected one row for each"
                    )
                found[name].append(array[:count])
        return [np.concatenate(found[name]) for name in outputs]


@dataclass(frozen=True, eq=False)
class RawMaps:
    """What a method found.

    Attributes:
        scores: `(N, ...)`, the model's scores.
        logits: `(N, ...)`, the tensor that was explained.
        maps: `(N, h, w)` or `(N, t)` float32 by tensor.
        provider: Where the model ran.
        skipped: Tensors without a map, with reasons.
    """

    scores: Array
    logits: Array
    maps: Mapping[str, NDArray[np.float32]]
    provider: str
    skipped: tuple[Skip, ...] = ()
