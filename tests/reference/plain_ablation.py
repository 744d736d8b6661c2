"""The ablation as one would write it down first: the whole model, once per image and gate, on raw protos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

__all__ = ["PlainScores", "plain_ablation"]

_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True, eq=False)
class PlainScores:
    """`baseline` (images,) and `ablated` (gates, images); the same of the logit where one was asked for.

    `rows` (1 + gates, images, classes) are all columns of the score, without scaling and for each gate.
    """

    baseline: NDArray[np.float64]
    ablated: NDArray[np.float64]
    baseline_logit: NDArray[np.float64] | None
    ablated_logit: NDArray[np.float64] | None
    rows: NDArray[np.float64]


def plain_ablation(
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    tensors: Sequence[str],
    *,
    value: float = 0.0,
    logit: str | None = None,
    optimise: bool = False,
    column: int | None = None,
    shifts: Sequence[NDArray[Any]] | None = None,
) -> PlainScores:
    """Scale each tensor on each image, one run each; what counts is the output that is the largest without scaling.

    With `column`, it is that output for all images. With `shifts`, one array a tensor with a row for each image (or one
    for all), what is scaled by `value` is added to as well.

    With `optimise`, onnxruntime runs as it comes: its own graph rewriting, all cores.
    """
    outputs = [model.graph.output[-1].name, *([logit] if logit else [])]
    session = _session(_scalable(model, tensors, shifted=shifts is not None), outputs, optimise=optimise)
    ones = {f"factor_{index}": 1.0 for index in range(len(tensors))}
    baseline = np.empty((len(outputs), len(images)))
    ablated = np.empty((len(outputs), len(tensors), len(images)))
    rows: list[list[NDArray[np.float64]]] = []
    for position, image in enumerate(images):
        none = {f"shift_{gate}": 0.0 for gate in range(len(tensors))} if shifts is not None else {}
        raw = _run(session, image, {**ones, **none})
        best = int(np.argmax(raw[0])) if column is None else column
        baseline[:, position] = [row[best] for row in raw]
        rows.append([raw[0]])
        for gate in range(len(tensors)):
            fed: dict[str, Any] = {**ones, f"factor_{gate}": value}
            if shifts is not None:
                row = shifts[gate][position : position + 1]
                fed |= {f"shift_{other}": 0.0 for other in range(len(tensors))}
                fed[f"shift_{gate}"] = row if len(row) else shifts[gate]
            scaled = _run(session, image, fed)
            ablated[:, gate, position] = [row[best] for row in scaled]
            rows[-1].append(scaled[0])
    together = np.array(rows).swapaxes(0, 1)
    if logit is None:
        return PlainScores(baseline[0], ablated[0], None, None, together)
    return PlainScores(baseline[0], ablated[0], baseline[1], ablated[1], together)


def _scalable(model: onnx.ModelProto, tensors: Sequence[str], *, shifted: bool) -> onnx.ModelProto:
    """Multiply each tensor by an input `factor_<index>`; every reader, and the graph output, sees the product.

    With `shifted`, an input `shift_<index>` is added to the product.
    """
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
            index = list(tensors).index(name)
            changed.graph.input.append(onnx.helper.make_tensor_value_info(f"factor_{index}", kinds[name], []))
            node.output[position] = f"source_{index}"
            product = f"product_{index}" if shifted else name
            nodes.append(onnx.helper.make_node("Mul", [f"source_{index}", f"factor_{index}"], [product]))
            if shifted:
                changed.graph.input.append(onnx.helper.make_tensor_value_info(f"shift_{index}", kinds[name], None))
                nodes.append(onnx.helper.make_node("Add", [product, f"shift_{index}"], [name]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del changed.graph.node[:]
    changed.graph.node.extend(copies)
    return changed


def _session(model: onnx.ModelProto, outputs: Sequence[str], *, optimise: bool) -> Any:
    known = {info.name: info for info in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimise:
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, image: NDArray[np.float32], factors: dict[str, Any]) -> list[NDArray[np.float64]]:
    feeds: dict[str, NDArray[Any]] = {}
    rows = 1
    for source in session.get_inputs():
        kind = _NUMPY[source.type]
        if source.name in factors:
            feeds[source.name] = np.asarray(factors[source.name], kind)
        else:
            rows = source.shape[0] if isinstance(source.shape[0], int) else 1
            feeds[source.name] = np.repeat(image[None], rows, axis=0).astype(kind)
    return [np.asarray(array, np.float64).reshape(rows, -1)[0] for array in session.run(None, feeds)]
