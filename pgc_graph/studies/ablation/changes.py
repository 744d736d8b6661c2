"""Write interventions into the graph of a plan: what takes the place of a tensor (see `intervention.py`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.interface import real_inputs
from pgc_graph.analysis.reach import READS_SHAPE_ONLY, node_reads
from pgc_graph.studies.ablation.copies import Copies
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.reference import TensorStatistics

__all__ = ["Changes"]


class Changes:
    """Adds to a model what takes the place of tensors."""

    def __init__(
        self, intervention: Intervention, statistics: Sequence[TensorStatistics], copies: Copies, model: ir.Model
    ) -> None:
        self._intervention = intervention
        self._statistics = tuple(statistics)
        self._copies = copies
        self._model = model
        self._nodes = tuple(model.graph)
        self._donated: dict[ir.Value, ir.Value] = {}
        self.donors = ""
        self.noise: list[str] = []

    def changed(self, gate: int, value: ir.Value) -> ir.Value:
        """Return what takes the place of a tensor.

        Args:
            gate: The tensor's number among those that are changed.
            value: The tensor.
        """
        mode = self._intervention.mode
        if mode == "mean":
            return self._mean(gate, value)
        if mode == "resample":
            return self._donated_value(value)
        if mode == "noise":
            noise = self._input(value, f"{value.name}_noise")
            self.noise.append(str(noise.name))
            return self._copies.add("Add", [value, noise], f"{value.name}_noisy")
        factor = np.asarray(self._intervention.factor, _dtype(value).numpy())
        scale = self._copies.constant(factor, f"{value.name}_factor")
        return self._copies.add("Mul", [value, scale], f"{value.name}_scaled")

    def _mean(self, gate: int, value: ir.Value) -> ir.Value:
        # Expand does not shrink, and gives a row for each image.
        mean = self._statistics[gate].mean.astype(_dtype(value).numpy())
        held = self._copies.constant(mean, f"{value.name}_mean")
        shape = self._copies.add("Shape", [value], f"{value.name}_shape")
        return self._copies.add("Expand", [held, shape], f"{value.name}_at_mean")

    def _donated_value(self, value: ir.Value) -> ir.Value:
        """Return the tensor of the donors: copies of all that leads to it, once for all tensors."""
        if not self._donated:
            (source,) = real_inputs(self._model)
            donors = self._input(source, f"{source.name}_donors")
            self.donors = str(donors.name)
            self._donated[source] = donors
        wanted: set[ir.Node] = set()
        stack = [value]
        while stack:
            node = stack.pop().producer()
            if node is not None and node not in wanted and node.op_type not in READS_SHAPE_ONLY:
                wanted.add(node)
                stack.extend(node_reads(node))
        for node in self._nodes:
            if node in wanted and not self._donated.keys().isdisjoint(node_reads(node)):
                copy = self._copies.copy(node, self._donated)
                self._donated.update(zip(node.outputs, copy.outputs, strict=True))
        return self._donated.get(value, value)

    def _input(self, like: ir.Value, name: str) -> ir.Value:
        """Return a new input of the type and shape of a tensor."""
        shape = None if like.shape is None else like.shape.copy()
        value = ir.Value(name=self._copies.claim(name), shape=shape, type=ir.TensorType(_dtype(like)))
        self._model.graph.inputs.append(value)
        return value


def _dtype(value: ir.Value) -> ir.DataType:
    if value.dtype is None:
        raise AssertionError(f"{value.name} has no type")
    return value.dtype
