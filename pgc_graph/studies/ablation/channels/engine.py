"""Run the channels of one tensor, each changed on its own, for an image: compiled, or as rows of the whole model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.interface import ImageInput
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_graph.studies.ablation.channels.masked import ChannelAxis, Rows, open_masked
from pgc_graph.studies.ablation.channels.program import ChannelProgram, compile_channels
from pgc_graph.studies.ablation.plan import Question
from pgc_graph.studies.ablation.reference import Noise
from pgc_graph.studies.ablation.scores import Wanted

__all__ = ["BATCHED_ROWS", "ChannelRunner", "TensorEngine", "Tick", "Way"]

Array = NDArray[Any]
Images = NDArray[np.float32]
Tick = Callable[[int], None]
"""Called with the number of runs before each call of onnxruntime; raises where the study is to end."""

ChannelRunner = Callable[[Images, Wanted, Array, Tick], Rows | None]
"""Takes an image `(1, ...)`, what is wanted of it and R channels, and returns their outputs, R rows each; None where
changing the tensor changes nothing, and None in the place of an output that does not change."""

BATCHED_ROWS = 8
"""Rows a call of the whole model: small batches stay in the processor's caches."""


@dataclass(frozen=True)
class Way:
    """How the channels of a tensor are run.

    Attributes:
        method: `compiled` (only what a channel changes), `batched` (the whole model, channels as rows), or `plain`
            (the whole model, one channel at a time).
        note: Why it is not compiled, or empty.
        self_check: The largest |Δ| to the plain way on a few channels of two images; None for the plain way itself.
    """

    method: str
    note: str = ""
    self_check: float | None = None


class TensorEngine:
    """Opens runners for the channels of one tensor; `weight_bytes` is what their sessions hold of weights."""

    def __init__(
        self, question: Question, axis: ChannelAxis, source: ImageInput, options: RuntimeOptions, way: Way
    ) -> None:
        """Write the models.

        Raises:
            UnsupportedError: The way is `compiled`, and the tensor cannot be.
        """
        self.axis, self.way = axis, way
        self._question, self._source, self._options = question, source, options
        self._program = compile_channels(question) if way.method == "compiled" else None
        self._runner: ChannelRunner | None = None
        models = [question.model] if self._program is None else [self._program.front, self._program.items]
        self.weight_bytes = sum(modelio.weight_bytes(model) for model in models)

    def open(self, *, keep: bool) -> ChannelRunner:
        """Return a runner, safe to call from several threads.

        Args:
            keep: Whether its sessions stay open for the next time.

        Raises:
            ModelError: onnxruntime refuses a model.
        """
        runner = self._runner or self._opened()
        self._runner = runner if keep else None
        return runner

    def _opened(self) -> ChannelRunner:
        if self.way.method != "compiled":
            rows = (self._source.fixed_batch or BATCHED_ROWS) if self.way.method == "batched" else 1
            return _masked_runner(self._question, self.axis, self._source, self._options, rows)
        if self._program is None:
            return lambda image, wanted, channels, tick: None
        return _compiled_runner(self._program, self._question, self._source, self._options)


def _masked_runner(
    question: Question, axis: ChannelAxis, source: ImageInput, options: RuntimeOptions, rows: int
) -> ChannelRunner:
    masked = open_masked(question, [axis], source, options, rows=rows)

    def run(image: Images, wanted: Wanted, channels: Array, tick: Tick) -> Rows:
        chosen = channels[:, None] == np.arange(axis.count)
        return masked.run(image, masked.shifts(image, wanted), {0: chosen}, tick)

    return run


def _compiled_runner(
    program: ChannelProgram, question: Question, source: ImageInput, options: RuntimeOptions
) -> ChannelRunner:
    front, items = open_session(program.front, options), open_session(program.items, options)
    noise, kind = Noise(question.intervention, question.statistics), source.dtype.numpy()
    live = [name for name in program.results if name is not None]

    def run(image: Images, wanted: Wanted, channels: Array, tick: Tick) -> Rows:
        given: dict[str, Array] = {source.name: image.astype(kind)}
        if program.donors:
            given[program.donors] = np.asarray(wanted.donors, kind)
        if program.noise:
            given[program.noise] = noise.of(question.tensors[0], question.statistics[0], wanted.positions)
        found = front.run({name: given[name] for name in front.input_names})
        known = {**given, **dict(zip(front.output_names, found, strict=True))}
        feed = {name: known[name] for name in program.between}
        pieces: list[list[Array]] = []
        for start in range(0, len(channels), program.chunk):
            chunk = channels[start : start + program.chunk]
            tick(len(chunk))
            pieces.append(items.run({**feed, program.channels: chunk}, live))
        joined = dict(zip(live, (np.concatenate(arrays) for arrays in zip(*pieces, strict=True)), strict=True))
        return [None if name is None else joined[name] for name in program.results]

    return run
