"""Shape inference that keeps everything else as it is."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from pgc_graph.passes.reshape_targets import state_kept_dimensions

__all__ = ["infer_shapes", "with_shapes"]


def with_shapes(model: ir.Model) -> ir.Model:
    """Return a copy of a model in which the shapes are known that onnx can infer; stated ones stay.

    Args:
        model: Stays untouched.
    """
    missing = any(value.shape is None for node in model.graph.all_nodes() for value in node.outputs if value.name)
    known = infer_shapes(model) if missing else model.clone()
    return infer_shapes(known) if missing and state_kept_dimensions(known) else known


def infer_shapes(model: ir.Model) -> ir.Model:
    """Return a copy of a model with the shapes and types that onnx can infer; what is known already stays.

    Args:
        model: Stays untouched.
    """
    known = model.clone()
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True))
    # Names of tensors are unique over all scopes of a model (ONNX IR specification, "Names Within a Graph"), except
    # that a function's body is a world of its own; onnx infers nothing there.
    found = {str(value.name): value for node in inferred.graph.all_nodes() for value in node.outputs if value.name}
    for node in known.graph.all_nodes():
        for value in node.outputs:
            other = found.get(str(value.name))
            if other is not None:
                value.shape = other.shape if value.shape is None else value.shape
                value.type = other.type if value.type is None else value.type
    return known
