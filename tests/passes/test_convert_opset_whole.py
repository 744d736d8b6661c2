"""Whole networks to every opset: the PGC family, public architectures, random ones, and one of more than 2 GiB."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import CORPUS_NAMES
from opset_judge import from_text, operators
from pgc_graph import modelio
from pgc_graph.build.pgc import build_pgc
from pgc_graph.build.spec import BACKBONES, COLOURS, HEADS, ModelSpec
from pgc_graph.build.weights import init_weights
from pgc_graph.passes.opset import convert_opset
from pgc_graph.runtime.opsets import newest_opset
from pgc_graph.runtime.parity import compare, random_feeds
from random_networks import networks

FAMILY = [
    pytest.param(*parts, id="-".join(parts), marks=[] if index % 7 == 0 else [pytest.mark.slow])
    for index, parts in enumerate(itertools.product(BACKBONES, HEADS[1:], COLOURS))
]


@pytest.mark.parametrize(("backbone", "head", "colour"), FAMILY)
def test_every_network_of_the_family_converts_to_every_opset(backbone: str, head: str, colour: str) -> None:
    spec = ModelSpec(backbone=backbone, head=head, colour=colour, base_channels=8, num_blocks=3)
    model = modelio.load(build_pgc(spec, init_weights(spec, seed=0)))
    feeds = list(random_feeds(model, runs=2))
    for target in range(9, newest_opset() + 1):
        converted = convert_opset(model, target).model
        modelio.check(converted)
        assert converted.opset_imports[""] == target
        report = compare(model, converted, feeds=feeds, tolerance=1e-5)
        assert report.passed, (target, report)


@pytest.mark.parametrize("target", [9, 10, 11, 13, 15, 18, 21, 24, 26])
@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_corpus_converts(corpus_model: Any, name: str, target: int) -> None:
    model = modelio.load(corpus_model(name))
    converted = convert_opset(model, target).model
    modelio.check(converted)
    assert compare(model, converted, feeds=list(random_feeds(model, runs=1)), tolerance=1e-4).passed


@given(networks(), st.integers(9, newest_opset()))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_networks_convert_to_any_opset_and_back(proto: onnx.ModelProto, target: int) -> None:
    model = modelio.load(proto)
    converted = convert_opset(model, target).model
    back = convert_opset(converted, model.opset_imports[""]).model
    for candidate in (converted, back):
        modelio.check(candidate)
        assert compare(model, candidate, feeds=list(random_feeds(model, runs=1)), tolerance=1e-5).passed


def test_external_data_stay_where_they_are(tmp_path: Path) -> None:
    count = 550_000_000  # float32: beyond the 2 GiB that a protobuf message can hold
    with open(tmp_path / "big.data", "wb") as file:
        file.truncate(4 * count)  # a sparse file
    proto = modelio.to_proto(from_text("(float[1] x) => (float[1] y) { z = HardSwish (x) y = Add (z, z) }", 14))
    proto.graph.node[1].input[1] = "w"
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = count
    weight = proto.graph.initializer.add(name="w", data_type=onnx.TensorProto.FLOAT, dims=[count], data_location=1)
    weight.external_data.add(key="location", value="big.data")
    (tmp_path / "big.onnx").write_bytes(proto.SerializeToString())
    converted = convert_opset(modelio.load(tmp_path / "big.onnx"), 9).model
    kept = converted.graph.initializers["w"].const_value
    assert isinstance(kept, ir.ExternalTensor)
    assert kept.nbytes == 4 * count
    assert operators(converted) == ["HardSigmoid", "Mul", "Add"]
