"""What blocks cost, against counts made by hand and against onnxruntime on the whole model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio
from pgc_graph.analysis.macs import count_macs
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError, SelectionError
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation.cost import measure_costs

CPU = RuntimeOptions(provider="cpu")


def small(batch: str = "n", kind: str = "float") -> ir.Model:
    """Two convolutions of 3x8 and 8x8 weights, each with Sigmoid→Mul; the second reads both the first and the image."""
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph ({kind}[{batch}, 3, 4, 4] x) => ({kind}[{batch}, 1] prob)
        <{kind}[8, 3, 1, 1] w1, {kind}[8, 11, 1, 1] w2, {kind}[1, 8] w3>
        {{
            c1 = Conv(x, w1)
            s1 = Sigmoid(c1)
            g1 = Mul(c1, s1)
            both = Concat<axis=1>(g1, x)
            c2 = Conv(both, w2)
            s2 = Sigmoid(c2)
            g2 = Mul(c2, s2)
            m = GlobalAveragePool(g2)
            flat = Flatten(m)
            z = Gemm<transB=1>(flat, w3)
            prob = Sigmoid(z)
        }}"""
    proto = onnx.parser.parse_model(text)
    dtype = np.float16 if kind == "float16" else np.float32
    for name, shape in (("w1", (8, 3, 1, 1)), ("w2", (8, 11, 1, 1)), ("w3", (1, 8))):
        weights = np.random.default_rng(0).normal(size=shape).astype(dtype)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    infos = [info for info in proto.graph.value_info if info.name not in ("w1", "w2", "w3")]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(infos)
    return modelio.load(proto)


@pytest.mark.parametrize(
    ("batch", "kind", "width"), [("n", "float", 4), ("2", "float", 4), ("n", "float16", 2)], ids=["open", "two", "half"]
)
def test_blocks_of_a_small_graph_cost_what_is_counted_by_hand(batch: str, kind: str, width: int) -> None:
    model = small(batch, kind)
    targets = select_targets(find_targets(model), TargetQuery())
    image = np.random.default_rng(0).random((3, 4, 4), np.float32)
    first, second = measure_costs(model, targets, image, runtime=CPU, runs=3)
    assert (first.tensor, first.nodes, second.tensor, second.nodes) == ("g1", 3, "g2", 4)
    assert (first.macs, second.macs) == (16 * 8 * 3, 16 * 8 * 11)
    assert (first.parameter_bytes, second.parameter_bytes) == (8 * 3 * width, 8 * 11 * width)
    assert (first.activation_bytes, second.activation_bytes) == (8 * 16 * width, 8 * 16 * width)
    assert first.milliseconds > 0
    assert second.milliseconds > 0


def test_costs_come_in_the_order_of_the_targets() -> None:
    model = small()
    targets = select_targets(find_targets(model), TargetQuery())[::-1]
    found = measure_costs(model, targets, np.zeros((3, 4, 4), np.float32), runtime=CPU, runs=1)
    assert [cost.tensor for cost in found] == ["g2", "g1"]
    assert [cost.nodes for cost in found] == [4, 3]


def test_blocks_of_all_tensors_add_up_to_the_whole_model() -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(include_all=True))
    costs = measure_costs(model, targets, smooth_images(1)[0], runtime=CPU, runs=1)
    assert sum(cost.macs for cost in costs) == count_macs(model).total
    assert sum(cost.nodes for cost in costs) == model.graph.num_nodes()
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    assert sum(cost.parameter_bytes for cost in costs) == weights


@pytest.mark.parametrize("name", ["mnasnet_small", "resnet20_cifar10_dynamo"])
def test_public_architecture_is_measured(name: str, corpus_model: Callable[[str], Path]) -> None:
    model = modelio.load(corpus_model(name))
    targets = find_targets(model)[-12::3]
    size = 32 if "cifar" in name else 224
    image = np.random.default_rng(0).random((3, size, size), np.float32)
    costs = measure_costs(model, targets, image, runtime=CPU, runs=1)
    assert sum(cost.macs for cost in costs) > 0.9 * count_macs(model).total
    assert all(cost.milliseconds > 0 for cost in costs if cost.macs)


def test_model_stays_untouched() -> None:
    model = small()
    before = modelio.to_bytes(model)
    measure_costs(model, find_targets(model)[:3], np.zeros((3, 4, 4), np.float32), runtime=CPU, runs=1)
    assert modelio.to_bytes(model) == before


def test_no_runs_and_unknown_tensors_are_errors() -> None:
    image = np.zeros((3, 4, 4), np.float32)
    with pytest.raises(OptionError, match="0 runs measure nothing"):
        measure_costs(small(), find_targets(small()), image, runs=0)
    with pytest.raises(SelectionError, match="'nothing'"):
        measure_costs(small(), [Target("nothing", "nothing", "Mul")], image)
