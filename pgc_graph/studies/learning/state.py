"""Where learning stands: the numbers behind the gates, Adam's moments, and the file that outlasts an interruption.

Adam: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError
from pgc_graph.files import atomic_path

__all__ = ["State", "adam", "begin", "checkpoint_path", "load_state", "note_objective", "save_state"]

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
_SMOOTH = 0.95  # of the objective that patience looks at
_BETTER = 1e-4  # by how much, in proportion, it has to fall

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class State:
    """Where learning stands after some steps.

    Attributes:
        numbers: `(G,)`, what the gates are made of.
        first: `(G,)`, Adam's mean of the gradients.
        second: `(G,)`, Adam's mean of their squares.
        history: `(steps, 2)`, task loss and objective of each step.
        smoothed: The objective, smoothed.
        best: The smallest it has been.
        best_step: After how many steps that was.
    """

    numbers: Floats
    first: Floats
    second: Floats
    history: Floats
    smoothed: float = float("nan")
    best: float = float("inf")
    best_step: int = 0

    @property
    def step(self) -> int:
        """How many steps have been made."""
        return len(self.history)


def begin(numbers: Floats) -> State:
    """Return the state before the first step."""
    return State(numbers, np.zeros_like(numbers), np.zeros_like(numbers), np.zeros((0, 2)))


def adam(state: State, gradient: Floats, rate: float) -> State:
    """Make one step of Adam."""
    step = state.step + 1
    first = _FIRST * state.first + (1 - _FIRST) * gradient
    second = _SECOND * state.second + (1 - _SECOND) * gradient**2
    move = rate * (first / (1 - _FIRST**step)) / (np.sqrt(second / (1 - _SECOND**step)) + _TINY)
    return replace(state, numbers=state.numbers - move, first=first, second=second)


def note_objective(state: State, loss: float, objective: float) -> State:
    """Enter what a step has found."""
    history = np.concatenate([state.history, [[loss, objective]]])
    smoothed = objective if state.step == 0 else _SMOOTH * state.smoothed + (1 - _SMOOTH) * objective
    better = smoothed < state.best - _BETTER * abs(state.best) if np.isfinite(state.best) else True
    best, at = (smoothed, len(history)) if better else (state.best, state.best_step)
    return replace(state, history=history, smoothed=smoothed, best=best, best_step=at)


def checkpoint_path(output: Path) -> Path:
    """Return the file beside an output that keeps where learning stands."""
    return output.with_name(f"{output.name}.learning.npz")


def save_state(state: State, identity: dict[str, Any], path: Path) -> None:
    """Write a state, all or nothing.

    Raises:
        OptionError: The file cannot be written.
    """
    arrays = {name: getattr(state, name) for name in ("numbers", "first", "second", "history")}
    scalars = np.array([state.smoothed, state.best, state.best_step], np.float64)
    text = np.array(json.dumps(identity, sort_keys=True))
    with atomic_path(path) as temporary:
        np.savez(temporary, scalars=scalars, identity=text, **arrays)


def load_state(identity: dict[str, Any], path: Path) -> State:
    """Read a state that `save_state` wrote for the same task.

    Raises:
        OptionError: There is none, it cannot be read, or it belongs to another model, other images or settings.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        before = json.loads(str(found["identity"]))
        smoothed, best, best_step = found["scalars"].tolist()
        numbers, first, second, history = (
            np.asarray(found[name], np.float64) for name in ("numbers", "first", "second", "history")
        )
    except FileNotFoundError as error:
        raise OptionError(f"there is nothing to resume: no {path}; leave --resume out") from error
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise OptionError(f"cannot resume from {path}: {error}; delete it and begin anew") from error
    changed = [name for name in sorted(identity) if before.get(name) != identity[name]]
    if changed:
        raise OptionError(f"cannot resume from {path}: other {', '.join(changed)} than before; delete it to begin anew")
    return State(numbers, first, second, history, smoothed, best, int(best_step))
