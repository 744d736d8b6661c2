"""What a model, its graphs, nodes and tensors say of themselves survives every pass: doc strings, metadata, denotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.passes.batch import set_batch
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.extract import extract
from pgc_graph.passes.gates import insert_gates
from pgc_graph.passes.names import fill_names
from pgc_graph.passes.opset import convert_opset
from pgc_graph.passes.rename import rename
from pgc_graph.passes.simplify import simplify
from pgc_graph.passes.taps import add_taps

TEXT = """
<ir_version: 10, opset_import: ["": 17, "local": 1], producer_name: "us", producer_version: "2", domain: "ours",
 model_version: 7>
g (float[n, 2, 3, 3] x, bool flag) => (float[n, 1, 3, 3] y)
<float[1, 2, 1, 1] w = {1.0, -2.0}, float[1, 2, 1, 1] v = {1.0, 2.0},
 float[1, 1, 1, 1] b = {3.0}, float[1] one = {1.0}, float[1] half = {0.5}>
{ [conv] c = Conv (x, w) [bn] m = BatchNormalization (c, one, half, half, one) [swish] h = HardSwish (m)
  [conv2] d = Conv (x, v) [add] e = Add (d, b) [sum] k = Add (h, e)
  [if] u = If (flag) <
    then_branch = yes () => (float[n, 1, 3, 3] p) { [neg] j = Neg (k) [exp] p = Exp (j) },
    else_branch = no () => (float[n, 1, 3, 3] q) { [relu] q = Relu (k) }>
  [call] y = local.used (u) }
<domain: "local", opset_import: ["": 17]> used (a) => (b) { [abs] d = Abs (a) [negative] b = Neg (d) }
"""
PASSES: dict[str, tuple[Callable[[ir.Model], ir.Model], set[str]]] = {
    "name": (lambda model: fill_names(model).model, set()),
    "simplify": (lambda model: simplify(model).model, {"node add", "tensor b", "tensor e"}),
    "fold-bn": (lambda model: fold_batchnorm(model).model, {"node bn", "tensor one", "tensor half", "tensor m"}),
    "opset up": (lambda model: convert_opset(model, 20).model, set()),
    "opset down": (lambda model: convert_opset(model, 13).model, set()),
    "set-batch": (lambda model: set_batch(model, 4).model, set()),
    "rename": (lambda model: rename(model, "^h$", "other").model, {"tensor h"}),
    "extract": (lambda model: extract(model, ["x", "flag"], ["y"]).model, set()),
    "gates": (lambda model: insert_gates(model, ["k"]).model, {"tensor k"}),
    "taps": (lambda model: add_taps(model, ["k"]).model, set()),
}
"""Pass -> what runs it, and what it removes or calls otherwise."""


def described() -> onnx.ModelProto:
    """The model above with something said of each of its parts."""
    proto = onnx.parser.parse_model(TEXT)
    graph = proto.graph
    for name in ("m", "e", "h", "k", "u"):
        graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 3, 3]))
    for number, (_, part) in enumerate(parts(proto)):
        part.doc_string = f"part {number}"
        part.metadata_props.add(key="number", value=str(number))
    for value in (graph.input[0], graph.output[0]):
        value.type.denotation = "IMAGE"
        value.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    annotation = graph.quantization_annotation.add(tensor_name="u")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    return proto


def parts(proto: onnx.ModelProto) -> Iterator[tuple[str, Any]]:
    """Yield what can bear a description, with its kind and name."""
    yield "model", proto
    bodies = [attribute.g for node in proto.graph.node for attribute in node.attribute if attribute.HasField("g")]
    for graph in (proto.graph, *bodies):
        yield f"graph {graph.name}", graph
        yield from ((f"node {node.name}", node) for node in graph.node)
        for item in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            yield f"tensor {item.name}", item
    for function in proto.functions:
        yield f"function {function.name}", function
        yield from ((f"function node {node.name}", node) for node in function.node)


def descriptions(model: ir.Model) -> dict[str, Any]:
    proto = modelio.to_proto(model)
    said: dict[str, Any] = {}
    for name, part in parts(proto):
        said[name] = part.doc_string, [(entry.key, entry.value) for entry in part.metadata_props]
    for value in (proto.graph.input[0], proto.graph.output[0]):
        dims = value.type.tensor_type.shape.dim
        said[f"denotations {value.name}"] = value.type.denotation, [dim.denotation for dim in dims]
    said["annotations"] = [str(annotation) for annotation in proto.graph.quantization_annotation]
    said["origin"] = proto.producer_name, proto.producer_version, proto.domain, proto.model_version
    return said


@pytest.mark.parametrize("name", PASSES)
def test_descriptions_survive(name: str) -> None:
    apply, gone = PASSES[name]
    model = modelio.load(described())
    before = descriptions(model)
    after = descriptions(apply(model))
    assert {key: after.get(key) for key in before.keys() - gone} == {key: before[key] for key in before.keys() - gone}
    assert not gone & {key for key in gone if before[key] == after.get(key)}, "it removed less than said here"


def test_saving_again_and_again_says_nothing_twice() -> None:
    first = modelio.to_bytes(modelio.load(described()))
    assert modelio.to_bytes(modelio.load(modelio.to_bytes(modelio.load(first)))) == first
    assert descriptions(modelio.load(first)) == descriptions(modelio.load(described()))
