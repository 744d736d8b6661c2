"""Convert a model to another opset of the default domain.

Every node is judged by the operator schemas (`verdict.py`). If all are the same, relabelled or adapted, the model is
edited in place and nothing else changes. If one is not, onnx's version converter gets the whole model; where it fails,
the model is refused and the nodes that stand in the way are named. onnx's converter is not asked first: it refuses a
SiLU network below opset 14 although a relabel is exact, gives wrong values for a 4-D Softmax from 13 to 12, loses
model-local functions and does not raise the IR version.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.names import all_nodes
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.passes.edit import GraphEditor
from pgc_graph.passes.opset.adapters import adapter_for
from pgc_graph.passes.opset.verdict import Verdict, plan_conversion, unneeded_attributes
from pgc_graph.passes.rewrite import Change, Rewrite
from pgc_graph.passes.shapes import infer_shapes

__all__ = ["LOWEST_OPSET", "convert_opset"]

LOWEST_OPSET = 7
_WRONG_IN_ONNX = frozenset({"Softmax", "LogSoftmax", "Hardmax"})


def convert_opset(model: ir.Model, target: int) -> Rewrite:
    """Convert a model to an opset, up or down; the IR version follows.

    Args:
        model: Stays untouched.
        target: Version of the default domain.

    Returns:
        The converted model; `changes` tell how each node that changed its operator's version was treated.

    Raises:
        OptionError: The opset does not exist.
        UnsupportedError: A node cannot be converted; the message names it.
    """
    newest = onnx.defs.onnx_opset_version()
    if not LOWEST_OPSET <= target <= newest:
        raise OptionError(f"opset {target} is out of range; expected {LOWEST_OPSET} to {newest}")
    source = model.opset_imports.get("", 1)
    plan = plan_conversion(model, target)
    obstacles = [verdict for verdict in plan if verdict.action == "unknown"]
    if obstacles:
        return _convert_by_onnx(model, target, obstacles)
    converted = infer_shapes(model)
    changes = tuple(_convert_nodes(converted, source, target, plan))
    _set_versions(converted, target)
    return Rewrite(converted, changes)


def _convert_nodes(model: ir.Model, source: int, target: int, plan: tuple[Verdict, ...]) -> Iterator[Change]:
    editor, constants = GraphEditor(model), Constants(model)
    nodes = [node for node in all_nodes(model) if node.domain in ("", "ai.onnx")]
    for node, verdict in zip(nodes, plan, strict=True):
        if verdict.action == "same":
            continue
        adapter = adapter_for(node, source, target)
        problem = adapter(node, constants, editor) if adapter else ""
        if problem:
            raise UnsupportedError(f"node {verdict.node!r} ({verdict.op_type}) cannot go to opset {target}: {problem}")
        for name in unneeded_attributes(node, target):
            del node.attributes[name]
        yield Change(verdict.node, f"{verdict.action}: {verdict.detail}")


def _convert_by_onnx(model: ir.Model, target: int, obstacles: list[Verdict]) -> Rewrite:
    named = ", ".join(f"{v.node!r} ({v.detail})" for v in obstacles[:3]) + (" ..." if len(obstacles) > 3 else "")
    source = model.opset_imports.get("", 1)
    if model.functions:
        raise UnsupportedError(f"cannot convert from opset {source} to {target}: {named}; inline the functions first")
    if target < source and any(verdict.op_type in _WRONG_IN_ONNX for verdict in obstacles):
        raise UnsupportedError(f"cannot convert from opset {source} to {target}: {named}; no exact form is known")
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), target)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise UnsupportedError(f"cannot convert from opset {source} to {target}: {named}; try another opset") from error
    converted = ir.from_proto(proto)
    converted.graph.metadata_props.update(model.graph.metadata_props)
    _set_versions(converted, target)
    return Rewrite(converted, tuple(Change(v.node, f"converted by onnx: {v.detail}") for v in obstacles))


def _set_versions(model: ir.Model, target: int) -> None:
    model.opset_imports.pop("ai.onnx", None)
    model.opset_imports[""] = target
    for function in model.functions.values():
        if "" in function.opset_imports:
            function.opset_imports[""] = target
    for node in all_nodes(model):
        if node.domain in ("", "ai.onnx"):
            node.version = None
    model.ir_version = max(_needed_ir_version(model, target), min(model.ir_version, 4))


def _needed_ir_version(model: ir.Model, target: int) -> int:
    # IR 4: initializers need not be inputs; 8: functions; 10: metadata of nodes, values and graphs.
    needed = int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", target)], ignore_unknown=True))
    has_metadata = bool(model.graph.metadata_props) or any(node.metadata_props for node in all_nodes(model))
    return max(needed, 8 if model.functions else 0, 10 if has_metadata else 0)
