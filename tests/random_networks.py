"""Random small convolutional networks, as ONNX, for property tests.

A network is a chain of steps on an (n, C, 8, 8) tensor. Where BatchNormalization stands is the point: after, before,
between, twice, on branches, on a used tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import strategies as st

STEPS = ("conv", "depthwise", "transpose", "batchnorm", "relu", "silu", "excite", "residual", "concat", "identity")


@dataclass
class Writer:
    """Collects nodes and weights of one network."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    channels: int = 3
    current: str = "x"
    count: int = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def weight(self, stem: str, array: np.ndarray) -> str:
        name = self.name(stem)
        self.weights.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op_type: str, inputs: list[str], **attributes: object) -> str:
        output = self.name("t")
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def conv(self, out: int, group: int, kernel: int, bias: bool) -> None:
        weight = self.weight("w", self.rng.normal(size=(out, self.channels // group, kernel, kernel)) / 3)
        inputs = [self.current, weight] + ([self.weight("b", self.rng.normal(size=out))] if bias else [])
        self.current = self.node("Conv", inputs, group=group, pads=[kernel // 2] * 4)
        self.channels = out

    def transpose(self, out: int, bias: bool) -> None:
        weight = self.weight("w", self.rng.normal(size=(self.channels, out, 3, 3)) / 3)
        inputs = [self.current, weight] + ([self.weight("b", self.rng.normal(size=out))] if bias else [])
        self.current = self.node("ConvTranspose", inputs, pads=[1, 1, 1, 1])
        self.channels = out

    def batchnorm(self) -> None:
        c = self.channels
        parameters = [
            self.weight("s", self.rng.uniform(0.5, 1.5, c)),
            self.weight("h", self.rng.normal(size=c) / 2),
            self.weight("m", self.rng.normal(size=c) / 2),
            self.weight("v", self.rng.uniform(0.3, 2, c)),
        ]
        self.current = self.node("BatchNormalization", [self.current, *parameters], epsilon=1e-3)

    def silu(self) -> None:
        gate = self.node("Sigmoid", [self.current])
        self.current = self.node("Mul", [self.current, gate])

    def excite(self) -> None:
        pooled = self.node("GlobalAveragePool", [self.current])
        weight = self.weight("w", self.rng.normal(size=(self.channels, self.channels, 1, 1)) / 2)
        gate = self.node("Sigmoid", [self.node("Conv", [pooled, weight])])
        self.current = self.node("Mul", [self.current, gate])


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Draw a classifier: steps on a feature map, pooling, an optional BatchNormalization, Gemm, Sigmoid."""
    writer = Writer(np.random.default_rng(draw(st.integers(0, 2**31))))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=9)):
        _apply(draw, writer, step)
    pooled = writer.node("Flatten", [writer.node("GlobalAveragePool", [writer.current])])
    writer.current = pooled
    if draw(st.booleans()):
        writer.batchnorm()
    weight = writer.weight("w", writer.rng.normal(size=(2, writer.channels)))
    logits = writer.node("Gemm", [writer.current, weight], transB=1)
    writer.nodes.append(onnx.helper.make_node("Sigmoid", [logits], ["y"]))
    return _model(writer, draw(st.sampled_from([11, 13, 17, 21])))


def _apply(draw: st.DrawFn, writer: Writer, step: str) -> None:
    bias, out = draw(st.booleans()), draw(st.sampled_from([2, 4, 6]))
    before, channels = writer.current, writer.channels
    if step == "conv":
        writer.conv(out, 2 if channels % 2 == 0 and draw(st.booleans()) else 1, draw(st.sampled_from([1, 3])), bias)
    elif step == "depthwise":
        writer.conv(channels, channels, 3, bias)
    elif step == "transpose":
        writer.transpose(out, bias)
    elif step == "residual":
        writer.conv(channels, 1, 3, bias)
        if draw(st.booleans()):
            writer.batchnorm()
        writer.current = writer.node("Add", [writer.current, before])
    elif step == "concat":
        writer.conv(out, 1, 1, bias)
        writer.current = writer.node("Concat", [writer.current, before], axis=1)
        writer.channels = out + channels
    elif step in ("relu", "identity"):
        writer.current = writer.node(step.capitalize(), [writer.current])
    else:
        getattr(writer, step)()


def _model(writer: Writer, opset: int) -> onnx.ModelProto:
    graph = onnx.helper.make_graph(
        writer.nodes,
        "random",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        writer.weights,
    )
    version = onnx.helper.make_opsetid("", opset)
    return onnx.helper.make_model_gen_version(graph, opset_imports=[version], ir_version=8)
