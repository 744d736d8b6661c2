"""Layers written as ONNX nodes with GraphSurgeon, named as torch's TorchScript exporter names them.

A layer lives in a *scope*, the path of its module: `/base_model/features/features.2/block/block.5`. Three names follow
from it. A node is called `<scope>/<op>`, with `_1`, `_2`, ... from the second of its kind on; its outputs
`<node>_output_0`, ...; and a parameter is the path with dots, in which a child of a Sequential (`features.2`) replaces
the Sequential itself (`features`): `base_model.features.2.block.5.weight`.

Only operators are used that mean the same from opset 13 on. Three changed, and get the form that the opset wants:
ReduceMean and ReduceMax take their axes as an input from 18 on, LayerNormalization exists from 17 on, and
BatchNormalization names its mode from 14 on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

__all__ = [
    "PREFIX",
    "Net",
    "apply",
    "apply_many",
    "batch_norm",
    "conv2d",
    "gelu",
    "layer_norm",
    "linear",
    "parameter",
    "projection",
    "reduce",
    "relu",
    "reshape",
    "scalar",
    "silu",
    "transpose",
]

PREFIX = "base_model."
"""What stands before a parameter's own name in the graph."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Net:
    """A graph while it is written.

    Attributes:
        graph: The graph so far.
        weights: The parameters' values by their names (without `PREFIX`), or None to write zeros.
        shapes: The shape of every parameter asked for so far, by name.
        taken: How often a node name has been asked for.
    """

    graph: gs.Graph
    weights: Mapping[str, Array] | None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)


def apply_many(
    net: Net, scope: str, op: str, inputs: Sequence[gs.Tensor], outputs: int, **attributes: Any
) -> list[Any]:
    """Add a node and return its output tensors."""
    name = _fresh(net, f"{scope}/{op}")
    made = [gs.Variable(f"{name}_output_{index}") for index in range(outputs)]
    result: list[Any] = net.graph.layer(op=op, name=name, inputs=list(inputs), outputs=made, attrs=attributes)
    return list(result)


def apply(net: Net, scope: str, op: str, *inputs: gs.Tensor, **attributes: Any) -> gs.Variable:
    """Add a node with one output and return that tensor."""
    return apply_many(net, scope, op, inputs, 1, **attributes)[0]


def constant(net: Net, scope: str, values: NDArray[Any]) -> gs.Constant:
    """Return a constant tensor that is no parameter."""
    return gs.Constant(f"{_fresh(net, f'{scope}/Constant')}_output_0", np.ascontiguousarray(values))


def scalar(net: Net, scope: str, value: float) -> gs.Constant:
    """Return a float32 constant of rank 0."""
    return constant(net, scope, np.array(value, np.float32))


def parameter(net: Net, scope: str, leaf: str, shape: tuple[int, ...], *, transposed: bool = False) -> gs.Constant:
    """Return a parameter of the module at a scope, and note its name and shape.

    Args:
        net: The graph.
        scope: The module's scope.
        leaf: The parameter's name inside the module.
        shape: The parameter's shape as the trainer has it.
        transposed: Hand it out transposed (for MatMul), under another name.
    """
    name = f"{_dotted(scope)}.{leaf}".removeprefix(PREFIX)
    net.shapes[name] = shape
    values = np.zeros(shape, np.float32) if net.weights is None else net.weights[name]
    if transposed:
        return gs.Constant(f"{PREFIX}{name}_transposed", np.ascontiguousarray(values.T))
    return gs.Constant(f"{PREFIX}{name}", values)


