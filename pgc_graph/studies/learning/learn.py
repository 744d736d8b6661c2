"""Learn gates: minimise the task loss plus what open gates cost, with onnxruntime for the gradients and numpy for Adam.

Objective: mean loss of a batch + λ Σ w c(g), with c from `penalty.py` and w = 1, or in proportion to the MACs of the nodes
that lead to the gate's tensor (1 on average). What a step sees and what noise it draws depend on the seed and on
the number of the step alone, so a run that is resumed equals one that was never interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.interface import own_preprocess
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation.again import Images, as_source
from pgc_graph.studies.ablation.cost import measure_costs
from pgc_graph.studies.ablation.measure import Measure, yardstick
from pgc_graph.studies.learning.curve import all_logits, evaluate, probabilities, trade_off
from pgc_graph.studies.learning.penalty import cost_of, gates_of, initial, sampled
from pgc_graph.studies.learning.pool import Pool, batch_indices, read_pool, rows_of
from pgc_graph.studies.learning.problem import Problem, loss_and_gradient, open_problem
from pgc_graph.studies.learning.result import Learned, LearnedGate, LearningResult, LearnSettings
from pgc_graph.studies.learning.state import State, adam, begin, load_state, note_objective, save_state

__all__ = ["learn_gates", "mac_weights"]

_SAVE_EVERY = 50  # steps
Floats = NDArray[np.float64]


def learn_gates(
    model: ir.Model,
    images: Images,
    targets: Sequence[Target],
    settings: LearnSettings | None = None,
    *,
    measure: Measure | None = None,
    preprocess: Preprocess | None = None,
    runtime: RuntimeOptions | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    curve_points: int = 21,
    on_step: Callable[[int, float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Learned:
    """Put a gate behind each of some tensors and learn its value.

    Args:
        model: A classifier with one image input of floats; stays untouched.
        images: Image files, or any source of images.
        targets: The tensors.
        settings: How to learn.
        measure: What images are labelled as. Without labels, and for images without one, the wanted answer is that of the
            model without gates.
        preprocess: How images become input; by default as the model's metadata say.
        runtime: Where to run.
        checkpoint: The file that keeps where learning stands; it goes away when learning ends by itself.
        resume: Whether to go on from there.
        curve_points: Most points of the trade-off curve.
        on_step: Called after each step with the number of steps made and the smoothed objective.
        stop: Asked before each step; what is learned until it says True is kept.

    Raises:
        OptionError: The settings make no sense, or the checkpoint does not fit.
        UnsupportedError: The model is no image classifier, no tensor can be gated, or an operator has no gradient.
        ImageError: None of the images can be read.
        ModelError: onnxruntime cannot run the model.
    """
    settings = settings or LearnSettings()
    chosen = preprocess or own_preprocess(model)
    source = as_source(images)
    identity = _identity(model, targets, source.fingerprint(), settings, chosen, measure)
    problem = open_problem(model, targets, per_channel=settings.per_channel, runtime=runtime)
    state = begin(initial(settings.penalty, sum(problem.sizes)))
    if resume and checkpoint is not None:
        state = load_state(identity, checkpoint)
    elif checkpoint is not None and checkpoint.exists():
        raise OptionError(f"{checkpoint} holds an unfinished run; go on with --resume, or delete it to begin anew")
    pool = read_pool(source, chosen, None if measure is None else yardstick(model, measure, has_logit=True))
    ones = np.ones(len(state.numbers))
    reference = all_logits(problem, pool, ones)
    wanted = _wanted(reference, pool)
    weights = ones if settings.cost == "none" else mac_weights(model, targets, problem, pool, runtime)

    def keep(now: State) -> None:
        if checkpoint is not None:
            save_state(now, identity, checkpoint)

    state, ended = _steps(problem, pool, wanted, weights, settings, state, keep, on_step, stop)
    if ended == "interrupted":
        keep(state)
    elif checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return _finished(problem, pool, settings, state, ended, reference, wanted, targets, curve_points)


def _steps(
    problem: Problem,
    pool: Pool,
    wanted: Floats,
    weights: Floats,
    settings: LearnSettings,
    state: State,
    keep: Callable[[State], None],
    on_step: Callable[[int, float], None] | None,
    stop: Callable[[], bool] | None,
) -> tuple[State, str]:
    size, cuts = problem.source.fixed_batch or settings.batch_size, np.cumsum(problem.sizes)[:-1]
    while state.step < settings.steps:
        if stop is not None and stop():
            return state, "interrupted"
        if settings.patience and state.step - state.best_step >= settings.patience:
            return state, "patience"
        indices = batch_indices(len(pool.positions), size, state.step, settings.seed)
        generator = np.random.default_rng([settings.seed, 1, state.step])
        gates, slope = sampled(settings.penalty, state.numbers, generator)
        loss, parts = loss_and_gradient(problem, rows_of(pool, indices), wanted[indices], np.split(gates, cuts))
        cost, cost_slope = cost_of(settings.penalty, state.numbers)
        gradient = np.concatenate([part.reshape(-1) for part in parts]) * slope
        objective = loss + settings.sparsity * float((weights * cost).sum())
        if not (np.isfinite(objective) and np.isfinite(gradient).all()):
            raise UnsupportedError(
                f"loss or gradient is no finite number in step {state.step + 1}; the model overflows, or its score is none"
            )
        moved = adam(state, gradient + settings.sparsity * weights * cost_slope, settings.learning_rate)
        if settings.penalty == "l1":
            moved = replace(moved, numbers=np.clip(moved.numbers, 0, 1))
        state = note_objective(moved, loss, objective)
        if state.step % _SAVE_EVERY == 0:
            keep(state)
        if on_step is not None:
            on_step(state.step, state.smoothed)
    return state, "steps"


def _wanted(reference: Floats, pool: Pool) -> Floats:
    """Return the wanted probabilities of each image: those of its label, or those without gates."""
    wanted = probabilities(reference).copy()
    known = np.flatnonzero(pool.truth >= 0)
    classes = pool.truth[known]
    columns = max(wanted.shape[1], 2)
    if classes.max(initial=0) >= columns:
        raise OptionError(f"a label names class {classes.max()}, but the model has {columns}; correct the labels")
    wanted[known] = classes[:, None] if wanted.shape[1] == 1 else np.eye(columns)[classes]
    return wanted


def mac_weights(
    model: ir.Model, targets: Sequence[Target], problem: Problem, pool: Pool, runtime: RuntimeOptions | None
) -> Floats:
    """Return each gate's weight, `(G,)`: its share of the MACs of the nodes that lead to its tensor, 1 on average."""
    chosen = {target.tensor: target for target in targets}
    ordered = [chosen[gate.tensor] for gate in problem.gates]
    costs = measure_costs(model, ordered, rows_of(pool, np.zeros(1, np.int64))[0], runtime=runtime, runs=1)
    pairs = zip(costs, problem.sizes, strict=True)
    weights = np.concatenate([np.full(size, cost.macs / size) for cost, size in pairs])
    if not weights.any():
        raise OptionError("no multiply-accumulates lead to the chosen tensors; weigh gates with --cost none")
    scaled: Floats = weights / weights.mean()
    return scaled


