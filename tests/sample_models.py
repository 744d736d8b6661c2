"""Small models that hold what tools like to lose."""

from __future__ import annotations

import onnx

RICH = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1], producer_name: "hand", model_version: 3, doc_string: "about">
gated (float[n, 3, 8, 8] x, float[1] strength) => (float[n, 4, 8, 8] y)
<float[4, 3, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[1] strength = {0.75}>
{
    c = Conv(x, w)
    a = local.swish(c)
    half = Constant<value = float[1] {0.5}>()
    strong = Greater(strength, half)
    flag = Squeeze(strong)
    y = If(flag)<
        then_branch = t () => (float[n, 4, 8, 8] yt) { yt = Identity(a) },
        else_branch = e () => (float[n, 4, 8, 8] ye) { ye = Neg(a) }
    >
}
<domain: "local", opset_import: ["" : 17]>
swish (p) => (q) { r = Sigmoid(p) q = Mul(p, r) }
"""


def rich_model() -> onnx.ModelProto:
    """A small model that holds what tools like to lose: metadata, docs, a function, subgraphs, a defaulted input."""
    model = onnx.parser.parse_model(RICH)
    onnx.helper.set_model_props(model, {"licence": "MIT – ü", "pgc.image_size": "8x8"})
    model.graph.doc_string, model.graph.node[0].doc_string = "a graph", "a convolution"
    model.graph.node[0].name = "first"
    model.graph.node[0].metadata_props.add(key="origin", value="hand")
    model.graph.input[0].type.denotation = "IMAGE"
    return model
