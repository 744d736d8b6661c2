"""What holds for every pass on every model.

The input stays untouched, the checker and onnxruntime accept the result, outputs stay the same, a second run changes
nothing, metadata and the interface (names of inputs and outputs) stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings

from conftest import CORPUS_NAMES
from pgc_graph import modelio
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.names import fill_names
from pgc_graph.passes.opset import convert_opset
from pgc_graph.passes.rewrite import Rewrite
from pgc_graph.passes.simplify import simplify
from pgc_graph.runtime.parity import compare, random_feeds
from random_networks import networks

Pass = Callable[[ir.Model], Rewrite]
PASSES: dict[str, Pass] = {
    "name": fill_names,
    "simplify": simplify,
    "fold-bn": fold_batchnorm,
    "opset": lambda model: convert_opset(model, 20 if model.opset_imports[""] < 20 else 15),
}
NETWORK_SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def interface(model: ir.Model) -> tuple[list[Any], ...]:
    return [(v.name, v.dtype) for v in model.graph.inputs], [(v.name, v.dtype) for v in model.graph.outputs]


def obey(model: ir.Model, apply: Pass, *, idempotent: bool) -> Rewrite:
    before = modelio.to_bytes(model)
    rewrite = apply(model)
    assert modelio.to_bytes(model) == before, "the input model was changed"
    modelio.check(rewrite.model)
    assert interface(rewrite.model) == interface(model)
    assert rewrite.model.metadata_props == model.metadata_props
    report = compare(model, rewrite.model, feeds=list(random_feeds(model, runs=2)), tolerance=1e-5)
    assert report.passed, report
    if idempotent:
        assert not apply(rewrite.model).changes
    return rewrite


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("corpus_name", CORPUS_NAMES)
def test_pass_on_corpus(corpus_model: Any, corpus_name: str, name: str) -> None:
    obey(modelio.load(corpus_model(corpus_name)), PASSES[name], idempotent=name in ("name", "fold-bn"))


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("variant", ["s", "l"])
def test_pass_on_pgc(pgc_model: Any, variant: str, name: str) -> None:
    model = pgc_model(variant)
    model.metadata_props["ours"] = "kept"
    model.doc_string = "kept"
    rewrite = obey(model, PASSES[name], idempotent=name != "opset")
    assert rewrite.model.doc_string == "kept"


def fold_and_judge(proto: onnx.ModelProto) -> None:
    model = modelio.load(proto)
    rewrite = obey(model, fold_batchnorm, idempotent=True)
    assert not rewrite.skipped
    assert all(node.op_type != "BatchNormalization" for node in rewrite.model.graph)
    used = {id(value) for node in rewrite.model.graph for value in node.inputs}
    assert all(id(value) in used for value in rewrite.model.graph.initializers.values()), "dead initializer"


@given(networks())
@settings(max_examples=60, **NETWORK_SETTINGS)
def test_fold_on_random_networks(proto: onnx.ModelProto) -> None:
    fold_and_judge(proto)


@given(networks())
@settings(max_examples=40, **NETWORK_SETTINGS)
def test_whole_pipeline_on_random_networks(proto: onnx.ModelProto) -> None:
    model = modelio.load(proto)
    for name, apply in PASSES.items():
        model = obey(model, apply, idempotent=name != "opset" and name != "simplify").model


@pytest.mark.slow
@given(networks())
@settings(max_examples=3000, **NETWORK_SETTINGS)
def test_fold_on_many_random_networks(proto: onnx.ModelProto) -> None:
    fold_and_judge(proto)
