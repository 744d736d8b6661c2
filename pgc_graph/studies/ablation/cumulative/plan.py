"""One graph for all steps of removing tensor after tensor.

Step k + 1 removes what step k does and one tensor more. It differs from step k only below that tensor: copies of nodes that
read the same tensors are one copy (`Copies`), so that a step shares all that lies above its own tensor with the step
before it, up to the run with nothing removed.

A tensor at 0 or at its mean is written as a constant of one row; what follows from constants alone is computed when the
session is opened, once for all images (onnxruntime folds constants), and a step whose removals cut the graph costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.interface import dimensions, real_inputs
from pgc_graph.analysis.reach import READS_SHAPE_ONLY, downstream_values, independent_values, node_reads, upstream_nodes
from pgc_graph.errors import UnsupportedError
from pgc_graph.studies.ablation.changes import Changes
from pgc_graph.studies.ablation.channels.channelwise import BROADCASTING
from pgc_graph.studies.ablation.copies import Copies
from pgc_graph.studies.ablation.plan import Question

__all__ = ["StepPlan", "plan_steps"]


@dataclass(frozen=True, eq=False)
class StepPlan:
    """One model for all steps.

    Attributes:
        model: Takes images (and donors and noise).
        steps: For each step the names of its results, in the order of the outputs wanted.
        donors: Its input for the images that `resample` takes tensors from, or empty.
        noise: Its input for what `noise` adds, by the position of the tensor.
    """

    model: ir.Model
    steps: tuple[tuple[str, ...], ...]
    donors: str
    noise: dict[int, str]


def plan_steps(question: Question, steps: Sequence[Sequence[int]]) -> StepPlan:
    """Write the model that computes all steps.

    Args:
        question: What is done to the tensors of a model whose shapes are known.
        steps: For each step the positions of the tensors that are removed.

    Raises:
        UnsupportedError: A tensor that becomes constant has no known shape.
    """
    writer = _Writer(question)
    results = [writer.step(frozenset(removed)) for removed in steps]
    graph = writer.model.graph
    graph.outputs[:] = list(dict.fromkeys(value for values in results for value in values))
    needed = set(upstream_nodes(graph, graph.outputs))
    graph.remove([node for node in graph if node not in needed], safe=False)
    read = {value for node in needed for value in node_reads(node)}
    graph.inputs[:] = [value for value in graph.inputs if value in read or value in writer.inputs]
    noise = {at: str(value.name) for at, value in writer.noise.items() if value in read}
    donors = writer.changes.donors if any(value.name == writer.changes.donors for value in graph.inputs) else ""
    names = tuple(tuple(str(value.name) for value in values) for values in results)
    # Removed nodes still count as users of tensors; a copy knows nothing of them.
    return StepPlan(writer.model.clone(), names, donors, noise)


class _Writer:
    def __init__(self, question: Question) -> None:
        self.model = question.model.clone()
        graph = self.model.graph
        values = {str(value.name): value for node in graph for value in node.outputs if value.name}
        self._question = question
        self._outputs = [values[name] for name in question.outputs]
        self._gates = [values[name] for name in question.tensors]
        self._nodes = tuple(graph)
        self._independent = independent_values(graph)
        sized = [value for node in graph if node.op_type in READS_SHAPE_ONLY for value in node.outputs]
        self._by_shape = downstream_values(self._nodes, sized)
        self._copies = Copies(self.model)
        self.changes = Changes(question.intervention, question.statistics, self._copies, self.model)
        self.inputs = frozenset(real_inputs(self.model))
        self.noise: dict[int, ir.Value] = {}
        self._held: dict[int, ir.Value] = {}
        self._single: set[ir.Value] = set()

    def step(self, removed: frozenset[int]) -> tuple[ir.Value, ...]:
        """Return the results with some tensors removed."""
        at = {self._gates[position]: position for position in removed}
        replaced: dict[ir.Value, ir.Value] = {}
        for node in self._nodes:
            reads = node_reads(node)
            if node.op_type not in READS_SHAPE_ONLY and not replaced.keys().isdisjoint(reads):
                copy = self._copies.copy(node, self._operands(node, replaced))
                replaced.update(zip(node.outputs, copy.outputs, strict=True))
            for value in node.outputs:
                if value in at:
                    replaced[value] = self._changed(at[value], replaced.get(value, value))
        return tuple(replaced.get(output, output) for output in self._outputs)

    def _operands(self, node: ir.Node, replaced: dict[ir.Value, ir.Value]) -> dict[ir.Value, ir.Value]:
        """Return what a node reads instead; constants of one row become rows where the operator needs that."""
        reads = node_reads(node)
        here = {read: replaced[read] for read in reads if read in replaced}
        others = [read for read in reads if here.get(read) not in self._single]
        is_fixed = all(read in self._independent and read not in self._by_shape for read in others)
        if is_fixed:
            copy = self._copies.copy(node, here)
            self._single.update(copy.outputs)
        elif node.op_type not in BROADCASTING:
            here.update({read: self._rows(read, new) for read, new in here.items() if new in self._single})
        return here

    def _rows(self, original: ir.Value, value: ir.Value) -> ir.Value:
        shape = self._copies.add("Shape", [original], f"{original.name}_shape")
        return self._copies.add("Expand", [value, shape], f"{value.name}_expanded")

    def _changed(self, position: int, value: ir.Value) -> ir.Value:
        """Return what takes the place of a removed tensor that other removals have led to."""
        intervention, gate = self._question.intervention, self._gates[position]
        if intervention.mode == "scale" and intervention.value:
            return self.changes.changed(position, value)
        if position not in self._held:
            if intervention.makes_constant:
                self._held[position] = self._constant(position)
                self._single.add(self._held[position])
            else:
                self._held[position] = self.changes.changed(position, gate)
        held = self._held[position]
        if intervention.mode != "noise":
            return held
        added = held.producer()
        if position not in self.noise and added is not None and added.inputs[1] is not None:
            self.noise[position] = added.inputs[1]
        return self._copies.add("Add", [value, self.noise[position]], f"{value.name}_noisy")

    def _constant(self, position: int) -> ir.Value:
        gate, statistics = self._gates[position], self._question.statistics
        shape = dimensions(gate)
        if shape is None or not shape or None in shape[1:] or gate.dtype is None:
            raise UnsupportedError(f"tensor {gate.name!r} has no known shape; it cannot be held constant")
        mean = statistics[position].mean if self._question.intervention.mode == "mean" else np.zeros(())
        whole = np.broadcast_to(mean, (1, *(dim or 1 for dim in shape[1:])))
        return self._copies.constant(np.ascontiguousarray(whole, gate.dtype.numpy()), f"{gate.name}_removed")
