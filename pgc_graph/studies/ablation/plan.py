"""What an ablation has to compute at all.

The plain way runs the whole model once per image and gate. Four facts about a gate shorten that:

1. *Prefix.* It changes only what lies below it; the rest is the run without gates.
2. *Constants.* At 0, or at its mean, its tensor is a constant, and so is everything below that has no other live input.
   Those constants are computed once, by a model of their own (`constants_model`). Where the output itself is one, nothing
   is left to run.
3. *Twins.* Gates that lead to equal constants are one run: copies of a node that read the same tensors are one copy.
4. *One graph.* The run without gates and all that is left below the gates become one model for one call a batch.

All this holds for any graph whose rows along the batch axis do not depend on each other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.reach import (
    READS_SHAPE_ONLY,
    Reads,
    downstream_values,
    frozen_values,
    independent_values,
    node_reads,
    upstream_nodes,
)
from pgc_graph.studies.ablation.changes import Changes
from pgc_graph.studies.ablation.copies import Copies
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.reference import TensorStatistics

__all__ = ["Constant", "ConstantsModel", "Outcome", "Plan", "Question", "build_plan", "constants_model"]

_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean"})


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a model.

    Attributes:
        model: The model; stays untouched.
        tensors: The tensors that are changed, one at a time.
        outputs: The tensors wanted for each: the score, and the logit where there is one.
        intervention: What is done to them.
        statistics: Of each, where the intervention needs them.
    """

    model: ir.Model
    tensors: tuple[str, ...]
    outputs: tuple[str, ...]
    intervention: Intervention
    statistics: tuple[TensorStatistics, ...] = ()

    def part(self, start: int, count: int) -> Question:
        """Return the question for some of the tensors."""
        chosen = slice(start, start + count)
        return dataclasses.replace(self, tensors=self.tensors[chosen], statistics=self.statistics[chosen])