def conv2d(
    net: Net,
    scope: str,
    x: gs.Tensor,
    channels: tuple[int, int],
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = False,
) -> gs.Variable:
    """Convolve `(N, in, H, W)` with a square kernel; `channels` is (in, out)."""
    inputs, outputs = channels
    operands = [x, parameter(net, scope, "weight", (outputs, inputs // groups, kernel, kernel))]
    if bias:
        operands.append(parameter(net, scope, "bias", (outputs,)))
    return apply(
        net,
        scope,
        "Conv",
        *operands,
        dilations=[1, 1],
        group=groups,
        kernel_shape=[kernel, kernel],
        pads=[padding] * 4,
        strides=[stride, stride],
    )


def batch_norm(net: Net, scope: str, x: gs.Tensor, channels: int) -> gs.Variable:
    """Normalise `(N, C, ...)` by running statistics (Ioffe and Szegedy 2015), as in inference."""
    leaves = ("weight", "bias", "running_mean", "running_var")
    operands = [parameter(net, scope, leaf, (channels,)) for leaf in leaves]
    mode = {"training_mode": 0} if net.graph.opset >= 14 else {}
    return apply(net, scope, "BatchNormalization", x, *operands, epsilon=1e-5, momentum=0.9, **mode)


def layer_norm(net: Net, scope: str, x: gs.Tensor, channels: int, epsilon: float = 1e-5) -> gs.Variable:
    """Normalise over the last axis (Ba et al. 2016)."""
    weight = parameter(net, scope, "weight", (channels,))
    bias = parameter(net, scope, "bias", (channels,))
    if net.graph.opset >= 17:
        return apply(net, scope, "LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)
    centred = apply(net, scope, "Sub", x, reduce(net, scope, "ReduceMean", x, [-1], keep=True))
    square = apply(net, scope, "Mul", centred, centred)
    variance = reduce(net, scope, "ReduceMean", square, [-1], keep=True)
    deviation = apply(net, scope, "Sqrt", apply(net, scope, "Add", variance, scalar(net, scope, epsilon)))
    scaled = apply(net, scope, "Mul", apply(net, scope, "Div", centred, deviation), weight)
    return apply(net, scope, "Add", scaled, bias)


def linear(net: Net, scope: str, x: gs.Tensor, channels: tuple[int, int]) -> gs.Variable:
    """Map `(N, in)` to `(N, out)`; `channels` is (in, out)."""
    inputs, outputs = channels
    operands = (parameter(net, scope, "weight", (outputs, inputs)), parameter(net, scope, "bias", (outputs,)))
    return apply(net, scope, "Gemm", x, *operands, alpha=1.0, beta=1.0, transB=1)


def projection(net: Net, scope: str, x: gs.Tensor, channels: tuple[int, int], leaves: str = "") -> gs.Variable:
    """Map the last axis of a tensor of any rank; `channels` is (in, out), `leaves` how its parameters' names begin."""
    inputs, outputs = channels
    weight = parameter(net, scope, f"{leaves}weight", (outputs, inputs), transposed=True)
    product = apply(net, scope, "MatMul", x, weight)
    return apply(net, scope, "Add", parameter(net, scope, f"{leaves}bias", (outputs,)), product)


def relu(net: Net, scope: str, x: gs.Tensor) -> gs.Variable:
    """Return max(x, 0)."""
    return apply(net, scope, "Relu", x)


def silu(net: Net, scope: str, x: gs.Tensor) -> gs.Variable:
    """Return x * sigmoid(x) (Elfwing et al. 2018) as a Sigmoid and a Mul."""
    return apply(net, scope, "Mul", x, apply(net, scope, "Sigmoid", x))


def gelu(net: Net, scope: str, x: gs.Tensor) -> gs.Variable:
    """Return x * (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016), the exact form, in operators of every opset."""
    erf = apply(net, scope, "Erf", apply(net, scope, "Div", x, scalar(net, scope, math.sqrt(2))))
    product = apply(net, scope, "Mul", x, apply(net, scope, "Add", erf, scalar(net, scope, 1.0)))
    return apply(net, scope, "Mul", product, scalar(net, scope, 0.5))


def reduce(net: Net, scope: str, op: str, x: gs.Tensor, axes: Sequence[int], *, keep: bool = False) -> gs.Variable:
    """Reduce axes with ReduceMean, ReduceMax or ReduceSum."""
    axes_as_input = net.graph.opset >= 18 or op == "ReduceSum"
    if axes_as_input:
        return apply(net, scope, op, x, constant(net, scope, np.array(axes, np.int64)), keepdims=int(keep))
    return apply(net, scope, op, x, axes=list(axes), keepdims=int(keep))


def reshape(net: Net, scope: str, x: gs.Tensor, shape: Sequence[int]) -> gs.Variable:
    """Reshape; a 0 keeps the dimension of that position, so that the batch may have any size."""
    return apply(net, scope, "Reshape", x, constant(net, scope, np.array(shape, np.int64)))


def transpose(net: Net, scope: str, x: gs.Tensor, order: Sequence[int]) -> gs.Variable:
    """Permute the axes."""
    return apply(net, scope, "Transpose", x, perm=list(order))


def _fresh(net: Net, name: str) -> str:
    count = net.taken[name]
    net.taken[name] += 1
    return f"{name}_{count}" if count else name


def _dotted(scope: str) -> str:
    parts: list[str] = []
    for part in scope.strip("/").split("/"):
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)
