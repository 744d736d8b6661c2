"""onnx.version_converter for single nodes, where it is right and a relabel is not enough.

It gets a model of that one node and its typed inputs, never the whole model: it loses model-local functions, leaves the
IR version, gives wrong values for Softmax from 13 to 12 and refuses much that is a mere relabel. It is asked at the
borders before opset 7 only, where models of 2017 and 2018 wait: those that are listed have been compared with numpy.

    Add, Sub, Mul, Div, Pow 7   broadcasting had to be asked for, from the last dimension on
    Gemm                    7   likewise, for the third input
    Concat                  4   axis had a default
    Reshape                 5   the shape was an attribute
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from pgc_graph.passes.opset.site import Site

__all__ = ["RIGHT", "convert_by_onnx"]

_BROADCAST = ("Add", "Div", "Gemm", "Mul", "Pow", "Sub")
RIGHT: frozenset[tuple[str, int]] = frozenset(
    {
        *((op_type, 7) for op_type in _BROADCAST),
        ("Concat", 4),
        ("Reshape", 5),
    }
)
"""(operator, opset that it is taken up to) where onnx's converter is right."""


def convert_by_onnx(site: Site, here: int) -> bool:
    """Take one node up by onnx's converter and put its nodes in place; False where it is not asked or refuses."""
    node = site.node
    typed = all(value is not None and value.dtype is not None and value.shape is not None for value in node.inputs)
    if here > site.target or (node.op_type, site.target) not in RIGHT or not typed or len(node.outputs) != 1:
        return False
    try:
        proto = onnx.version_converter.convert_version(_single(node, here), site.target)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError):
        return False  # the node is refused with the schemas' reason
    _splice(site, ir.from_proto(proto))
    return True


def _single(node: ir.Node, opset: int) -> onnx.ModelProto:
    proto = ir.to_proto(node)
    inputs = {value.name: ir.to_proto(value) for value in node.inputs if value is not None}
    graph = onnx.helper.make_graph([proto], "node", list(inputs.values()), [ir.to_proto(node.outputs[0])])
    imports = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=4)


def _splice(site: Site, converted: ir.Model) -> None:
    values = {str(value.name): value for value in site.node.inputs if value is not None}
    for node in converted.graph:
        operands = [None if value is None else values[str(value.name)] for value in node.inputs]
        output = node.outputs[0]
        tensor = node.attributes["value"].as_tensor() if node.op_type == "Constant" else None
        if tensor is not None:
            values[str(output.name)] = site.constant("constant", tensor.numpy(), tensor.dtype)
        else:
            attributes = {name: attribute.value for name, attribute in node.attributes.items()}
            values[str(output.name)] = site.emit(node.op_type, operands, attributes, like=output)
    site.replace(values[str(converted.graph.outputs[0].name)])