@dataclass(frozen=True, eq=False)
class ConstantsModel:
    """A model that computes the constants of all gates.

    Attributes:
        model: Takes the original's input.
        names: For each gate, the constants by the name of the tensor whose place they take.
    """

    model: ir.Model
    names: tuple[dict[str, str], ...]


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant that takes the place of a tensor.

    Attributes:
        array: Its value, for one row where it has a batch axis.
        batched: Whether the tensor has a row for each image.
    """

    array: NDArray[Any]
    batched: bool

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal constants."""
        return (self.array.dtype.str, self.array.shape, self.batched, self.array.tobytes())


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where a gate's results are found: for each output wanted, an output of the plan or a constant row."""

    sources: tuple[str | NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """One model that computes all that depends on the image.

    Attributes:
        model: The model to run.
        baseline: Its outputs that are the results without gates.
        outcomes: One a gate.
        copied_nodes: How many nodes it has below gates, in addition to the original's.
        question: What it answers.
        donors: Its input for the images that `resample` takes tensors from, empty for other interventions.
        noise: Its inputs for what `noise` adds, one a gate; nothing for other interventions.
    """

    model: ir.Model
    baseline: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    copied_nodes: int
    question: Question
    donors: str = ""
    noise: tuple[str, ...] = ()


class _Analysis:
    """A copy of the model reduced to the outputs wanted, and what a gate does to its nodes."""

    def __init__(self, question: Question) -> None:
        self.model = question.model.clone()
        graph = self.model.graph
        self.values = {str(value.name): value for node in graph for value in node.outputs if value.name}
        self.outputs = [self.values[name] for name in question.outputs]
        graph.outputs[:] = self.outputs
        self.nodes = upstream_nodes(graph, self.outputs)
        unused = [node for node in graph if node not in set(self.nodes)]
        self.gated = [self.values[name] for name in question.tensors]
        # A gate may be on a tensor that leads nowhere; its node goes only if none is.
        keep = set(upstream_nodes(graph, self.gated))
        graph.remove([node for node in unused if node not in keep])
        self.independent = independent_values(graph)
        # The nodes of the original are asked many times what they read.
        self.reads: Reads = functools.cache(node_reads)
        self.copies = Copies(self.model, self.reads)
        self.changes = Changes(question.intervention, question.statistics, self.copies, self.model)

    def frozen(self, value: ir.Value) -> frozenset[ir.Value]:
        return frozen_values(self.nodes, [value], self.independent, reads=self.reads)

    def affected(self, value: ir.Value) -> Iterator[ir.Node]:
        """Yield the nodes that compute something else once a tensor changes, in order."""
        reached = downstream_values(self.nodes, [value], reads=self.reads)
        for node in self.nodes:
            if node.op_type not in READS_SHAPE_ONLY and not reached.isdisjoint(self.reads(node)):
                yield node


def constants_model(question: Question) -> ConstantsModel:
    """Write the model that computes, for every gate that makes a constant, those that live nodes or the outputs need.

    The constants of one gate do not depend on the image, so that the model can be run on any.
    """
    analysis = _Analysis(question)
    names: list[dict[str, str]] = []
    wanted: dict[ir.Value, None] = {}
    for gate, value in enumerate(analysis.gated):
        frozen = analysis.frozen(value)
        needed = {output for output in analysis.outputs if output in frozen}
        replaced = {value: analysis.changes.changed(gate, value)}
        for node in analysis.affected(value):
            reads = [read for read in analysis.reads(node) if read in frozen]
            if not frozen.issuperset(node.outputs):
                needed.update(reads)
                continue
            copy = analysis.copies.copy(node, replaced)
            replaced.update(zip(node.outputs, copy.outputs, strict=True))
        names.append({str(old.name): str(replaced[old].name) for old in needed})
        wanted.update((replaced[old], None) for old in needed)
    analysis.model.graph.outputs[:] = list(wanted)
    return ConstantsModel(analysis.model, tuple(names))


def build_plan(question: Question, constants: Sequence[Mapping[str, Constant]]) -> Plan:
    """Write the model that computes the run without gates and all that is left to run below them.

    Args:
        question: What is asked.
        constants: For each gate, the constants by the name of the tensor whose place they take; empty where it makes
            none.
    """
    analysis = _Analysis(question)
    before = analysis.model.graph.num_nodes()
    held = _Held(analysis)
    results: list[tuple[ir.Value | NDArray[Any], ...]] = []
    for gate, (value, known) in enumerate(zip(analysis.gated, constants, strict=True)):
        fixed = {analysis.values[name]: constant for name, constant in known.items()}
        frozen = analysis.frozen(value) if question.intervention.makes_constant else frozenset()
        replaced = {} if frozen else {value: analysis.changes.changed(gate, value)}
        for node in analysis.affected(value):
            if not frozen.issuperset(node.outputs):
                here = {read: held.get(read, fixed[read], node) for read in analysis.reads(node) if read in frozen}
                copy = analysis.copies.copy(node, {**replaced, **here})
                replaced.update(zip(node.outputs, copy.outputs, strict=True))
        results.append(tuple(fixed[o].array if o in frozen else replaced.get(o, o) for o in analysis.outputs))
    live = {source: None for sources in results for source in sources if isinstance(source, ir.Value)}
    analysis.model.graph.outputs[:] = list(dict.fromkeys([*analysis.outputs, *live]))
    outcomes = tuple(
        Outcome(tuple(str(s.name) if isinstance(s, ir.Value) else s for s in sources)) for sources in results
    )
    copied = analysis.model.graph.num_nodes() - before
    return Plan(
        analysis.model,
        tuple(str(o.name) for o in analysis.outputs),
        outcomes,
        copied,
        question,
        analysis.changes.donors,
        tuple(analysis.changes.noise),
    )


class _Held:
    """Constants as tensors of the plan's graph, equal ones once."""

    def __init__(self, analysis: _Analysis) -> None:
        self._copies = analysis.copies
        self._made: dict[tuple[object, ...], ir.Value] = {}

    def get(self, original: ir.Value, constant: Constant, consumer: ir.Node) -> ir.Value:
        if constant.key not in self._made:
            self._made[constant.key] = self._copies.constant(constant.array, f"{original.name}_constant")
        value = self._made[constant.key]
        if not constant.batched or consumer.op_type in _BROADCASTING:
            return value
        # Operators that do not broadcast need a row for each image.
        shape = self._copies.add("Shape", [original], f"{original.name}_shape")
        return self._copies.add("Expand", [value, shape], f"{value.name}_expanded")
