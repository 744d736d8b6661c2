"""The walk from opset to opset.

The main graph with its subgraphs is one walk; each model-local function, which imports an opset of its own, is another.
At each border every node whose operator has another version beyond it is taken across by

1. its adapter (`table.py`);
2. a relabel, where the schemas allow one (`schemas.py`);
3. onnx.version_converter, for the few nodes where it is right and there is no adapter (`onnx_converter.py`);
4. its value, where it does not depend on what the model is fed.

Otherwise it is refused, and goes no further. Nodes are taken last first, so that the constants that an adapter asks for
are still computed by nodes of the old opset.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.passes.edit import GraphEditor
from pgc_graph.passes.opset.onnx_converter import convert_by_onnx
from pgc_graph.passes.opset.schemas import (
    changes_at,
    relabel_obstacle,
    schema_of,
    type_obstacle,
    unneeded_attributes,
)
from pgc_graph.passes.opset.site import CannotConvertError, Site, node_label
from pgc_graph.passes.opset.table import adapter_for
from pgc_graph.passes.opset.verdict import Verdict

__all__ = ["DEFAULT_DOMAINS", "LARGEST_CONSTANT", "walk"]

DEFAULT_DOMAINS = ("", "ai.onnx")
LARGEST_CONSTANT = 1 << 20
"""A node is replaced by its value only up to so many elements: files should not grow."""

_ACTIONS = ("same", "relabel", "adapter", "converter", "constant", "refused")


@dataclass
class Journey:
    """What has happened so far to one node of the original graph, and to the nodes written in its place."""

    label: str
    op_type: str
    start: int
    action: str = "same"
    notes: list[str] = field(default_factory=list)
    remedy: str = ""

    def record(self, action: str, note: str = "") -> None:
        """Keep the most telling action, and each note once."""
        self.action = max(self.action, action, key=_ACTIONS.index)
        if note and note not in self.notes:
            self.notes.append(note)

    def verdict(self, target: int) -> Verdict:
        """Sum up."""
        versions = [schema_of(self.op_type, opset) for opset in (self.start, target)]
        texts = [f"{self.op_type}-{schema.since_version}" if schema else "not there" for schema in versions]
        if self.action == "refused":
            return Verdict(self.label, self.op_type, "refused", self.notes[-1], self.remedy)
        detail = " -> ".join(dict.fromkeys(texts)) + (f": {'; '.join(self.notes)}" if self.notes else "")
        return Verdict(self.label, self.op_type, self.action, detail)


def walk(
    model: ir.Model, graph: ir.Graph, source: int, target: int, *, assume_default_inputs: bool = False
) -> tuple[Verdict, ...]:
    """Take all nodes of a graph, in place, from one opset to another.

    Args:
        model: Ours to edit; while walking, it bears the opset that has been reached.
        graph: Its main graph, or the body of one of its functions.
        source: The opset that the graph's nodes are written for.
        target: The opset to reach.
        assume_default_inputs: Whether initializers that are graph inputs count as constants: before IR version 4 all had
            to be inputs, meant to be replaced or not.

    Returns:
        One verdict a node, in graph order. If one is refused, the graph must not be used.
    """
    journeys = {node: Journey(node_label(node), node.op_type, source) for node in _nodes(graph)}
    owners = dict(journeys)
    constants = Constants(model, assume_default_inputs=assume_default_inputs)
    editor = GraphEditor(model)
    path = range(source, target + (1 if target > source else -1), 1 if target > source else -1)
    for here, there in itertools.pairwise(path):
        model.opset_imports[""] = here
        for node in reversed(list(_nodes(graph))):
            if changes_at(node.op_type, min(here, there)) or adapter_for(node.op_type, here, there):
                owner = owners.setdefault(node, Journey(node_label(node), node.op_type, here))
                if owner.action != "refused":
                    site = Site(node, there, constants, editor)
                    _cross(site, here, owner)
                    owners.update(dict.fromkeys(site.emitted, owner))
    model.opset_imports[""] = target
    # A node that was added on the way, such as a constant, is of interest only if it is in the way.
    known = {id(journey) for journey in journeys.values()}
    added = {id(j): j for j in owners.values() if id(j) not in known and j.action == "refused"}
    return tuple(journey.verdict(target) for journey in (*journeys.values(), *added.values()))


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    nodes = ir.traversal.RecursiveGraphIterator(graph)
    return (node for node in nodes if node.domain in DEFAULT_DOMAINS)


def _cross(site: Site, here: int, owner: Journey) -> None:
    """Take one node across the border between `here` and the site's target."""
    node, there = site.node, site.target
    label = f"{node.op_type}-{there}"
    try:
        adapter = adapter_for(node.op_type, here, there)
        done = adapter(site) if adapter else ""
        if done:
            owner.record("adapter", done)
            _check_written(site)
            return
        _relabel(site, here)
        owner.record("relabel")
    except CannotConvertError as problem:
        if convert_by_onnx(site, here):
            owner.record("converter", f"{label} by onnx.version_converter")
        elif _replace_by_value(site):
            owner.record("constant", "became a constant")
        else:
            _refuse(owner, site, here, problem)


def _relabel(site: Site, here: int) -> None:
    node = site.node
    while node.inputs and node.inputs[-1] is None:
        node.resize_inputs(len(node.inputs) - 1)
    obstacle = relabel_obstacle(node, here, site.target)
    if obstacle:
        raise CannotConvertError(obstacle)
    for name in unneeded_attributes(node, site.target):
        del node.attributes[name]


def _check_written(site: Site) -> None:
    """What an adapter wrote has to be allowed beyond the border like anything else."""
    for node in (site.node, *site.emitted):
        obstacle = type_obstacle(node, site.target) if node.graph is not None else ""
        if obstacle:
            raise CannotConvertError(obstacle)
    for name in unneeded_attributes(site.node, site.target) if site.node.graph is not None else ():
        del site.node.attributes[name]


def _replace_by_value(site: Site) -> bool:
    node = site.node
    used = [output for index, output in enumerate(node.outputs) if site.output_used(index)]
    arrays = [site.constants.value(output) for output in used]
    # A function's body has no initializers; there, a constant is a Constant node.
    stuck = node.op_type == "Constant" and site.editor.in_function(node)
    if node.graph is None or stuck or any(output.is_graph_output() for output in used):
        return False
    if any(array is None or array.size > LARGEST_CONSTANT for array in arrays):
        return False
    for output, array in zip(used, arrays, strict=True):
        if array is not None:
            dtype = ir.DataType.from_numpy(array.dtype)
            output.replace_all_uses_with(site.editor.constant(f"{output.name}_value", array, dtype, node))
    inputs = list(node.inputs)
    node.graph.remove(node, safe=True)
    site.editor.remove_orphans(inputs)
    return True


def _refuse(owner: Journey, site: Site, here: int, problem: CannotConvertError) -> None:
    schema = schema_of(site.node.op_type, here)
    operator = f"{site.node.op_type}-{schema.since_version if schema else here}"
    owner.record("refused", f"{operator} cannot go from opset {here} to {site.target}: {problem.reason}")
    bound = "lowest" if site.target < here else "highest"
    reach = f"{here} is the {bound} opset that it reaches"
    owner.remedy = f"{problem.remedy}, or stay at opset {here}" if problem.remedy else reach
