"""The plain way: the whole model once per gate and image. Slow, and right for any model; the judge of every plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import ImageInput
from pgc_graph.analysis.names import FreshNames
from pgc_graph.passes.gates import Gate
from pgc_graph.runtime.session import RuntimeOptions, Session, open_session
from pgc_graph.studies.ablation.plan import Question
from pgc_graph.studies.ablation.reference import Noise
from pgc_graph.studies.ablation.scores import Runner, Scores, Wanted, join_scores, pick_scores

__all__ = ["Overrides", "gated_runner", "overridable_model", "overridden_runner", "shifts_of"]

Array = NDArray[Any]
Images = NDArray[np.float32]


def gated_runner(
    model: ir.Model,
    gates: Sequence[Gate],
    value: float,
    outputs: Sequence[str],
    source: ImageInput,
    options: RuntimeOptions,
) -> Runner:
    """Return a runner that feeds one gate and one image at a time.

    Args:
        model: The gated model.
        gates: Its gates, in the order of the results.
        value: What a gate is set to.
        outputs: Names of the score and, where there is one, the logit.
        source: The model's image input.
        options: How to run.
    """
    asked = model.clone()
    tensors = {str(value.name): value for node in asked.graph for value in node.outputs if value.name}
    asked.graph.outputs[:] = [tensors[name] for name in outputs]
    dtypes = {str(item.name): item.dtype for item in asked.graph.inputs}
    feeds = [
        {gate.gate: np.full(gate.shape, value, (dtypes[gate.gate] or ir.DataType.FLOAT).numpy())} for gate in gates
    ]
    session = open_session(asked, options)

    def run(images: Images, wanted: Wanted) -> Scores:
        repeated = _repeated(images, source)
        given = {source.name: repeated}
        baseline = session.run(given)
        ablated = [session.run({**given, **feed}) for feed in feeds]
        return pick_scores(baseline, ablated, len(repeated), wanted.rows([0] * len(repeated))).rows([0])

    return _one_by_one(run)


def overridden_runner(question: Question, source: ImageInput, options: RuntimeOptions) -> Runner:
    """Return a runner that sets one tensor of one image at a time to factor · tensor + shift.

    Args:
        question: What is asked; an intervention that takes tensors from elsewhere or adds to them.
        source: The model's image input.
        options: How to run.
    """
    model, plan = overridable_model(question)
    session = open_session(model, options)
    neutral = {
        name: np.asarray(one, dtype) for names, dtype in plan for name, one in zip(names[:2], (1, 0), strict=True)
    }
    factor = 1.0 if question.intervention.mode == "noise" else 0.0
    noise = Noise(question.intervention, question.statistics)

    def run(images: Images, wanted: Wanted) -> Scores:
        repeated = _repeated(images, source)
        given = {source.name: repeated, **neutral}
        baseline = session.run(given, question.outputs)
        shifts = shifts_of(question, session, {**neutral, source.name: repeated}, source, noise, wanted, plan)
        ablated = []
        for ((first, second, _), dtype), shift in zip(plan, shifts, strict=True):
            feed = {first: np.asarray(factor, dtype), second: np.asarray(shift, dtype)}
            ablated.append(session.run({**given, **feed}, question.outputs))
        return pick_scores(baseline, ablated, len(repeated), wanted.rows([0] * len(repeated))).rows([0])

    return _one_by_one(run)


Overrides = list[tuple[tuple[str, str, str], np.dtype[Any]]]
"""For each tensor the names of its factor, of its shift, and of what it was before; and its type."""


def shifts_of(
    question: Question,
    session: Session,
    given: dict[str, Array],
    source: ImageInput,
    noise: Noise,
    wanted: Wanted,
    plan: Overrides,
) -> list[Array]:
    """Return what is added to each tensor of one image.

    Args:
        question: What is done to the tensors; neither `zero` nor `scale`.
        session: On the overridable model.
        given: What it is fed where nothing is changed.
        source: Its image input.
        noise: What `noise` adds.
        wanted: Of one image.
        plan: From `overridable_model`.
    """
    mode = question.intervention.mode
    if mode == "mean":
        return [statistics.mean for statistics in question.statistics]
    if mode == "noise":
        pairs = zip(question.tensors, question.statistics, strict=True)
        return [noise.of(tensor, statistics, wanted.positions) for tensor, statistics in pairs]
    if wanted.donors is None:
        raise AssertionError("no donors were given")
    donors = _repeated(wanted.donors, source)
    return session.run({**given, source.name: donors}, [before for (_, _, before), _ in plan])


def overridable_model(question: Question) -> tuple[ir.Model, Overrides]:
    """Put factor · tensor + shift in the place of each tensor, both inputs; the tensor's own value becomes an output.

    Args:
        question: Which tensors, and which outputs come first.

    Returns:
        The model and, for each tensor, the names of what it takes and gives and its type.
    """
    model = question.model.clone()
    fresh = FreshNames(model)
    values = {str(value.name): value for node in model.graph for value in node.outputs if value.name}
    results = [values[name] for name in question.outputs]
    plan: Overrides = []
    for name in question.tensors:
        value, producer = values[name], values[name].producer()
        if value.dtype is None or producer is None:
            raise AssertionError(f"{name} has neither been typed nor produced")
        factor, shift = (
            ir.Value(name=fresh.claim(f"{name}::{role}"), type=ir.TensorType(value.dtype), shape=shape)
            for role, shape in (("factor", ir.Shape(())), ("shift", None))
        )
        scaled = ir.Node("", "Mul", [value, factor], name=fresh.claim(f"{name}::Mul"))
        scaled.outputs[0].name = fresh.claim(f"{name}::scaled")
        shifted = ir.Node("", "Add", [scaled.outputs[0], shift], name=fresh.claim(f"{name}::Add"))
        value.replace_all_uses_with(shifted.outputs[0], replace_graph_outputs=True)
        scaled.replace_input_with(0, value)
        results = [shifted.outputs[0] if result is value else result for result in results]
        value.name, shifted.outputs[0].name = fresh.claim(f"{name}::before"), name
        model.graph.insert_after(producer, [scaled, shifted])
        model.graph.inputs.extend([factor, shift])
        plan.append(((str(factor.name), str(shift.name), str(value.name)), value.dtype.numpy()))
    model.graph.outputs[:] = list(dict.fromkeys([*results, *(_named(model, before) for (_, _, before), _ in plan)]))
    return model, plan


def _named(model: ir.Model, name: str) -> ir.Value:
    return next(value for node in model.graph for value in node.outputs if value.name == name)


def _repeated(images: Images, source: ImageInput) -> Array:
    """Return one image as often as the model's batch size demands."""
    return np.repeat(images[:1], source.fixed_batch or 1, axis=0).astype(source.dtype.numpy())


def _one_by_one(run: Runner) -> Runner:
    return lambda images, wanted: join_scores(
        [run(images[index : index + 1], wanted.rows([index])) for index in range(len(images))]
    )
