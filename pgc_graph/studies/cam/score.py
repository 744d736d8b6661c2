"""Which number is explained: the logit of one class, image by image.

Probabilities saturate, and their gradient with them; so what is differentiated is the tensor before the last Sigmoid or
Softmax, and the score itself only where there is none. A class is chosen by a seed: a row of zeros with a 1 at the class,
and for the opposite of a single score a -1, since logit(1 - p) = -logit(p).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import dimensions, score_output
from pgc_graph.analysis.logit import logit_tensor
from pgc_graph.autodiff.context import Writer
from pgc_graph.autodiff.forms import cast, expand_like
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.studies.ablation.classes import TargetClass

__all__ = ["Explained", "emit_seed", "explained_rows", "explained_tensor", "numpy_seed"]

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class Explained:
    """The tensor that holds one number a class.

    Attributes:
        tensor: Its name.
        columns: How many numbers it has for an image.
        rank: Its rank: 1 for `(N)`, 2 for `(N, columns)`; further dimensions are 1.
        target: The class.
    """

    tensor: str
    columns: int
    rank: int
    target: TargetClass

    @property
    def sign(self) -> int:
        """1, or -1 for the opposite of a single score."""
        return -1 if self.target.negated else 1

    def class_of(self, column: int) -> int:
        """Return the class's index: with a single column, that column is class 1."""
        return column if self.columns > 1 else int(not self.target.negated)


def explained_tensor(model: ir.Model, target: TargetClass) -> Explained:
    """Find the logits of a model whose shapes are inferred, or its scores where it has none.

    Raises:
        OptionError: The class does not exist.
        UnsupportedError: There is no score, or it has not one known number of columns an image.
    """
    score = score_output(model)
    logit = logit_tensor(score)
    value = logit if logit is not None and logit.dtype in _FLOATS else score
    shape = dimensions(value)
    if shape is None or not shape or None in shape[1:]:
        raise UnsupportedError(
            f"the classes of tensor {value.name!r} cannot be counted (its shape is {value.shape}); expected (N), (N, 1) "
            "or (N, classes) with a fixed number of classes"
        )
    columns = int(np.prod([dim or 1 for dim in shape[1:]]))
    if len(shape) > 1 and columns != shape[1]:
        raise UnsupportedError(f"the classes of tensor {value.name!r} of shape {value.shape} are not all on axis 1")
    if target.column is not None and target.column >= columns:
        raise OptionError(
            f"target class {target.column} does not exist: the score has {columns} columns; expected 0 to {columns - 1}"
        )
    return Explained(str(value.name), columns, len(shape), target)


def explained_rows(explained: Explained, logits: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the column that counts and its number, with its sign, for each image: `(N,)` each.

    Args:
        explained: What is explained.
        logits: `(N, ...)`, the tensor's values.
    """
    rows = logits.reshape(-1, explained.columns).astype(np.float64)
    column = explained.target.column
    chosen = np.argmax(rows, axis=1) if column is None else np.full(len(rows), column)
    return chosen.astype(np.int64), explained.sign * rows[np.arange(len(rows)), chosen]


def numpy_seed(explained: Explained, columns: NDArray[np.int64], like: NDArray[Any]) -> NDArray[Any]:
    """Return the seed that chooses a column for each image, of the shape and type of `like`, the logits `(N, ...)`."""
    seed = np.zeros((len(columns), explained.columns), like.dtype)
    seed[np.arange(len(columns)), columns] = explained.sign
    return seed.reshape(len(columns), *like.shape[1:])


def emit_seed(writer: Writer, explained: Explained, logits: ir.Value) -> ir.Value:
    """Write that seed as nodes: a constant, or a 1 where the logit is the largest, the first of equals."""
    shape = (1, explained.columns, *[1] * (explained.rank - 2)) if explained.rank > 1 else (1,)
    column = 0 if explained.columns == 1 else explained.target.column
    if column is not None:
        row = np.zeros(explained.columns)
        row[column] = explained.sign
        return expand_like(writer, writer.constant(row.reshape(shape), like=logits), logits)
    largest = writer.emit("ArgMax", logits, axis=1, keepdims=1)
    numbers = writer.constant(np.arange(explained.columns).reshape(shape))
    return cast(writer, writer.emit("Equal", largest, numbers), writer.dtype(logits))
