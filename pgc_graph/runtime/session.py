"""Open onnxruntime sessions: with onnxruntime-gpu's probes this room is the only importer of onnxruntime."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.errors import ModelError
from pgc_graph.runtime.providers import PROVIDERS, choose_provider

__all__ = ["RUNTIME_ERRORS", "RuntimeOptions", "Session", "available_cores", "open_session", "runtime_message"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]


@dataclass(frozen=True)
class RuntimeOptions:
    """How to run a model.

    Attributes:
        provider: `auto`, `cpu`, `cuda` or `tensorrt`.
        threads: Threads inside one operator; 0 lets onnxruntime take all cores.
        optimise: Whether onnxruntime may rewrite the graph; parity checks run it as it stands.
    """

    provider: str = "auto"
    threads: int = 0
    optimise: bool = True


class Session:
    """An onnxruntime session and the names and types of what goes in and out."""

    def __init__(self, session: Any, provider: str) -> None:
        self._session = session
        self.provider = provider
        # Overridable initializers are optional: they are fed only by those who know of them.
        self.input_names: tuple[str, ...] = tuple(item.name for item in session.get_inputs())
        self.output_names: tuple[str, ...] = tuple(item.name for item in session.get_outputs())

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Run the model once.

        Args:
            feeds: One array an input.
            outputs: The outputs wanted; all of them if None.

        Raises:
            ModelError: onnxruntime fails while running.
        """
        names = list(self.output_names if outputs is None else outputs)
        try:
            result: list[Array] = self._session.run(names, {name: np.asarray(array) for name, array in feeds.items()})
        except RUNTIME_ERRORS as error:
            raise ModelError(f"onnxruntime cannot run the model: {runtime_message(error)}") from error
        return result


def open_session(model: ir.Model | bytes, options: RuntimeOptions | None = None) -> Session:
    """Open a session on a model held in memory.

    Raises:
        ModelError: onnxruntime refuses the model.
        ProviderError: The requested provider cannot run here.
    """
    import onnxruntime

    options = options or RuntimeOptions()
    provider = choose_provider(options.provider)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # fatal: every error is raised as an exception as well
    level = onnxruntime.GraphOptimizationLevel
    settings.graph_optimization_level = level.ORT_ENABLE_ALL if options.optimise else level.ORT_DISABLE_ALL
    names = list(dict.fromkeys((PROVIDERS[provider], PROVIDERS["cpu"])))
    with _serialised(model) as data:
        try:
            session = onnxruntime.InferenceSession(data, settings, providers=names)
        except RUNTIME_ERRORS as error:
            raise ModelError(f"onnxruntime refuses the model: {runtime_message(error)}") from error
    logger.debug("session on %s, %d threads", provider, options.threads)
    return Session(session, provider)


@contextlib.contextmanager
def _serialised(model: ir.Model | bytes) -> Iterator[bytes | str]:
    """Yield a model as bytes or, where its weights are too large for a protobuf message, as a file that then goes away."""
    if isinstance(model, bytes):
        yield model
    elif modelio.weight_bytes(model) <= modelio.EMBED_LIMIT_BYTES:
        yield modelio.to_bytes(model)
    else:
        with tempfile.TemporaryDirectory(prefix="pgc-graph-") as folder:
            path = Path(folder) / "model.onnx"
            modelio.save(model, path)
            yield str(path)


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runtime_message(error: BaseException) -> str:
    """Keep of onnxruntime's message what concerns the model: no status code, no place in its sources."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"\S*/\w+\.(cc|h):\d+ .*?\) (?=[A-Z])", "", text)
    return text[:400]


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # Every status code has an exception class of its own, without a common base below Exception; bad feeds raise
    # RuntimeError or ValueError.
    classes = [item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception)]
    return (*classes, RuntimeError, ValueError)


RUNTIME_ERRORS = _runtime_errors()
"""What onnxruntime raises on models and feeds that it cannot take."""
