"""Channels one by one, or several at once as rows of a batch, through the whole model: right for any model.

One row at a time this is the plain loop, the judge of everything faster. What a channel becomes is factor · tensor + shift
with a factor and a shift a channel: (0 or v, 0) for the one that is changed, (1, 0) for the others, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session
from pgc_graph.studies.ablation.plain import Overrides, overridable_model, shifts_of
from pgc_graph.studies.ablation.plan import Question
from pgc_graph.studies.ablation.reference import Noise
from pgc_graph.studies.ablation.scores import Wanted

__all__ = ["ChannelAxis", "Masked", "Rows", "open_masked"]

Array = NDArray[Any]

Rows = list[Array | None]
"""Raw outputs, one array an output wanted, with a row for each channel (or step); None for those that stay."""


@dataclass(frozen=True)
class ChannelAxis:
    """Where a tensor's channels are.

    Attributes:
        axis: Which axis holds them; 0 for a tensor that is changed as a whole, as if it had one channel.
        count: How many there are.
        rank: The rank of the tensor.
    """

    axis: int
    count: int
    rank: int

    def mask(self, chosen: Array) -> NDArray[np.bool_]:
        """Return where the tensor is changed.

        Args:
            chosen: `(R, C)` of bool, for each row the channels that are.

        Returns:
            `(R, 1, .., C, .., 1)`.
        """
        shape = [1] * self.rank
        shape[self.axis] = self.count
        shape[0] = len(chosen)
        return np.asarray(chosen, np.bool_).reshape(shape)


@dataclass(frozen=True, eq=False)
class Masked:
    """A model each of whose tensors is an affine function of itself, channel by channel.

    Attributes:
        question: Its tensors and outputs.
        axes: Where the channels of each tensor are.
        session: On the model.
        overrides: Names and types of what is fed for each tensor.
        source: The image input.
        rows: Different choices of channels a call; where the model's batch is fixed, the last one fills it up.
    """

    question: Question
    axes: tuple[ChannelAxis, ...]
    session: Session
    overrides: Overrides
    source: ImageInput
    rows: int

    def shifts(self, image: NDArray[np.float32], wanted: Wanted) -> list[Array]:
        """Return what is added to each tensor of one image `(1, ...)` where it is changed."""
        intervention = self.question.intervention
        if intervention.mode in ("zero", "scale"):
            return [np.zeros((), dtype) for _, dtype in self.overrides]
        size = self.source.fixed_batch or 1
        given = {**self._neutral(), self.source.name: np.repeat(image, size, 0).astype(self.source.dtype.numpy())}
        noise = Noise(intervention, self.question.statistics)
        shifts = shifts_of(self.question, self.session, given, self.source, noise, wanted, self.overrides)
        return [shift[:1] if np.ndim(shift) else shift for shift in map(np.asarray, shifts)]

    def run(
        self,
        image: NDArray[np.float32],
        shifts: Sequence[Array],
        chosen: dict[int, Array],
        tick: Callable[[int], None] = lambda runs: None,
    ) -> Rows:
        """Return the outputs of one image `(1, ...)` for R choices of channels.

        Args:
            image: The image.
            shifts: From `shifts`.
            chosen: For some tensors (by position), `(R, C)` of bool: the channels that are changed in each row.
            tick: Called with the number of runs before each batch; may raise.
        """
        (count,) = {len(rows) for rows in chosen.values()}
        size, fixed = self.rows, self.source.fixed_batch or 0
        pieces: list[Rows] = []
        for start in range(0, count, size):
            tick(min(size, count - start))
            end = min(count, start + size)
            take = np.minimum(np.arange(start, max(end, start + fixed)), end - 1)
            feed = {self.source.name: np.repeat(image, len(take), axis=0).astype(self.source.dtype.numpy())}
            feed |= self._neutral()
            for tensor, rows in chosen.items():
                feed |= self._changed(tensor, rows[take], shifts[tensor])
            outputs = self.session.run(feed, self.question.outputs)
            pieces.append([array[: end - start] for array in outputs])
        return [np.concatenate(arrays) for arrays in zip(*pieces, strict=True)]

    def _neutral(self) -> dict[str, Array]:
        values = (
            (names[index], np.asarray(one, kind)) for names, kind in self.overrides for index, one in ((0, 1), (1, 0))
        )
        return dict(values)

    def _changed(self, tensor: int, chosen: Array, shift: Array) -> dict[str, Array]:
        intervention = self.question.intervention
        (factor, added, _), dtype = self.overrides[tensor]
        mask = self.axes[tensor].mask(chosen)
        off = 1.0 if intervention.mode == "noise" else intervention.factor
        return {factor: np.where(mask, off, 1).astype(dtype), added: np.where(mask, shift, 0).astype(dtype)}


def open_masked(
    question: Question, axes: Sequence[ChannelAxis], source: ImageInput, options: RuntimeOptions, *, rows: int = 1
) -> Masked:
    """Open a session on a model whose tensors can be changed channel by channel.

    Args:
        question: What is done to which tensors.
        axes: Where their channels are.
        source: The model's image input.
        options: How to run.
        rows: Different choices of channels a call; at most the model's batch where that is fixed.

    Raises:
        ModelError: onnxruntime refuses the model.
    """
    model, overrides = overridable_model(question)
    for value in model.graph.inputs:
        if any(value.name == names[0] for names, _ in overrides):
            value.shape = None
    return Masked(question, tuple(axes), open_session(model, options), overrides, source, rows)
