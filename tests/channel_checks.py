"""Ablation of channels against the plain loop: what several test files need."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.analysis.channels import channel_axis
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.images import ImageBatch
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import Intervention, Measure
from pgc_graph.studies.ablation.channels import ChannelResult, ablate_channel_batches
from pgc_graph.studies.ablation.intervention import NoiseSource, donor_index
from reference.plain_channels import PlainChannels, tensor_values

__all__ = ["MODES", "batches_of", "check_channels", "graph", "methods", "shift_of"]

MODES = {
    "zero": Intervention(),
    "scale": Intervention("scale", -0.5),
    "mean": Intervention("mean"),
    "mean-by-element": Intervention("mean", mean_per="element"),
    "resample": Intervention("resample", seed=3),
    "noise": Intervention("noise", sigma=0.7, seed=5),
}
Images = NDArray[np.float32]


def batches_of(images: Images, size: int) -> list[ImageBatch]:
    names = [Path(f"{index}.png") for index in range(len(images))]
    starts = range(0, len(images), size)
    return [ImageBatch(tuple(names[s : s + size]), images[s : s + size], ()) for s in starts]


def shift_of(intervention: Intervention, tensor: str, values: np.ndarray, axis: int | None, largest: int) -> np.ndarray:
    """Return what is added to a tensor of each image, as numpy computes it; its rows are images."""
    others = (0,) if axis is None else tuple(at for at in range(values.ndim) if at != axis)
    if intervention.mode == "mean":
        axes = (0,) if intervention.mean_per == "element" else others
        mean = values.mean(axis=axes, keepdims=True, dtype=np.float64)
        return np.repeat(mean, len(values), axis=0)
    if intervention.mode == "resample":
        index = donor_index(intervention.seed, np.arange(len(values)), len(values))
        index = np.where(index == np.arange(len(values)), (index + 1) % len(values), index)
        return values[index]
    if intervention.mode == "noise":
        drawn = NoiseSource(intervention.seed, largest).draw(tensor, np.arange(len(values)), values.shape[1:])
        return drawn * intervention.sigma * values.std(axis=others, keepdims=True, dtype=np.float64)
    return np.zeros((len(values), *[1] * (values.ndim - 1)))


def check_channels(
    model: ir.Model,
    images: Images,
    query: TargetQuery,
    intervention: Intervention,
    *,
    every: int = 1,
    size: int = 8,
    tolerance: float = 1e-5,
    target: str = "1",
) -> ChannelResult:
    """Ablate, compare the mean and the extremes of every so manieth channel with the plain loop's, return the result."""
    targets = select_targets(find_targets(model), query)
    result = ablate_channel_batches(
        model,
        batches_of(images, size),
        targets,
        intervention=intervention,
        measure=Measure(target),
        runtime=RuntimeOptions(provider="cpu"),
    )
    found = {(impact.tensor, impact.channel): impact for impact in result.channels}
    assert len(found) == len(result.channels) == sum(tensor.channels for tensor in result.tensors)
    assert [impact.rank for impact in result.channels] == list(range(1, len(found) + 1))
    tensors = [tensor.target.tensor for tensor in result.tensors]
    proto = modelio.to_proto(model)
    plain = PlainChannels(proto, tensors, [proto.graph.output[-1].name])
    values = tensor_values(proto, images, tensors)
    largest = max(value[0].size for value in values)
    base = np.array([plain.run(image, {})[0][-1] for image in images])
    factor = {"noise": 1.0, "scale": intervention.value}.get(intervention.mode, 0.0)
    known = {str(value.name): value for node in infer_shapes(model).graph for value in node.outputs}
    for position, (tensor, value) in enumerate(zip(tensors, values, strict=True)):
        axis = channel_axis(known[tensor]) or 0
        assert value.shape[axis] == result.tensors[position].channels
        shifts = shift_of(intervention, tensor, value, axis, largest)
        for channel in range(0, value.shape[axis], every):
            mask = (np.arange(value.shape[axis]) == channel).reshape(
                [-1 if at == axis else 1 for at in range(value.ndim)]
            )
            scores = [
                plain.run(image, {position: (np.where(mask, factor, 1), np.where(mask, shifts[row : row + 1], 0))})[0]
                for row, image in enumerate(images)
            ]
            prob = np.array([score[-1] for score in scores])
            impact, delta = found[tensor, channel], base - prob
            close = {"rel": tolerance, "abs": tolerance}
            assert impact.delta.mean == pytest.approx(delta.mean(), **close), (tensor, channel)
            assert (impact.prob.min, impact.prob.max) == pytest.approx((prob.min(), prob.max()), **close)
    return result


def methods(result: ChannelResult) -> set[str]:
    return {tensor.way.method for tensor in result.tensors}


def graph(body: str, batch: str = "n", kind: str = "float") -> ir.Model:
    """Write a classifier `x` -> `prob` (n, 1) whose features are `last`; w4x3 are weights of that shape."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    agraph ({kind}[{batch}, 3, 6, 6] x) => ({kind}[{batch}, 1] prob)
    <int64[1] one = {{1}}, int64[2] flat = {{-1, 4}}, int64[2] spatial = {{2, 3}}, int64[3] cube = {{-1, 12, 12}},
     int64[4] back = {{-1, 4, 6, 6}}> {{
        sum = ReduceSum <keepdims = 1> (x, one)  p = Mul (sum, w1x4x1x1)
        {body}
        row = ReduceMean <axes = [2, 3], keepdims = 0> (last)
        sums = ReduceSum <keepdims = 1> (row, one)  prob = Sigmoid (sums)
    }}"""
    proto, rng = onnx.parser.parse_model(text), np.random.default_rng(4)
    element = {"float": np.float32, "double": np.float64, "float16": np.float16}[kind]
    for name in sorted(set(re.findall(r"\bw[0-9][0-9x]*\b", text))):
        array = rng.normal(size=[int(size) for size in name[1:].split("x")]) / 2
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(element), name))
    return modelio.load(proto)
