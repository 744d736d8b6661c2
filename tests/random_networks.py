"""Random small convolutional networks, as ONNX, for property tests.

A network is a chain of steps on an (n, C, 8, 8) tensor. Where BatchNormalization stands is the point: after, before,
between, twice, on branches, on a used tensor, next to per-channel arithmetic, with parameters of its own or shared, stored
or computed from constants.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import strategies as st

STEPS = ("conv", "depthwise", "transpose", "batchnorm", "relu", "silu", "excite", "residual", "concat", "identity")
MORE_STEPS = (*STEPS, "again", "dropout", "arithmetic", "computed", "batchnorm", "used")
DTYPES = (np.float32, np.float16, np.float64)


@dataclass
class Writer:
    """Collects nodes and weights of one network."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    channels: int = 3
    current: str = "x"
    count: int = 0
    dtype: type = np.float32
    parameters: dict[int, list[str]] = field(default_factory=dict)
    kernels: dict[tuple[int, ...], str] = field(default_factory=dict)

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def weight(self, stem: str, array: np.ndarray) -> str:
        name = self.name(stem)
        self.weights.append(onnx.numpy_helper.from_array(array.astype(self.dtype), name))
        return name

    def node(self, op_type: str, inputs: list[str], **attributes: object) -> str:
        output = self.name("t")
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def conv(self, out: int, group: int, kernel: int, bias: bool) -> None:
        shape = (out, self.channels // group, kernel, kernel)
        weight = self.kernels[shape] = self.weight("w", self.rng.normal(size=shape) / 3)
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
        self.parameters[c] = parameters
        self.current = self.node("BatchNormalization", [self.current, *parameters], epsilon=1e-3)

    def again(self) -> None:
        """A convolution and a BatchNormalization with the weights of earlier ones, where there are such."""
        shape = (self.channels, self.channels, 3, 3)
        if shape in self.kernels:
            self.current = self.node("Conv", [self.current, self.kernels[shape]], pads=[1] * 4)
        else:
            self.conv(self.channels, 1, 3, False)
        if self.channels in self.parameters:
            self.current = self.node(
                "BatchNormalization", [self.current, *self.parameters[self.channels]], epsilon=1e-3
            )
        else:
            self.batchnorm()

    def computed(self) -> None:
        """A BatchNormalization whose scale and shift are computed from constants."""
        self.batchnorm()
        node = self.nodes[-1]
        half = self.weight("k", np.array([0.5]))
        double = self.node("Mul", [node.input[1], half])
        alias = self.node("Identity", [node.input[2]])
        for index, name in ((1, double), (2, alias)):
            node.input[index] = name
        self.nodes.append(self.nodes.pop(-3))

    def dropout(self) -> None:
        self.current = self.node("Dropout", [self.current])

    def arithmetic(self) -> None:
        """Mul, Add, Sub or Div by one number, or one number a channel, on either side."""
        shape = [(1, self.channels, 1, 1), (self.channels, 1, 1), (1,), ()][self.rng.integers(4)]
        operand = self.weight("k", self.rng.uniform(0.5, 1.5, shape))
        op_type = ("Mul", "Add", "Sub", "Div")[self.rng.integers(4)]
        sides = [self.current, operand]
        if op_type != "Div" and self.rng.integers(2):
            sides.reverse()
        self.current = self.node(op_type, sides)

    def arithmetic_on_vectors(self) -> None:
        self.current = self.node("Add", [self.current, self.weight("k", self.rng.normal(size=self.channels))])

    def used(self) -> None:
        """Two users of one tensor: itself halved and added to itself."""
        half = self.node("Mul", [self.current, self.weight("k", np.array([0.5]))])
        self.batchnorm()
        self.current = self.node("Add", [self.current, half])

    def silu(self) -> None:
        gate = self.node("Sigmoid", [self.current])
        self.current = self.node("Mul", [self.current, gate])

    def excite(self) -> None:
        pooled = self.node("GlobalAveragePool", [self.current])
        weight = self.weight("w", self.rng.normal(size=(self.channels, self.channels, 1, 1)) / 2)
        gate = self.node("Sigmoid", [self.node("Conv", [pooled, weight])])
        self.current = self.node("Mul", [self.current, gate])


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    steps: tuple[str, ...] = STEPS,
    dtypes: tuple[type, ...] = (np.float32,),
    opsets: tuple[int, ...] = (11, 13, 17, 21),
) -> onnx.ModelProto:
    """Draw a classifier: steps on a feature map, pooling, an optional BatchNormalization, Gemm or MatMul, Sigmoid."""
    writer = Writer(np.random.default_rng(draw(st.integers(0, 2**31))), dtype=draw(st.sampled_from(dtypes)))
    opset = draw(st.sampled_from(opsets))
    for step in draw(st.lists(st.sampled_from(steps), min_size=2, max_size=9)):
        _apply(draw, writer, step)
    pooled = writer.node("Flatten", [writer.node("GlobalAveragePool", [writer.current])])
    writer.current = pooled
    if draw(st.booleans()):
        writer.batchnorm()
    if steps is STEPS or draw(st.booleans()):
        weight = writer.weight("w", writer.rng.normal(size=(2, writer.channels)))
        bias = [writer.weight("b", np.zeros(2))] if opset < 11 else []  # which made it optional
        logits = writer.node("Gemm", [writer.current, weight, *bias], transB=1)
    else:
        matrix = writer.weight("w", writer.rng.normal(size=(writer.channels, 2)))
        logits = writer.node("MatMul", [writer.current, matrix])
        writer.channels, writer.current = 2, logits
        if draw(st.booleans()):
            writer.arithmetic_on_vectors()
        if draw(st.booleans()):
            writer.batchnorm()
        logits = writer.current
    writer.nodes.append(onnx.helper.make_node("Sigmoid", [logits], ["y"]))
    return _model(writer, opset)


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
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(writer.dtype))
    graph = onnx.helper.make_graph(
        writer.nodes,
        "random",
        [onnx.helper.make_tensor_value_info("x", element, ["n", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", element, ["n", 2])],
        writer.weights,
    )
    version = onnx.helper.make_opsetid("", opset)
    ir_version = max(8, onnx.helper.find_min_ir_version_for([version]))
    return onnx.helper.make_model_gen_version(graph, opset_imports=[version], ir_version=ir_version)


def exact_twin(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network in float64 at opset 17: none of its operators changed its meaning between 9 and 26."""
    twin = onnx.ModelProto()
    twin.CopyFrom(proto)
    for tensor in twin.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for value in (*twin.graph.input, *twin.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    twin.opset_import[0].version, twin.ir_version = 17, 8
    return twin
