"""onnx.checker, without what it refuses although runtimes run it.

1. It insists on a rank of inputs and outputs, which runtimes do without.
2. GroupNormalization of opsets 18 to 20 is withdrawn since its scale and bias are stated per group, not per channel;
   PyTorch exported it, onnxruntime runs it, and who has such a file needs to read it to convert it.

What is checked then is a copy with some shape for the former, and the latter in a domain that the checker does not know.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import onnx

__all__ = ["CHECKER_ERRORS", "check_proto"]

CHECKER_ERRORS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, UnicodeDecodeError)
"""What `check_proto` raises."""

_WITHDRAWN = {"GroupNormalization": range(18, 21)}
_OTHER_DOMAIN = "withdrawn"


def check_proto(proto: onnx.ModelProto, path: str | os.PathLike[str] | None = None, *, full: bool = False) -> None:
    """Run onnx.checker over a model.

    Args:
        proto: Stays untouched.
        path: The file that it was read from, if any: external data are looked for beside it.
        full: Whether shapes are inferred as well.

    Raises:
        onnx.checker.ValidationError: The checker refuses the model (or one of the other `CHECKER_ERRORS`).
    """
    withdrawn = list(_withdrawn_nodes(proto))
    if not withdrawn and not _lacks_ranks(proto):
        onnx.checker.check_model(proto if path is None else os.fspath(path), full_check=full)
        return
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in (*copy.graph.input, *copy.graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type and not tensor.HasField("shape"):
            tensor.shape.SetInParent()
    for node in _withdrawn_nodes(copy):
        node.domain = _OTHER_DOMAIN
    if withdrawn:
        for holder in (copy, *copy.functions):
            holder.opset_import.add(domain=_OTHER_DOMAIN, version=1)
    if path is not None:
        _forget_external_data(copy.graph)  # the checker looks for them beside a file only
    onnx.checker.check_model(copy, full_check=full)


def _lacks_ranks(proto: onnx.ModelProto) -> bool:
    tensors = [value.type.tensor_type for value in (*proto.graph.input, *proto.graph.output) if value.HasField("type")]
    return any(tensor.elem_type and not tensor.HasField("shape") for tensor in tensors)


def _withdrawn_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for holder, nodes in ((proto, proto.graph.node), *((function, function.node) for function in proto.functions)):
        opset = next((item.version for item in holder.opset_import if item.domain in ("", "ai.onnx")), 0)
        if any(opset in versions for versions in _WITHDRAWN.values()):
            yield from (node for node in _nodes(nodes) if opset in _WITHDRAWN.get(node.op_type, ()) and not node.domain)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                for body in (attribute.g, *attribute.graphs):
                    yield from _nodes(body.node)


def _forget_external_data(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.ClearField("dims")
            tensor.dims.append(0)
            tensor.raw_data = b""
