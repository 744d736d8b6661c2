"""Ablation of channels as one would write it down first: the whole model, once per image and channel, on raw protos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

__all__ = ["PlainChannels", "gated_channels", "tensor_values"]

_NUMPY = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}

Array = NDArray[Any]


class PlainChannels:
    """A model with `tensor * factor + shift` in the place of some tensors, one image a run."""

    def __init__(
        self, model: onnx.ModelProto, tensors: Sequence[str], outputs: Sequence[str], *, optimise: bool = False
    ) -> None:
        """Without `optimise`, onnxruntime runs the graph as it stands, on one core; with it, as it comes."""
        self.tensors = list(tensors)
        changed = _scalable(model, self.tensors)
        known = {info.name: info for info in changed.graph.output}
        del changed.graph.output[:]
        changed.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if not optimise:
            options.intra_op_num_threads = 1
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            changed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._kinds = {item.name: _NUMPY[item.type] for item in self._session.get_inputs()}
        self._neutral = {f"factor_{at}": np.ones(()) for at in range(len(self.tensors))}
        self._neutral |= {f"shift_{at}": np.zeros(()) for at in range(len(self.tensors))}
        (self._input,) = (item for item in self._session.get_inputs() if item.name not in self._neutral)

    def run(self, image: Array, changes: dict[int, tuple[Array, Array]]) -> list[NDArray[np.float64]]:
        """Return each output of one image `(C, H, W)`; `changes` are factor and shift by the tensor's position."""
        rows = self._input.shape[0] if isinstance(self._input.shape[0], int) else 1
        fed: dict[str, Array] = {**self._neutral, self._input.name: np.repeat(image[None], rows, axis=0)}
        for position, (factor, shift) in changes.items():
            fed |= {f"factor_{position}": factor, f"shift_{position}": shift}
        feed = {name: np.asarray(array, self._kinds[name]) for name, array in fed.items()}
        return [np.asarray(array, np.float64).reshape(rows, -1)[0] for array in self._session.run(None, feed)]


def tensor_values(model: onnx.ModelProto, images: Array, tensors: Sequence[str]) -> list[Array]:
    """Return some tensors of all images, one image a run."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    rows = source.shape[0] if isinstance(source.shape[0], int) else 1
    kind = _NUMPY[source.type]
    runs = [session.run(None, {source.name: np.repeat(image[None], rows, axis=0).astype(kind)}) for image in images]
    return [np.concatenate([run[index][:1] for run in runs]) for index in range(len(tensors))]


def _scalable(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {
        info.name: info.type.tensor_type.elem_type for info in [*inferred.graph.value_info, *inferred.graph.output]
    }
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for node in changed.graph.node:
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name not in tensors:
                continue
            at = list(tensors).index(name)
            for role in ("factor", "shift"):
                changed.graph.input.append(onnx.helper.make_tensor_value_info(f"{role}_{at}", kinds[name], None))
            node.output[position] = f"source_{at}"
            nodes.append(onnx.helper.make_node("Mul", [f"source_{at}", f"factor_{at}"], [f"product_{at}"]))
            nodes.append(onnx.helper.make_node("Add", [f"product_{at}", f"shift_{at}"], [name]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del changed.graph.node[:]
    changed.graph.node.extend(copies)
    return changed


def gated_channels(model: onnx.ModelProto, tensors: Sequence[str]) -> tuple[bytes, list[int]]:
    """Return a model with `tensor * gate_<index>` in the place of some tensors, and how many channels (axis 1) each has."""
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in inferred.graph.value_info
    }
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for node in changed.graph.node:
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in tensors:
                at = list(tensors).index(name)
                shape = [1, shapes[name][1], 1, 1]
                changed.graph.input.append(
                    onnx.helper.make_tensor_value_info(f"gate_{at}", onnx.TensorProto.FLOAT, shape)
                )
                node.output[position] = f"source_{at}"
                nodes.append(onnx.helper.make_node("Mul", [f"source_{at}", f"gate_{at}"], [name]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del changed.graph.node[:]
    changed.graph.node.extend(copies)
    return changed.SerializeToString(), [shapes[name][1] for name in tensors]
