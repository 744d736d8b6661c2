"""The plain loop, as one writes it: a gate behind every Sigmoid→Mul tensor, then every image under every gate.

It uses onnx, onnxruntime and Pillow alone, with onnxruntime as it comes (all its optimisations, all cores). Each image is
decoded once. `benchmarks/ablate.py` runs it as a process of its own, and compares what it prints.

    python benchmarks/plain_ablation.py models/pgc_l_32x32.onnx hands/ --images 1000
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image_dir", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    model = onnx.load(options.model)
    tensors = gate(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    paths = sorted(path for path in options.image_dir.rglob("*.png"))[: options.images]
    sums = np.zeros(len(tensors))
    for image in read(paths, model):
        sums += deltas(session, image, len(tensors))
    print(json.dumps({name: total / len(paths) for name, total in zip(tensors, sums.tolist(), strict=True)}))


def gate(model: onnx.ModelProto) -> list[str]:
    """Multiply what every Sigmoid→Mul gives by an input of its own, and return the tensors' names."""
    sigmoids = {node.output[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    chosen = [node for node in model.graph.node if node.op_type == "Mul" and not sigmoids.isdisjoint(node.input)]
    tensors = [node.output[0] for node in chosen]
    nodes = list(model.graph.node)
    for index, (node, name) in enumerate(zip(chosen, tensors, strict=True)):
        node.output[0] = f"ungated_{index}"
        product = onnx.helper.make_node("Mul", [f"ungated_{index}", f"gate_{index}"], [name])
        nodes.insert(nodes.index(node) + 1, product)
        model.graph.input.append(onnx.helper.make_tensor_value_info(f"gate_{index}", onnx.TensorProto.FLOAT, []))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return tensors


def read(paths: list[Path], model: onnx.ModelProto) -> Iterator[NDArray[np.float32]]:
    """Yield `(1, 3, H, W)` float32, normalised as the model's metadata say."""
    metadata = {item.key: item.value for item in model.metadata_props}
    mean, std = (
        np.array(metadata.get(key, default).split(","), np.float32)
        for key, default in (("pgc.mean", "0,0,0"), ("pgc.std", "1,1,1"))
    )
    height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[2:])
    for path in paths:
        picture = Image.open(path).convert("RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        scaled = (np.asarray(picture, np.float32) / np.float32(255) - mean) / std
        yield np.ascontiguousarray(scaled.transpose(2, 0, 1))[None]


def deltas(session: Any, image: NDArray[np.float32], gates: int) -> NDArray[np.float64]:
    """Return what the score of an image loses under each gate; of several classes, that of the likeliest."""
    name = session.get_inputs()[0].name
    feeds = {name: image, **{f"gate_{index}": np.ones((), np.float32) for index in range(gates)}}
    baseline = session.run(None, feeds)[0].ravel()
    best = int(np.argmax(baseline))
    lost = np.zeros(gates)
    for index in range(gates):
        feeds[f"gate_{index}"] = np.zeros((), np.float32)
        lost[index] = float(baseline[best]) - float(session.run(None, feeds)[0].ravel()[best])
        feeds[f"gate_{index}"] = np.ones((), np.float32)
    return lost


if __name__ == "__main__":
    main()
