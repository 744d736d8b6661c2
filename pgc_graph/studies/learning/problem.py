"""The task as one graph: images, wanted probabilities and gates in; logits, loss and its gradient by the gates out.

The loss of an image is the cross entropy of the wanted probabilities p and the model's: softplus(z) - p z for one logit z,
-Σ p log softmax(z) for several. With a label for p this is the usual loss; with the probabilities of the model without
gates, it is the Kullback-Leibler divergence to that model plus a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput, image_input, score_output
from pgc_graph.analysis.logit import logit_tensor
from pgc_graph.analysis.names import FreshNames
from pgc_graph.analysis.targets import Target
from pgc_graph.autodiff.gradient import gradient_graph
from pgc_graph.errors import UnsupportedError
from pgc_graph.passes.gates import Gate, insert_gates
from pgc_graph.passes.rewrite import Skip
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session

__all__ = ["Problem", "loss_and_gradient", "open_problem", "run_logits"]

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

_ROWS = 64


@dataclass(frozen=True, eq=False)
class Problem:
    """A gated model, ready to learn.

    Attributes:
        model: The gated model, gates at their defaults.
        gates: Its gates.
        skipped: Tensors that could not be gated.
        source: The image input.
        columns: How many logits an image has.
        logit_shape: Of the logits of one image.
        wanted: The input for the wanted probabilities.
        outputs: The loss, then the gradient by each gate.
        learner: The session of the loss and the gradients.
        forward: A session that returns logits alone.
    """

    model: ir.Model
    gates: tuple[Gate, ...]
    skipped: tuple[Skip, ...]
    source: ImageInput
    columns: int
    logit_shape: tuple[int, ...]
    wanted: str
    outputs: tuple[str, ...]
    learner: Session
    forward: Session

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each gate has."""
        return tuple(int(np.prod(gate.shape, dtype=np.int64)) for gate in self.gates)


def open_problem(
    model: ir.Model, targets: Sequence[Target], *, per_channel: bool, runtime: RuntimeOptions | None = None
) -> Problem:
    """Gate some tensors and open the sessions.

    Raises:
        UnsupportedError: The model is no image classifier of floats, none of the tensors can be gated, or an operator on
            the way has no gradient.
        ModelError: onnxruntime cannot run the model.
    """
    source = image_input(model)
    gated = insert_gates(model, [target.tensor for target in targets], per_channel=per_channel)
    skipped = tuple(item for item in gated.skipped if not any(gate.tensor == item.subject for gate in gated.gates))
    if not gated.gates:
        raise UnsupportedError(f"none of {len(targets)} tensors can be gated: {skipped[0].subject} {skipped[0].reason}")
    work = infer_shapes(gated.model)
    score = score_output(work)
    logit = logit_tensor(score) or score
    shape = () if logit.shape is None else tuple(logit.shape[1:])
    row = tuple(dim for dim in shape if isinstance(dim, int))
    if logit.shape is None or len(row) != len(shape) or len(row) > 1 or logit.dtype is None:
        raise UnsupportedError(
            f"logits {logit.name!r} are of shape {logit.shape}; expected (N), (N, 1) or (N, classes)"
        )
    work.graph.outputs[:] = [logit]
    forward = open_session(work, runtime)
    wanted, loss = _add_loss(work, logit, logit.dtype, row)
    names = [gate.gate for gate in gated.gates]
    gradient = gradient_graph(work, loss, names)
    outputs = (loss, *(item.output for item in gradient.gradients))
    learner = open_session(gradient.model, runtime)
    columns = row[0] if row else 1
    return Problem(gated.model, gated.gates, skipped, source, columns, row, wanted, outputs, learner, forward)


def run_logits(problem: Problem, images: Images, values: Sequence[NDArray[np.floating]] | None = None) -> Floats:
    """Return the logits of images, `(N, columns)`, with gates at some values or at their defaults."""
    size = problem.source.fixed_batch or _ROWS
    gates = {} if values is None else _gate_feeds(problem, values)
    found = []
    for start in range(0, len(images), size):
        rows = images[start : start + size]
        fill = size - len(rows) if problem.source.fixed_batch else 0
        tensor = np.concatenate([rows, np.repeat(rows[-1:], fill, axis=0)]) if fill else rows
        (out,) = problem.forward.run({problem.source.name: tensor.astype(problem.source.dtype.numpy()), **gates})
        found.append(out.reshape(len(tensor), -1)[: len(rows)].astype(np.float64))
    return np.concatenate(found)


def loss_and_gradient(
    problem: Problem, images: Images, wanted: Floats, values: Sequence[NDArray[np.floating]]
) -> tuple[float, list[Floats]]:
    """Return the mean loss of a batch and its gradient by every gate, of the gate's shape.

    Args:
        problem: From `open_problem`.
        images: `(N, ...)`; N is the model's batch size where that is fixed.
        wanted: `(N, columns)` probabilities, of class 1 where there is one column.
        values: One array a gate, of its shape.
    """
    count = len(images)
    feeds = _gate_feeds(problem, values)
    feeds[problem.source.name] = images.astype(problem.source.dtype.numpy())
    dtype = next(iter(_gate_types(problem).values())) if problem.gates else np.dtype(np.float32)
    feeds[problem.wanted] = wanted.reshape(count, *problem.logit_shape).astype(dtype)
    loss, *gradients = problem.learner.run(feeds, problem.outputs)
    return float(loss.astype(np.float64).mean()), [item.astype(np.float64) / count for item in gradients]


def _gate_types(problem: Problem) -> dict[str, np.dtype[np.generic]]:
    types = {str(value.name): value.dtype for value in problem.model.graph.inputs}
    return {gate.gate: np.dtype((types[gate.gate] or ir.DataType.FLOAT).numpy()) for gate in problem.gates}


def _gate_feeds(problem: Problem, values: Sequence[NDArray[np.floating]]) -> dict[str, NDArray[np.generic]]:
    types = _gate_types(problem)
    pairs = zip(problem.gates, values, strict=True)
    return {gate.gate: value.reshape(gate.shape).astype(types[gate.gate]) for gate, value in pairs}


def _add_loss(model: ir.Model, logit: ir.Value, dtype: ir.DataType, row: tuple[int, ...]) -> tuple[str, str]:
    """Write the loss behind the logits and make it the only output; return its input and its output."""
    fresh = FreshNames(model)
    wanted = ir.Value(name=fresh.claim("wanted"), shape=logit.shape, type=ir.TensorType(dtype))
    model.graph.inputs.append(wanted)

    def emit(op_type: str, inputs: list[ir.Value], **attributes: int) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, name=fresh.claim(f"Loss::{op_type}"))
        node.outputs[0].name = fresh.claim(f"loss::{op_type}")
        model.graph.append(node)
        return node.outputs[0]

    if not row or row[0] == 1:
        loss = emit("Sub", [emit("Softplus", [logit]), emit("Mul", [wanted, logit])])
        loss.shape = logit.shape
    else:
        minus = ir.Value(name=fresh.claim("loss::minus"), shape=ir.Shape([row[0], 1]), type=ir.TensorType(dtype))
        minus.const_value = ir.tensor(np.full((row[0], 1), -1, dtype.numpy()), dtype=dtype, name=minus.name)
        model.graph.register_initializer(minus)
        loss = emit("MatMul", [emit("Mul", [wanted, emit("LogSoftmax", [logit], axis=1)]), minus])
        loss.shape = ir.Shape([(logit.shape or [None])[0], 1])
    loss.type = ir.TensorType(dtype)
    model.graph.outputs[:] = [loss]
    return str(wanted.name), str(loss.name)
