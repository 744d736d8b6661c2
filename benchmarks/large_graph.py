"""Does the time of load -> name -> fold-bn -> save, and of a conversion to opset 9, grow linearly with the number of nodes?

Draws graphs of Conv, BatchNormalization, Sigmoid, Mul and Add in a row, of 10,000, 50,000 and 100,000 nodes (or as many as
the arguments say), and prints the seconds of each step and the microseconds a node. Run: python benchmarks/large_graph.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

from pgc_graph import modelio
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.names import fill_names
from pgc_graph.passes.opset import convert_opset

SIZES = (10_000, 50_000, 100_000)
CHANNELS = 4
STEPS = ("load", "name", "fold-bn", "save", "opset 9")


def chain(count: int) -> onnx.ModelProto:
    """A graph of `count` unnamed nodes, five to a block."""
    generator = np.random.default_rng(0)
    nodes, weights, current = [], [], "x"

    def weight(name: str, *shape: int) -> str:
        array = generator.uniform(0.5, 1.5, shape).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(array, name))
        return name

    for block in range(count // 5):
        kernel = weight(f"kernel{block}", CHANNELS, CHANNELS, 1, 1)
        parameters = [weight(f"{what}{block}", CHANNELS) for what in ("scale", "bias", "mean", "variance")]
        conv, norm, gate, product, total = (f"{what}{block}" for what in ("conv", "norm", "gate", "product", "total"))
        nodes += [
            onnx.helper.make_node("Conv", [current, kernel], [conv]),
            onnx.helper.make_node("BatchNormalization", [conv, *parameters], [norm]),
            onnx.helper.make_node("Sigmoid", [norm], [gate]),
            onnx.helper.make_node("Mul", [norm, gate], [product]),
            onnx.helper.make_node("Add", [product, current], [total]),
        ]
        current = total
    shape = ["n", CHANNELS, 8, 8]
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)] for name in ("x", current)
    )
    graph = onnx.helper.make_graph(nodes, "chain", inputs, outputs, weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def measure(count: int, folder: Path) -> dict[str, float]:
    """Seconds of each step."""
    source = folder / "source.onnx"
    source.write_bytes(chain(count).SerializeToString())
    clock = [time.perf_counter()]
    model = modelio.load(source)
    clock.append(time.perf_counter())
    named = fill_names(model).model
    clock.append(time.perf_counter())
    folded = fold_batchnorm(named)
    clock.append(time.perf_counter())
    modelio.save(folded.model, folder / "folded.onnx")
    clock.append(time.perf_counter())
    if len(folded.changes) != count // 5 or folded.skipped:
        raise SystemExit(f"{len(folded.changes)} of {count // 5} BatchNormalizations folded")
    convert_opset(folded.model, 9)
    clock.append(time.perf_counter())
    return dict(zip(STEPS, np.diff(clock).tolist(), strict=True))


def main() -> None:
    sizes = tuple(map(int, sys.argv[1:])) or SIZES
    print(f"{'nodes':>9} {' '.join(f'{step:>7}' for step in STEPS)} {'total':>7} {'µs a node':>10}")
    first = 0.0
    for count in sizes:
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure(count, Path(folder))
        total = sum(seconds.values())
        first = first or total / count
        steps = " ".join(f"{value:7.2f}" for value in seconds.values())
        print(f"{count:9,} {steps} {total:7.2f} {1e6 * total / count:10.0f} ({total / count / first:.2f} of the first)")


if __name__ == "__main__":
    main()