def _identity(
    model: ir.Model,
    targets: Sequence[Target],
    fingerprint: str,
    settings: LearnSettings,
    preprocess: Preprocess,
    measure: Measure | None,
) -> dict[str, Any]:
    """Return what decides every step, by what it is called in a message."""
    free = {name: value for name, value in asdict(settings).items() if name not in ("steps", "patience")}
    labels = None if measure is None else measure.labels
    pairs = sorted((str(path), label) for path, label in labels.items()) if isinstance(labels, dict) else str(labels)
    return {
        "model": hashlib.sha256(modelio.to_bytes(model)).hexdigest(),
        "images": fingerprint,
        "tensors": [target.tensor for target in targets],
        "labels": hashlib.sha256(repr(pairs).encode()).hexdigest(),
        "preprocessing": repr(preprocess),
        **{name.replace("_", " "): value for name, value in free.items()},
    }


def _finished(
    problem: Problem,
    pool: Pool,
    settings: LearnSettings,
    state: State,
    ended: str,
    reference: Floats,
    wanted: Floats,
    targets: Sequence[Target],
    curve_points: int,
) -> Learned:
    values = gates_of(settings.penalty, state.numbers)
    order = np.lexsort((state.first, -values))  # among equals first the one that the loss pulls up most
    curve = trade_off(problem, pool, values, order, reference, wanted, curve_points)
    ungated = evaluate(reference, reference, wanted, pool.truth, len(values))
    parts = np.split(values, np.cumsum(problem.sizes)[:-1])
    model = problem.model.clone()
    for gate, part in zip(problem.gates, parts, strict=True):
        value = model.graph.initializers[gate.gate]
        dtype = value.dtype or ir.DataType.FLOAT
        value.const_value = ir.tensor(part.reshape(gate.shape).astype(dtype.numpy()), dtype=dtype, name=gate.gate)
    known = {target.tensor: target for target in targets}
    ranked = sorted(range(len(parts)), key=lambda index: (-float(parts[index].mean()), index))
    gates = tuple(
        LearnedGate(
            rank,
            known[problem.gates[index].tensor],
            problem.gates[index].gate,
            tuple(parts[index].tolist()),
            float(parts[index].mean()),
            int((parts[index] > 0).sum()),
        )
        for rank, index in enumerate(ranked, 1)
    )
    return Learned(
        model,
        LearningResult(
            *(settings, gates, curve, ungated, len(values), int((values > 0).sum()), state.step, ended),
            history=tuple((loss, objective) for loss, objective in state.history.tolist()),
            image_count=len(pool.positions),
            labelled_count=int((pool.truth >= 0).sum()),
            skipped_count=pool.skipped,
            skipped_tensors=problem.skipped,
        ),
    )
