"""Count parts of a plan: how many nodes some outputs need, and their multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.analysis.macs import count_macs
from pgc_graph.analysis.reach import node_reads, upstream_nodes
from pgc_graph.studies.ablation.plan import Plan

__all__ = ["PlanParts", "Shapes"]

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of inputs by name."""


class PlanParts:
    """Counts parts of a plan."""

    def __init__(self, plan: Plan, shapes: Shapes) -> None:
        self._graph, self._shapes = plan.model.graph, shapes
        self._proto = modelio.to_proto(plan.model)
        self._values = {str(value.name): value for node in self._graph for value in node.outputs}
        self._baseline = plan.baseline
        self._nodes, self._macs = self._count(self._baseline)

    def beyond_baseline(self, outputs: Sequence[str]) -> tuple[int, int]:
        """Return how many nodes some outputs need that the run without gates does not, and their MACs."""
        nodes, macs = self._count((*self._baseline, *outputs)) if outputs else (self._nodes, self._macs)
        return nodes - self._nodes, macs - self._macs

    def _count(self, outputs: Sequence[str]) -> tuple[int, int]:
        nodes = upstream_nodes(self._graph, [self._values[name] for name in outputs])
        kept = {str(value.name) for node in nodes for value in node.outputs if value.name}
        reads = {str(value.name) for node in nodes for value in node_reads(node)}
        part = onnx.ModelProto(ir_version=self._proto.ir_version, opset_import=self._proto.opset_import)
        part.functions.extend(self._proto.functions)
        whole = self._proto.graph
        part.graph.name = whole.name
        part.graph.node.extend(node for node in whole.node if not kept.isdisjoint(node.output))
        part.graph.input.extend(whole.input)
        part.graph.initializer.extend(tensor for tensor in whole.initializer if tensor.name in reads)
        part.graph.value_info.extend(info for info in whole.value_info if info.name in self._values)
        part.graph.output.extend(info for info in whole.output if info.name in outputs)
        return len(nodes), count_macs(ir.from_proto(part), input_shapes=self._shapes).total
