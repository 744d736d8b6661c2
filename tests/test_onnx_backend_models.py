"""The passes on onnx's own test models: whole networks, exports from PyTorch, and one model an operator.

In the cases for single operators everything is an input. Here all float inputs but the first become initializers: that is
how an operator meets constants. Each pass must leave a valid model that computes the same, or say why it did nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.errors import ModelError
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.names import fill_names
from pgc_graph.passes.simplify import simplify
from pgc_graph.runtime.parity import compare, random_feeds
from pgc_graph.runtime.session import RuntimeOptions, open_session

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = sorted(DATA.glob("light/*.onnx"))
EXPORTS = sorted(DATA.glob("pytorch-*/*/model.onnx"))
PASSES = {"name": fill_names, "simplify": simplify, "fold-bn": fold_batchnorm}
OPERATORS = (
    *(
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Mul",
        "Add",
        "Sub",
        "Div",
        "Identity",
        "Dropout",
    ),
    *(
        "Cast",
        "CastLike",
        "Transpose",
        "Reshape",
        "Flatten",
        "Expand",
        "Pad",
        "Concat",
        "If",
        "Loop",
        "Scan",
        "Squeeze",
    ),
)


def batchnorms(model: ir.Model) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.all_nodes())


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_whole_network_keeps_no_batchnorm_and_its_function(path: Path) -> None:
    model = modelio.load(path)
    total = batchnorms(model)
    # IR version 3: every weight that is an initializer is an input as well.
    kept = fold_batchnorm(model)
    assert len(kept.changes) + len(kept.skipped) == total
    assert all("can be overridden" in skip.reason or "not a constant" in skip.reason for skip in kept.skipped)
    rewrite = fold_batchnorm(model, assume_default_inputs=True)
    modelio.check(rewrite.model)
    assert batchnorms(rewrite.model) == 0
    assert not rewrite.skipped
    if total:
        report = compare(model, rewrite.model, feeds=list(random_feeds(model, runs=8)), tolerance=1e-4)
        assert report.passed, report


@pytest.mark.parametrize(
    "path", [p for p in LIGHT if "densenet" in p.stem or "shuffle" in p.stem], ids=lambda p: p.stem
)
def test_whole_network_with_weights_of_its_own(path: Path) -> None:
    """The files hold one number a weight; here every weight gets random ones, and IR version 8 makes them constants."""
    model = modelio.load(with_random_weights(onnx.load(path)))
    rewrite = fold_batchnorm(model)
    modelio.check(rewrite.model)
    assert batchnorms(rewrite.model) == 0
    feeds = list(random_feeds(model, runs=2))
    (output,) = compare(model, rewrite.model, feeds=feeds, tolerance=1e-4).outputs
    values = open_session(model, RuntimeOptions("cpu", optimise=False)).run(feeds[0])[0]
    assert output.max_difference <= 1e-4 * float(np.ptp(values))


def with_random_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    positive = {node.input[4] for node in proto.graph.node if node.op_type == "BatchNormalization"}
    kept = []
    for node in proto.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = shapes[node.input[0]].tolist()
        spread = 1.5 / np.sqrt(max(1.0, float(np.prod(shape[1:])))) if len(shape) > 1 else 0.3
        array = generator.normal(0, spread, shape).astype(np.float32)
        array = np.abs(array) + np.float32(0.5) if node.output[0] in positive else array
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
    names = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in names]
    for field, items in ((proto.graph.node, kept), (proto.graph.input, inputs)):
        del field[:]
        field.extend(items)
    proto.ir_version = 8
    return proto


@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: path.parent.name)
def test_export_from_pytorch(path: Path) -> None:
    model = modelio.load(path)
    total = batchnorms(model)
    rewrite = fold_batchnorm(model, assume_default_inputs=True)
    modelio.check(rewrite.model)
    assert batchnorms(rewrite.model) == 0, rewrite.skipped
    assert len(rewrite.changes) == total


@cache
def operator_models() -> dict[str, onnx.ModelProto]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases compute their own expected values, with overflow
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    wanted = {
        case.name: case.model
        for case in cases
        if case.model is not None
        and all(value.type.HasField("tensor_type") for value in case.model.graph.output)
        and any(node.op_type in OPERATORS for node in case.model.graph.node)
    }
    return wanted


def with_constants(name: str) -> Iterator[ir.Model]:
    """The model as it is, and with its float inputs but the first as constants."""
    proto = onnx.ModelProto()
    proto.CopyFrom(operator_models()[name])
    proto.ir_version = max(proto.ir_version, 4)  # before, an initializer had to be an input as well
    yield modelio.load(proto)
    generator = np.random.default_rng(1)
    for value in list(proto.graph.input)[1:]:
        kind = value.type.tensor_type
        dims = [dim.dim_value for dim in kind.shape.dim]
        if kind.elem_type != onnx.TensorProto.FLOAT or 0 in dims:
            continue
        array = generator.uniform(0.5, 1.5, dims).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        proto.graph.input.remove(value)
    yield modelio.load(proto)


def judge(model: ir.Model, names: tuple[str, ...] = tuple(PASSES)) -> None:
    try:
        feeds = list(random_feeds(model, runs=1))
        open_session(model, RuntimeOptions("cpu", optimise=False)).run(feeds[0])
    except ModelError:
        feeds = []  # onnxruntime cannot run it, or the random numbers are none that the operator accepts
    for name in names:
        rewrite = PASSES[name](model)
        modelio.check(rewrite.model)
        assert not PASSES[name](rewrite.model).changes, name
        if feeds and not rewrite.skipped:
            assert compare(model, rewrite.model, feeds=feeds, tolerance=1e-5).passed, name


def failures(names: list[str]) -> list[tuple[str, str]]:
    found = []
    for name in names:
        for model in with_constants(name):
            try:
                judge(model)
            except (AssertionError, ModelError) as error:
                found.append((name, str(error)[:300]))
    return found


def test_some_operators_that_the_passes_touch() -> None:
    assert failures(sorted(operator_models())[::50]) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_all_operators_that_the_passes_touch(part: int) -> None:
    assert failures(sorted(operator_models())[part::4]) == []
