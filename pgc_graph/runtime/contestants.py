"""Models made ready to be timed side by side: serialised, fed, and opened in sessions that leave each other alone."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.interface import dimensions, real_inputs
from pgc_graph.errors import ModelError, OptionError, PgcGraphError
from pgc_graph.runtime.parity import random_feeds
from pgc_graph.runtime.profile import OperatorProfile, read_profile
from pgc_graph.runtime.providers import PROVIDERS
from pgc_graph.runtime.session import RUNTIME_ERRORS, Session, runtime_message

__all__ = ["Contestant", "Shapes", "open_contestant", "prepare", "profile_contestant"]

_PROFILED_RUNS = 20
_NO_SPINNING = "session.force_spinning_stop"  # see onnxruntime_session_options_config_keys.h
Feeds = dict[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Contestant:
    """A model ready to run.

    Attributes:
        label: What to call it.
        data: The serialised model.
        feeds: What to feed it, by batch size.
    """

    label: str
    data: bytes
    feeds: Mapping[int, Feeds]


def prepare(
    models: Sequence[tuple[str, ir.Model]], *, shapes: Shapes, batch_sizes: Sequence[int], seed: int
) -> tuple[Contestant, ...]:
    """Serialise models and draw their inputs.

    Args:
        models: Labels and models.
        shapes: Shapes of inputs by name; each has to be an input of one model at least.
        batch_sizes: What open first dimensions become; empty for what the models' inputs or `shapes` say, else 1.
        seed: Of the inputs; inputs of equal shape get equal numbers.

    Raises:
        OptionError: No model, a shape or a batch size that does not fit.
        UnsupportedError: Inputs for a model cannot be drawn.
    """
    if not models:
        raise OptionError("no model to time; expected at least one")
    known = {str(value.name) for _, model in models for value in real_inputs(model)}
    for name in shapes:
        if name not in known:
            shown = ", ".join(sorted(known)) or "none"
            raise OptionError(f"no input {name!r} to give a shape to; the models have {shown}")
    contestants = []
    for label, model in models:
        with _naming(label):
            contestants.append(Contestant(label, modelio.to_bytes(model), _feeds(model, shapes, batch_sizes, seed)))
    sizes = {tuple(contestant.feeds): contestant.label for contestant in contestants}
    if len(sizes) > 1:
        shown = ", ".join(f"{label} takes {size[0]}" for size, label in sizes.items())
        raise OptionError(f"the models are fed different batch sizes: {shown}; give one that all take")
    return tuple(contestants)


def open_contestant(contestant: Contestant, threads: int, batch_size: int, provider: str) -> Callable[[], object]:
    """Open a session, run it once to see that it does, and return what runs it again.

    Raises:
        ModelError: onnxruntime refuses the model or fails to run it.
    """
    feeds = contestant.feeds[batch_size]
    with _naming(contestant.label):
        session = Session(_open(contestant.data, threads, provider), provider)
        session.run(feeds)
    return lambda: session.run(feeds)


def profile_contestant(
    contestant: Contestant, threads: int, batch_size: int, provider: str, *, warmup: int
) -> OperatorProfile:
    """Record where the time of a model goes, in a session of its own, after some runs that do not count.

    Raises:
        ModelError: onnxruntime refuses the model or fails to run it.
    """
    with _naming(contestant.label), tempfile.TemporaryDirectory() as folder:
        raw = _open(contestant.data, threads, provider, profile=Path(folder) / "profile")
        session = Session(raw, provider)
        for _ in range(warmup + _PROFILED_RUNS):
            session.run(contestant.feeds[batch_size])
        events = json.loads(Path(raw.end_profiling()).read_text(encoding="utf-8"))
    return read_profile(events, model=contestant.label, threads=threads, batch_size=batch_size, warmup=warmup)


def _feeds(model: ir.Model, shapes: Shapes, batch_sizes: Sequence[int], seed: int) -> dict[int, Feeds]:
    inputs = real_inputs(model)
    given = {str(value.name): shapes[str(value.name)] for value in inputs if value.name in shapes}
    first = next(random_feeds(model, runs=1, seed=seed, fixed=given))
    ranked = {name: array.shape for name, array in first.items() if array.ndim}
    batch = next((shape[0] for shape in ranked.values()), 1)
    if not batch_sizes:
        return {batch: first}
    is_open = {str(value.name) for value in inputs if (dimensions(value) or (None,))[0] is None} & ranked.keys()
    wrong = [size for size in batch_sizes if size != batch]
    if wrong and not is_open:
        raise OptionError(f"batch size {wrong[0]} does not fit: the model is fixed at {batch}; expected that or none")
    return {
        size: next(random_feeds(model, runs=1, seed=seed, fixed=_rebatch(ranked, is_open, size)))
        for size in batch_sizes
    }


def _rebatch(ranked: Shapes, is_open: set[str], size: int) -> dict[str, tuple[int, ...]]:
    return {name: (size, *shape[1:]) if name in is_open else shape for name, shape in ranked.items()}


def _open(data: bytes, threads: int, provider: str, *, profile: Path | None = None) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 4  # fatal: every error is raised as an exception as well
    # Threads that wait for more work after a run would take cores from the model that runs next.
    settings.add_session_config_entry(_NO_SPINNING, "1")
    if profile is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(profile)
    names = list(dict.fromkeys((PROVIDERS[provider], PROVIDERS["cpu"])))
    try:
        return onnxruntime.InferenceSession(data, settings, providers=names)
    except RUNTIME_ERRORS as error:
        raise ModelError(f"onnxruntime refuses the model: {runtime_message(error)}") from error


@contextlib.contextmanager
def _naming(label: str) -> Iterator[None]:
    """Put the model's label in front of what an error says."""
    try:
        yield
    except PgcGraphError as error:
        raise type(error)(f"{label}: {error}") from error
