"""The gradient that onnxsim's `graph_grad` makes of a model: static shapes, float32."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnxsim import graph_grad, qat_graph

__all__ = ["onnxsim_gradient"]


def onnxsim_gradient(proto: onnx.ModelProto, wrt: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of a model of static shapes with an input `seed`, whose further outputs are gradients.

    Args:
        proto: The model; its first output, weighed by the seed, is differentiated.
        wrt: Tensors to differentiate by, one further output each.
    """
    model = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    shapes = {v.name: [dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    builder = qat_graph.GraphBuilder("onnxsim_")
    found = graph_grad.build_backward(builder, list(graph.node), shapes, {graph.output[0].name: "seed"}, list(wrt))
    graph.input.append(onnx.helper.make_tensor_value_info("seed", onnx.TensorProto.FLOAT, shapes[graph.output[0].name]))
    graph.node.extend(builder.nodes)
    graph.initializer.extend(builder.initializer)
    model.functions.extend(builder.functions)
    model.opset_import.extend(
        onnx.helper.make_opsetid(domain, 1) for domain in sorted({f.domain for f in builder.functions})
    )
    graph.output.extend(
        onnx.helper.make_tensor_value_info(found[name], onnx.TensorProto.FLOAT, shapes[name]) for name in wrt
    )
    return onnx.inliner.inline_local_functions(model) if builder.functions else model
