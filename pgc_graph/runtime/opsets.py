"""What the installed onnxruntime can load at all: asked by a model of one Identity, not read from a table."""

from __future__ import annotations

import functools

import onnx

from pgc_graph.errors import ModelError
from pgc_graph.runtime.session import RuntimeOptions, open_session

__all__ = ["newest_ir_version", "newest_opset"]

_LOWEST = (7, 8)
"""Opset and IR version that every onnxruntime in use loads."""


@functools.cache
def newest_opset() -> int:
    """Return the newest opset of the default domain that both onnx knows and onnxruntime loads.

    Raises:
        ModelError: onnxruntime loads none.
    """
    return next(opset for opset in range(onnx.defs.onnx_opset_version(), 0, -1) if _loads(opset, _LOWEST[1]))


@functools.cache
def newest_ir_version() -> int:
    """Return the newest IR version that both onnx knows and onnxruntime loads.

    Raises:
        ModelError: onnxruntime loads none.
    """
    return next(version for version in range(int(onnx.IR_VERSION), 0, -1) if _loads(_LOWEST[0], version))


def _loads(opset: int, ir_version: int) -> bool:
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "probe", value[:1], value[1:])
    imports = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    try:
        open_session(model.SerializeToString(), RuntimeOptions(provider="cpu", optimise=False))
    except ModelError:
        if (opset, ir_version) == _LOWEST:
            raise
        return False
    return True
