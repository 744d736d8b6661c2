"""Compute the constants that gates make, by a run of a model of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput
from pgc_graph.errors import UnsupportedError
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_graph.studies.ablation.plan import Constant, Question, constants_model

__all__ = ["find_constants"]

Array = NDArray[Any]
Images = NDArray[np.float32]


def find_constants(
    question: Question, source: ImageInput, sample: Images, options: RuntimeOptions
) -> list[dict[str, Constant]]:
    """Compute what each gate makes constant; nothing where its tensor goes on to depend on the image.

    Args:
        question: What is asked.
        source: The model's image input.
        sample: Any images `(N, ...)`.
        options: How to run.

    Raises:
        UnsupportedError: A tensor that should be constant is not, or has no row for each image.
        ModelError: onnxruntime refuses or cannot run a model.
    """
    if not question.intervention.makes_constant:
        return [{} for _ in question.tensors]
    asked = constants_model(question)
    if not asked.model.graph.outputs:
        return [{} for _ in question.tensors]
    # It runs once, so that to rewrite the graph would take longer than to run it.
    session = open_session(asked.model, dataclasses.replace(options, optimise=False))
    # Where the graph does not say which constants have a row for each image, a run with two rows does.
    unclear = source.fixed_batch is None and any(_is_batched(value) is None for value in asked.model.graph.outputs)
    runs: list[dict[str, Array]] = []
    for count in (1, 2) if unclear else (source.fixed_batch or 1,):
        rows = np.resize(sample[:2], (count, *sample.shape[1:])).astype(source.dtype.numpy())
        runs.append(dict(zip(session.output_names, session.run({source.name: rows}), strict=True)))
    batched = {str(value.name) for value in asked.model.graph.outputs if len(runs) == 1 and _is_batched(value)}
    return [_read_constants(names, runs, batched) for names in asked.names]


def _is_batched(value: ir.Value) -> bool | None:
    """Say whether a tensor has a row for each image, or None where its shape does not tell.

    A first dimension of 1 does not: models exported with one image keep it when their input is opened up.
    """
    if value.shape is None or any(not isinstance(size, int) for size in value.shape[1:]):
        return None
    if len(value.shape) == 0:
        return False
    return None if value.shape[0] == 1 else not isinstance(value.shape[0], int)


def _read_constants(
    names: Mapping[str, str], runs: Sequence[Mapping[str, Array]], batched: Collection[str]
) -> dict[str, Constant]:
    """Return the constants of one gate by the tensors whose place they take.

    Args:
        names: The outputs that they are, by those tensors.
        runs: The outputs of one image or, after those, of two.
        batched: The outputs that are known to have a row for each image.
    """
    found: dict[str, Constant] = {}
    for original, name in names.items():
        # Adding 0 turns -0 into 0, so that equal constants have equal bytes.
        one = runs[0][name] + np.zeros((), runs[0][name].dtype)
        more = runs[-1][name]
        has_rows = one.shape != more.shape or name in batched
        if has_rows and (one.shape[0], *more.shape) != (1, len(runs), *one.shape[1:]):
            raise UnsupportedError(f"tensor {original!r} has not one row for each image")
        if not np.allclose(more, one, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise UnsupportedError(f"tensor {original!r} should be constant below a gate, but is not")
        found[original] = Constant(np.ascontiguousarray(one), has_rows)
    return found
