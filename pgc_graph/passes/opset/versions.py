"""Which opset a model or function is written for, and which IR version it needs."""

from __future__ import annotations

from collections.abc import MutableMapping

import onnx
import onnx_ir as ir

from pgc_graph.analysis.names import all_nodes
from pgc_graph.errors import OptionError, UnsupportedError

__all__ = ["merge_default_domains", "needed_ir_version", "set_ir_version"]

_ALIAS = "ai.onnx"
_OWN_INITIALIZERS = 4
"""From this IR version on, initializers need not be inputs."""

_TYPES_SINCE = {
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 9),
    **dict.fromkeys(("UINT4", "INT4"), 10),
    "FLOAT4E2M1": 11,
    "FLOAT8E8M0": 12,
    **dict.fromkeys(("UINT2", "INT2"), 13),
}
"""The IR version that brought an element type (onnx.in.proto)."""


def merge_default_domains(imports: MutableMapping[str, int], owner: str) -> int | None:
    """Make `ai.onnx`, the other name of the default domain, the empty one, in place; return its opset, if imported.

    Raises:
        UnsupportedError: Both are imported, with different opsets: readers do not agree on which of them counts.
    """
    alias = imports.get(_ALIAS)
    own = imports.get("")
    if alias is not None and own is not None and alias != own:
        raise UnsupportedError(
            f"{owner} imports the default domain twice, as opset {own} ('') and as {alias} ('{_ALIAS}'); remove one"
        )
    opset = alias if own is None else own
    if opset is not None:
        imports.pop(_ALIAS, None)
        imports[""] = opset
    return opset


def needed_ir_version(model: ir.Model) -> int:
    """Return the lowest IR version that has what a model's opsets and contents need."""
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    needed = int(onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True))
    nodes = list(all_nodes(model))
    has_metadata = bool(model.graph.metadata_props) or any(node.metadata_props for node in nodes)
    overloaded = any(function.overload for function in model.functions.values())
    values = [value for node in nodes for value in (*node.inputs, *node.outputs) if value is not None]
    types = {value.dtype.name for value in (*values, *model.graph.inputs) if value.dtype is not None}
    return max(
        needed,
        8 if model.functions else 0,
        10 if has_metadata or overloaded else 0,
        max((_TYPES_SINCE.get(name, 0) for name in types), default=0),
    )


def set_ir_version(model: ir.Model, wanted: int | None) -> None:
    """Give a model the IR version that it needs, or a higher one that is wanted, in place.

    Without a wish, a version below 4 is kept where it suffices: there, initializers are inputs.

    Raises:
        OptionError: The wanted version is below the needed one, or unknown to onnx.
    """
    needed = needed_ir_version(model)
    if wanted is None:
        model.ir_version = max(needed, min(model.ir_version or needed, _OWN_INITIALIZERS))
        return
    if not needed <= wanted <= onnx.IR_VERSION:
        opset = model.opset_imports.get("", 1)
        raise OptionError(
            f"IR version {wanted} is out of range; opset {opset} and what the model holds need {needed} to "
            f"{onnx.IR_VERSION}"
        )
    model.ir_version = wanted
    if wanted < _OWN_INITIALIZERS:
        _make_initializers_inputs(model)


def _make_initializers_inputs(model: ir.Model) -> None:
    inputs = set(model.graph.inputs)
    for graph in model.graphs():
        if graph is not model.graph and graph.initializers:
            raise OptionError("IR version 3 has no initializers in subgraphs; choose IR version 4 or more")
    model.graph.inputs.extend(v for v in model.graph.initializers.values() if v not in inputs)
