"""A model with a gate of its own for every row, and the gradient of the score by each of them.

A gate of shape `(rows, channels, 1, 1)` has one value an image and channel, so its gradient is that of each image by
itself, summed over the elements of the channel: gradient x activation, without a tensor of that size ever leaving the
runtime. At gates of 1 this is the first-order estimate; at other values, a point of the integral over the gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput, image_input, score_output
from pgc_graph.analysis.logit import logit_tensor
from pgc_graph.analysis.targets import Target
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.passes.gates import Gate, insert_gates
from pgc_graph.passes.rewrite import Skip
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session
from pgc_graph.studies.ablation.classes import TargetClass

__all__ = ["RowGate", "RowGates", "class_weights", "open_row_gates", "run_gradients", "run_values"]

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

_ROWS = "rows"


@dataclass(frozen=True, eq=False)
class RowGate:
    """The gate of one tensor.

    Attributes:
        position: Where the tensor stands among the targets, from 0.
        target: The tensor.
        name: The graph input.
        shape: Of one row of the gate: as long as the tensor's, 1 except for channels.
        base: `shape`, what the tensor is multiplied by already where it had a gate before; else ones.
        has_channels: Whether there is one value a channel.
    """

    position: int
    target: Target
    name: str
    shape: tuple[int, ...]
    base: Floats
    has_channels: bool


@dataclass(frozen=True, eq=False)
class RowGates:
    """A gated model, ready to run.

    Attributes:
        gates: One a tensor that can be gated, in the order of the targets.
        skipped: The others, and why.
        score: `logit` or `prob`.
        value: The tensor that is differentiated.
        gradient: Returns the gradient of `value` by each gate.
        forward: Returns `value` and no gradient, at less cost.
        seed: The input of `gradient` that weighs `value`.
        source: The image input.
        value_shape: Of one row of `value`.
    """

    gates: tuple[RowGate, ...]
    skipped: tuple[Skip, ...]
    score: str
    value: str
    gradient: Session
    forward: Session
    seed: str
    source: ImageInput
    value_shape: tuple[int, ...]


def open_row_gates(
    model: ir.Model, targets: Sequence[Target], score: str = "auto", runtime: RuntimeOptions | None = None
) -> RowGates:
    """Put a gate for every row behind some tensors and open sessions for the score and its gradient.

    Args:
        model: A classifier with one image input; stays untouched.
        targets: The tensors.
        score: `logit`, `prob`, or `auto`: the logit where there is one.
        runtime: Where to run.

    Raises:
        OptionError: The logit is asked for, and there is none.
        UnsupportedError: The model is no image classifier, none of the tensors can be gated, or an operator on the way to
            one of them has no gradient.
        ModelError: onnxruntime cannot run the model.
    """
    source, kind, name = image_input(model), *_scored(model, score)
    gated, gates, skipped = _gate_rows(model, targets, source)
    if not gates:
        reason = f"{skipped[0].subject} {skipped[0].reason}" if skipped else "there are no targets"
        raise UnsupportedError(f"none of {len(targets)} tensors can be gated: {reason}; choose others")
    gated.graph.outputs[:] = [_tensor(gated, name)]
    gradient = gradient_graph(gated, name, [gate.name for gate in gates], seeded=True)
    shape = _tensor(gradient.model, name).shape
    if shape is None or any(not isinstance(dim, int) for dim in shape[1:]):
        raise UnsupportedError(
            f"{name!r} is of shape {shape or 'unknown'}; expected one row an image, of a known length"
        )
    options = runtime or RuntimeOptions()
    sessions = open_session(gradient.model, options), open_session(gated, options)
    row = tuple(int(dim) for dim in shape[1:] if isinstance(dim, int))
    return RowGates(tuple(gates), tuple(skipped), kind, name, *sessions, gradient.seeds[0][1], source, row)


def run_values(opened: RowGates, images: Images, changed: Mapping[int, NDArray[Any]] | None = None) -> Floats:
    """Return the differentiated tensor, `(R, columns)`.

    Args:
        opened: From `open_row_gates`.
        images: `(R, ...)`, one a row.
        changed: `(R, *shape)`, what gates multiply by, by their index; the others by 1.
    """
    pieces = [
        opened.forward.run(feeds, [opened.value])[0][:count].reshape(count, -1)
        for feeds, count, _ in _calls(opened, images, changed or {})
    ]
    return np.concatenate(pieces).astype(np.float64)


def run_gradients(
    opened: RowGates,
    images: Images,
    weights: Floats,
    changed: Mapping[int, NDArray[Any]] | None = None,
) -> list[Floats]:
    """Return the gradient of the score by every gate, `(R, channels)` each.

    Args:
        opened: From `open_row_gates`.
        images: `(R, ...)`, one a row.
        weights: `(R, columns)`, from `class_weights`.
        changed: As for `run_values`.
    """
    names = opened.gradient.output_names[1:]
    pieces: list[list[Floats]] = [[] for _ in opened.gates]
    dtype = opened.source.dtype.numpy() if not opened.source.takes_pixels else np.float32
    for feeds, count, rows in _calls(opened, images, changed or {}):
        part = _filled(weights[rows], len(next(iter(feeds.values()))))
        seed = part.reshape(len(part), *opened.value_shape).astype(dtype)
        found = opened.gradient.run({**feeds, opened.seed: seed}, names)
        for gate, piece, array in zip(opened.gates, pieces, found, strict=True):
            piece.append((array[:count].astype(np.float64) * gate.base).reshape(count, -1))
    return [np.concatenate(piece) for piece in pieces]


def class_weights(opened: RowGates, images: Images, target: TargetClass) -> Floats:
    """Return how each column of the differentiated tensor counts, `(R, columns)`: 1 for the class that is scored.

    Raises:
        OptionError: There is no such column.
    """
    columns = int(np.prod(opened.value_shape, dtype=np.int64))
    if columns == 1:
        return np.full((len(images), 1), -1.0 if target.negated else 1.0)
    if target.column is not None:
        if target.column >= columns:
            raise OptionError(f"there is no class {target.column}; the score has {columns} columns")
        chosen = np.full(len(images), target.column)
    else:
        chosen = np.argmax(run_values(opened, images), axis=1)
    weights: Floats = np.eye(columns)[chosen]
    return weights


def _calls(
    opened: RowGates, images: Images, changed: Mapping[int, NDArray[Any]]
) -> list[tuple[dict[str, NDArray[Any]], int, slice]]:
    """Cut rows into calls of the size that the model takes: feeds, how many rows count, and which they are."""
    size = opened.source.fixed_batch or len(images)
    calls = []
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        count = len(images[rows])
        feeds = {opened.source.name: _filled(images[rows], size).astype(opened.source.dtype.numpy())}
        for index, gate in enumerate(opened.gates):
            values = changed[index][rows] if index in changed else np.ones((count, *gate.shape))
            feeds[gate.name] = (_filled(values, size) * gate.base).astype(_dtype(opened))
        calls.append((feeds, count, rows))
    return calls


def _dtype(opened: RowGates) -> np.dtype[Any]:
    return np.dtype(np.float32) if opened.source.takes_pixels else np.dtype(opened.source.dtype.numpy())


def _filled(rows: NDArray[Any], size: int) -> NDArray[Any]:
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)]) if len(rows) < size else rows


def _scored(model: ir.Model, score: str) -> tuple[str, str]:
    output = score_output(model)
    logit = logit_tensor(output)
    if score == "prob" or (score == "auto" and logit is None):
        return "prob", str(output.name)
    if score not in ("auto", "logit"):
        raise OptionError(f"cannot differentiate {score!r}; expected auto, logit or prob")
    if logit is None:
        raise OptionError("no Sigmoid or Softmax makes the score, so there is no logit; take prob")
    return "logit", str(logit.name)


def _gate_rows(
    model: ir.Model, targets: Sequence[Target], source: ImageInput
) -> tuple[ir.Model, list[RowGate], list[Skip]]:
    names = [target.tensor for target in targets]
    by_channel = insert_gates(model, names, per_channel=True)
    done = {gate.tensor for gate in by_channel.gates}
    rest = [name for name in names if name not in done]
    whole = insert_gates(by_channel.model, rest) if rest else None
    skipped = [] if whole is None else list(whole.skipped)
    found = {gate.tensor: gate for gate in (*by_channel.gates, *(whole.gates if whole is not None else ()))}
    gated = infer_shapes(by_channel.model if whole is None else whole.model)
    gates: list[RowGate] = []
    for position, target in enumerate(targets):
        gate = found.get(target.tensor)
        if gate is None:
            continue
        reason = _give_rows(gated, gate, source)
        if isinstance(reason, str):
            skipped.append(Skip(target.tensor, reason))
            continue
        shape, base = reason
        gates.append(RowGate(position, target, gate.gate, shape, base, len(gate.shape) > 0))
    return gated, gates, skipped


def _give_rows(model: ir.Model, gate: Gate, source: ImageInput) -> tuple[tuple[int, ...], Floats] | str:
    """Turn a gate into an input with a value for each row; return a row's shape and its default, or why it cannot be."""
    value = next(item for item in model.graph.inputs if item.name == gate.gate)
    (product,) = (node for node, _ in value.uses())
    tensor = product.outputs[0]
    if tensor.shape is None or not len(tensor.shape):
        return "its rank is unknown or 0; a gate for every row needs to know it"
    first = tensor.shape[0]
    if isinstance(first, int) and first != source.fixed_batch:
        return f"is of shape {tensor.shape}, whose first axis is not that of the images"
    lead = first if isinstance(first, int) else first.value or _ROWS
    tensor.shape = ir.Shape([lead, *tensor.shape[1:]])
    shape = gate.shape[1:] or (1,) * (len(tensor.shape) - 1)
    default = model.graph.initializers.pop(gate.gate).const_value
    if default is None:
        raise AssertionError(f"gate {gate.gate} has no default")
    base = np.broadcast_to(default.numpy().astype(np.float64).reshape(gate.shape[1:] or ()), shape)
    value.const_value = None
    value.shape = ir.Shape([lead, *shape])
    return shape, base


def _tensor(model: ir.Model, name: str) -> ir.Value:
    return next(value for node in model.graph for value in node.outputs if value.name == name)
