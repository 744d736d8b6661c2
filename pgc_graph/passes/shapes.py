"""Shape inference that keeps everything else as it is."""

from __future__ import annotations

import onnx
import onnx_ir as ir

__all__ = ["infer_shapes"]


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
