"""Convert a model to another opset of the default domain, exactly or not at all.

Every node goes from opset to opset (`steps.py`): a relabel where the schemas allow it, an adapter of our own where the
operator changed. onnx's version converter is not given the model: it refuses a SiLU network below opset 14 although a
relabel is exact, gives wrong values for a 4-D Softmax from 13 to 12, loses model-local functions and does not raise the
IR version. If one node cannot go all the way, the model is refused and the node is named.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from pgc_graph.analysis.names import all_nodes
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.passes.opset.steps import DEFAULT_DOMAINS, walk
from pgc_graph.passes.opset.verdict import Verdict
from pgc_graph.passes.opset.versions import merge_default_domains, set_ir_version
from pgc_graph.passes.rewrite import Change, Rewrite
from pgc_graph.passes.shapes import infer_shapes

__all__ = ["LOWEST_OPSET", "convert_opset", "plan_conversion"]

LOWEST_OPSET = 7
_NAMED = 3


def convert_opset(model: ir.Model, target: int, *, ir_version: int | None = None, newest: int | None = None) -> Rewrite:
    """Convert a model to an opset, up or down.

    Args:
        model: Stays untouched.
        target: Version of the default domain; other domains keep theirs.
        ir_version: The IR version to write; None for the lowest that suffices.
        newest: The highest opset to allow, such as `runtime.opsets.newest_opset()`; None for all that onnx knows.

    Returns:
        The converted model; `changes` tell how each node that changed its operator's version was treated.

    Raises:
        OptionError: The opset or IR version is out of range.
        UnsupportedError: A node cannot be converted; the message names it.
    """
    converted, verdicts = _convert(model, target, newest)
    refused = [verdict for verdict in verdicts if verdict.action == "refused"]
    if refused:
        named = "; ".join(f"node {v.node!r}: {v.detail} ({v.remedy})" for v in refused[:_NAMED])
        more = f"; and {len(refused) - _NAMED} more nodes" if len(refused) > _NAMED else ""
        raise UnsupportedError(f"cannot convert to opset {target}: {named}{more}")
    set_ir_version(converted, ir_version)
    changes = (Change(v.node, f"{v.action}: {v.detail}") for v in verdicts if v.action != "same")
    return Rewrite(converted, tuple(changes))


def plan_conversion(model: ir.Model, target: int, *, newest: int | None = None) -> tuple[Verdict, ...]:
    """Say for every node of the default domain what converting to `target` takes, without stopping at a refusal.

    Args:
        model: Stays untouched.
        target: Version of the default domain.
        newest: As for `convert_opset`.

    Raises:
        OptionError: The opset is out of range.
    """
    return _convert(model, target, newest)[1]


def _convert(model: ir.Model, target: int, newest: int | None) -> tuple[ir.Model, tuple[Verdict, ...]]:
    known = onnx.defs.onnx_opset_version()
    highest = known if newest is None else min(newest, known)
    if not LOWEST_OPSET <= target <= highest:
        why = "the newest that onnx knows" if highest == known else "the newest that the installed onnxruntime loads"
        raise OptionError(f"opset {target} is out of range; expected {LOWEST_OPSET} to {highest}, {why}")
    converted = infer_shapes(model)
    source = merge_default_domains(converted.opset_imports, "the model")
    all_inputs = model.ir_version < 4
    if target > (source or target):
        # Constants that adapters add need not become inputs then.
        converted.ir_version = max(converted.ir_version, 4)
    verdicts = list(walk(converted, converted.graph, source or target, target, assume_default_inputs=all_inputs))
    for function in converted.functions.values():
        own = merge_default_domains(function.opset_imports, f"function {function.name}")
        if own is not None:
            verdicts += walk(converted, function.graph, own, target, assume_default_inputs=all_inputs)
            function.opset_imports[""] = target
    converted.opset_imports[""] = target
    for node in all_nodes(converted):
        if node.domain in DEFAULT_DOMAINS:
            node.version = None
    return converted, tuple(verdicts)
