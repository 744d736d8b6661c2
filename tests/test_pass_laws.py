"""What holds for every pass on every model.

The input stays untouched, the checker and onnxruntime accept the result, outputs stay the same, a second run changes
nothing, metadata and the interface (names of inputs and outputs) stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from onnx.reference import ReferenceEvaluator

from conftest import CORPUS_NAMES
from pgc_graph import modelio
from pgc_graph.errors import ModelError
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.names import fill_names
from pgc_graph.passes.opset import convert_opset
from pgc_graph.passes.rewrite import Rewrite
from pgc_graph.passes.simplify import simplify
from pgc_graph.runtime.parity import compare, random_feeds
from pgc_graph.runtime.session import RuntimeOptions, open_session
from random_networks import DTYPES, MORE_STEPS, exact_twin, networks

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
    obey(modelio.load(corpus_model(corpus_name)), PASSES[name], idempotent=name != "opset")


@pytest.mark.parametrize("simplified", [False, True], ids=["as exported", "simplified"])
@pytest.mark.parametrize("corpus_name", CORPUS_NAMES)
def test_no_batchnorm_is_left_on_corpus(corpus_model: Any, corpus_name: str, simplified: bool) -> None:
    model = modelio.load(corpus_model(corpus_name))
    rewrite = fold_batchnorm(simplify(model).model if simplified else model)
    assert not rewrite.skipped
    assert not uses_batchnorm(rewrite.model)
    feeds = list(random_feeds(model, runs=8))
    (output,) = compare(model, rewrite.model, feeds=feeds, tolerance=1e-4).outputs
    values = [run_onnxruntime(model, feed) for feed in feeds]
    assert output.max_difference <= 1e-4 * float(max(map(np.max, values)) - min(map(np.min, values)))
    again = simplify(rewrite.model)
    assert not fold_batchnorm(again.model).changes


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
        model = obey(model, apply, idempotent=name != "opset").model


def newest_opset() -> int:
    """The newest opset that the installed onnxruntime runs."""
    for version in range(onnx.defs.onnx_opset_version(), 20, -1):
        proto = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> g (float x) => (float y) { y = Relu (x) }'
        )
        proto.opset_import[0].version = version
        proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
        try:
            open_session(proto.SerializeToString(), RuntimeOptions("cpu"))
        except ModelError:
            continue
        return version
    return 20


VARIED = networks(steps=MORE_STEPS, dtypes=DTYPES, opsets=(9, 10, 11, 12, 13, 14, 15, 17, 19, 22, newest_opset()))


def run_reference(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # its Sigmoid computes both forms and picks one
        return np.asarray(ReferenceEvaluator(proto).run(None, feeds)[0])


def run_onnxruntime(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return open_session(model, RuntimeOptions("cpu", optimise=False)).run(feeds)[0]


def judge_in_every_type(proto: onnx.ModelProto, apply: Pass) -> ir.Model:
    """Compare what a pass makes of a network with the network computed in float64, by both judges."""
    model = modelio.load(proto)
    rewrite = apply(model)
    modelio.check(rewrite.model)
    assert not apply(rewrite.model).changes
    (feeds,) = random_feeds(model, runs=1)
    (x,) = feeds.values()
    exact = run_reference(exact_twin(proto), {"x": x.astype(np.float64)})
    # onnxruntime has no float64 convolution.
    own = np.zeros_like(exact) if x.dtype == np.float64 else run_onnxruntime(model, feeds).astype(np.float64) - exact
    noise = float(np.abs(own).max())
    allowed = {np.float64: 1e-9, np.float32: 1e-4, np.float16: 0.02}[x.dtype.type] + 3 * noise
    results = [run_reference(modelio.to_proto(rewrite.model), feeds)] if not uses_batchnorm(rewrite.model) else []
    results += [run_onnxruntime(rewrite.model, feeds)] if x.dtype != np.float64 else []
    for result in results:
        assert result.dtype == x.dtype
        assert np.abs(result.astype(np.float64) - exact).max() <= allowed
    return rewrite.model


def uses_batchnorm(model: ir.Model) -> bool:
    return any(node.op_type == "BatchNormalization" for node in model.graph)


@given(VARIED)
@settings(max_examples=100, **NETWORK_SETTINGS)
def test_fold_in_every_type_and_opset(proto: onnx.ModelProto) -> None:
    folded = judge_in_every_type(proto, fold_batchnorm)
    assert not uses_batchnorm(folded)
    assert all(value.uses() for value in folded.graph.initializers.values()), "dead initializer"


@given(VARIED)
@settings(max_examples=60, **NETWORK_SETTINGS)
def test_simplify_in_every_type_and_opset(proto: onnx.ModelProto) -> None:
    judge_in_every_type(proto, simplify)


@pytest.mark.slow
@given(VARIED)
@settings(max_examples=2000, **NETWORK_SETTINGS)
def test_fold_and_simplify_many_networks(proto: onnx.ModelProto) -> None:
    folded = judge_in_every_type(proto, fold_batchnorm)
    judge_in_every_type(modelio.to_proto(folded), simplify)


@pytest.mark.slow
@given(networks())
@settings(max_examples=3000, **NETWORK_SETTINGS)
def test_fold_on_many_random_networks(proto: onnx.ModelProto) -> None:
    fold_and_judge(proto)
