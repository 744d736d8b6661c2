"""An ONNX classifier computed by torch in float64, node by node, so that autograd can judge gradients of whole networks.

It knows the operators of the networks that the tests use, in the forms in which they occur there; nothing of the library is
used but onnx itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch.nn import functional as F

__all__ = ["run_in_torch"]

Tensor = torch.Tensor
Attributes = Mapping[str, Any]


def run_in_torch(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Return all tensors of a model by name, floats in float64 and part of one autograd graph that begins at the feeds.

    Args:
        proto: A model without subgraphs and functions.
        feeds: Its inputs.
    """
    values = {
        "": None,
        **{tensor.name: _tensor(onnx.numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer},
    }
    values |= {name: _tensor(array).requires_grad_(array.dtype.kind == "f") for name, array in feeds.items()}
    for node in proto.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        result = OPERATORS[node.op_type](attributes, *(values[name] for name in node.input))
        results = [result] if isinstance(result, Tensor) else result
        values.update(zip(node.output, results, strict=False))
    return values


def _tensor(array: np.ndarray) -> Tensor:
    # A copy: arrays of a model's file cannot be written to, of which torch warns.
    return torch.tensor(array.astype(np.float64) if array.dtype.kind == "f" else array)


def _numbers(tensor: Tensor | None) -> list[int]:
    return [] if tensor is None else [int(number) for number in tensor.reshape(-1)]


def _conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    spatial = w.dim() - 2
    assert a.get("auto_pad", b"NOTSET") == b"NOTSET"
    x = F.pad(x, _torch_pads(a.get("pads", [0] * 2 * spatial)))
    one = [1] * spatial
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    return function(x, w, b, a.get("strides", one), 0, a.get("dilations", one), a.get("group", 1))


def _torch_pads(pads: list[int]) -> list[int]:
    half = len(pads) // 2
    return [pad for axis in reversed(range(half)) for pad in (pads[axis], pads[half + axis])]


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    x = F.pad(x, _torch_pads(a.get("pads", [0, 0, 0, 0])), value=-torch.inf)
    return F.max_pool2d(x, a["kernel_shape"], a.get("strides", [1, 1]), ceil_mode=bool(a.get("ceil_mode", 0)))


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    pads = a.get("pads", [0, 0, 0, 0])
    assert pads[:2] == pads[2:] == [0, 0] or a.get("count_include_pad", 0)
    return F.avg_pool2d(x, a["kernel_shape"], a.get("strides", [1, 1]), pads[:2], bool(a.get("ceil_mode", 0)))


def _batch_norm(a: Attributes, x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    # By hand: torch's own function has no gradient to the statistics.
    scale, b, mean, variance = (v.reshape(-1, *[1] * (x.dim() - 2)) for v in (scale, b, mean, variance))
    return scale * (x - mean) / torch.sqrt(variance + a.get("epsilon", float(np.float32(1e-5)))) + b


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, b: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, x.shape[a.get("axis", -1) :], scale, b, a.get("epsilon", float(np.float32(1e-5))))


def _gemm(a: Attributes, x: Tensor, w: Tensor, c: Tensor | None = None) -> Tensor:
    x, w = (x.T if a.get("transA") else x), (w.T if a.get("transB") else w)
    product = a.get("alpha", 1.0) * (x @ w)
    return product if c is None else product + a.get("beta", 1.0) * c


def _reduction(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduce(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        listed = a.get("axes", _numbers(axes)) or list(range(x.dim()))
        return function(x, listed, bool(a.get("keepdims", 1)))

    return reduce


def _reshape(_: Attributes, x: Tensor, target: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(_numbers(target))])


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze(tuple(a.get("axes", _numbers(axes))))


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    for axis in sorted(a.get("axes", _numbers(axes))):
        x = x.unsqueeze(axis)
    return x


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    return list(torch.split(x, _numbers(sizes), a.get("axis", 0)))


def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return torch.clamp(x, low, high)


def _constant(a: Attributes) -> Tensor:
    (name, value) = next(iter(a.items()))
    return _tensor(onnx.numpy_helper.to_array(value)) if name == "value" else torch.tensor(value)


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    return x.flatten(a.get("axis", 1))


def _plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda _, *operands: function(*operands)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": _plain(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "CastLike": _plain(lambda x, like: x.to(like.dtype)),
    "Clip": _clip,
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Constant": _constant,
    "Conv": _conv,
    "Div": _plain(torch.div),
    "Erf": _plain(torch.erf),
    "Expand": _plain(lambda x, shape: x * torch.ones(_numbers(shape), dtype=x.dtype)),
    "Flatten": _flatten,
    "Gather": lambda a, x, i: x[_numbers(i)[0]] if x.dim() == 1 and i.dim() == 0 else x.index_select(a["axis"], i),
    "Gemm": _gemm,
    "GlobalAveragePool": _plain(lambda x: x.mean((2, 3), keepdim=True)),
    "GlobalMaxPool": _plain(lambda x: x.amax((2, 3), keepdim=True)),
    "Greater": _plain(torch.gt),
    "Identity": _plain(lambda x: x),
    "LayerNormalization": _layer_norm,
    "LessOrEqual": _plain(torch.le),
    "MatMul": _plain(torch.matmul),
    "Max": _plain(torch.maximum),
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "Pow": _plain(torch.pow),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceSum": _reduction(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Shape": lambda a, x: torch.tensor(x.shape)[a.get("start", 0) : a.get("end", None)],
    "Sigmoid": _plain(torch.sigmoid),
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
    "Where": _plain(torch.where),
}
