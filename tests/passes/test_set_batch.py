"""A model of another batch size gives every row what it got before; what hard-codes the batch is freed or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from calibrated import smooth_images
from conftest import CORPUS_NAMES
from hypothesis import HealthCheck, given, settings
from onnx.reference import ReferenceEvaluator
from random_networks import networks

from pgc_graph import modelio
from pgc_graph.errors import ModelError, OptionError, UnsupportedError
from pgc_graph.passes.batch import set_batch
from pgc_graph.passes.batch_operands import BATCH_SYMBOL, reshape_target
from pgc_graph.studies.rewrite_checks import check_batch

HEAD = '<ir_version: 8, opset_import: ["": 17]> g'


def parse(text: str) -> ir.Model:
    return modelio.load(onnx.parser.parse_model(f"{HEAD} {text}"))


def shapes(model: ir.Model) -> list[str]:
    return [str(value.shape) for value in (*model.graph.inputs, *model.graph.outputs)]


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_corpus_fixed_and_back(corpus_model: Any, name: str) -> None:
    model = modelio.load(corpus_model(name))
    before = modelio.to_bytes(model)
    fixed = set_batch(model, 2).model
    assert modelio.to_bytes(model) == before
    modelio.check(fixed)
    assert [value.shape[0] for value in (*fixed.graph.inputs, *fixed.graph.outputs) if value.shape] == [2, 2]
    free = set_batch(fixed, "n").model
    modelio.check(free)
    assert shapes(free) == shapes(model)
    assert check_batch(fixed, free, runs=1, tolerance=1e-4).passed


def test_pgc_at_batch_8_is_the_same_row_by_row(pgc_model: Any) -> None:
    model = pgc_model("s")
    fixed = set_batch(model, 8).model
    images = smooth_images(8)
    (expected,) = ReferenceEvaluator(modelio.to_proto(model)).run(None, {"images": images})
    (score,) = ReferenceEvaluator(modelio.to_proto(fixed)).run(None, {"images": images})
    assert np.array_equal(score, expected)
    assert check_batch(model, fixed).passed
    assert fixed.metadata_props == model.metadata_props
    assert shapes(set_batch(fixed, "batch").model) == shapes(model)


CHAIN = """(float[2, 3, 4, 4] x) => (float[2, 48] y, float[3, 2, 16] z, float[32, 3] w)
    <int64[2] s = {2, -1}, int64[2] m = {32, 3}, int64[3] t = {3, 2, 16}, int64[4] u = {2, 16, 3, 1}, int64[2] v = {2, 48}>
    { a = Reshape(x, s) b = Reshape(a, m) p = Transpose<perm = [1, 0, 2, 3]>(x) z = Reshape(p, t) d = Reshape(b, u)
      y = Reshape(d, v) w = Identity(b) }"""


@pytest.mark.parametrize("batch", ["batch", 5, 1])
def test_reshapes_that_merge_split_and_carry_the_batch_are_freed(batch: int | str) -> None:
    model = parse(CHAIN)
    changed = set_batch(model, batch).model
    modelio.check(changed)
    rows = batch if isinstance(batch, int) else 3
    x = np.random.default_rng(0).normal(size=(rows, 3, 4, 4)).astype(np.float32)
    y, z, w = ReferenceEvaluator(modelio.to_proto(changed)).run(None, {"x": x})
    assert np.array_equal(y, x.reshape(rows, 48))
    assert np.array_equal(z, x.transpose(1, 0, 2, 3).reshape(3, rows, 16))
    assert np.array_equal(w, x.reshape(rows * 16, 3))
    n = str(batch)
    merged = "None" if isinstance(batch, str) else str(16 * batch)
    assert shapes(changed)[1:3] == [f"[{n},48]", f"[3,{n},16]"]
    assert merged in ("None", shapes(changed)[3].split(",")[0].strip("["))


@pytest.mark.parametrize(
    ("target", "data", "old_data", "old", "expected"),
    [
        ([1, -1], [BATCH_SYMBOL, 4, 5], [1, 4, 5], 1, [0, -1]),
        ([1, 20], [BATCH_SYMBOL, 4, 5], [1, 4, 5], 1, [0, 20]),
        ([-1, 20], [BATCH_SYMBOL, 4, 5], [1, 4, 5], 1, [-1, 20]),
        ([0, -1], [BATCH_SYMBOL, 4, 5], [1, 4, 5], 1, [0, -1]),
        ([4, 5], [BATCH_SYMBOL, 4, 5], [1, 4, 5], 1, [-1, 5]),
        ([8, -1], [BATCH_SYMBOL, 4, 5], [2, 4, 5], 2, [-1, 5]),
        ([2, 4, 5], [None, 5], [8, 5], 2, [-1, 4, 5]),
        ([4, 2, 5], [4, BATCH_SYMBOL, 5], [4, 2, 5], 2, [4, 0, 5]),
        ([4, 6, 5], [4, BATCH_SYMBOL, 15], [4, 2, 15], 2, [4, -1, 5]),
        ([3, 4], [3, 2, 2], [3, 2, 2], 3, [3, 4]),
    ],
    ids=[
        "flatten",
        "all-numbers",
        "free-already",
        "copied-already",
        "merge",
        "merge-with-rest",
        "split",
        "second-axis",
        "second-axis-merged",
        "no-batch",
    ],
)
def test_reshape_target(
    target: list[int], data: list[int | str | None], old_data: list[int], old: int, expected: list[int]
) -> None:
    new = reshape_target(target, data, old_data, old)
    assert new == expected
    # Against numpy, with three times the batch.
    shape = [dim if isinstance(dim, int) else 3 * was for dim, was in zip(data, old_data, strict=True)]
    x = np.arange(np.prod(shape)).reshape(shape)
    assert x.reshape([shape[axis] if dim == 0 else dim for axis, dim in enumerate(new)]).size == x.size


@pytest.mark.parametrize(
    ("text", "node", "words"),
    [
        ("(float[2, 4] x) => (float[8] y) <int64[1] s = {8}> { [flat] f = Reshape(x, s) y = Identity(f) }", "", ""),
        (
            "(float[2, 4] x) => (float[1, 8] y) <int64[2] s = {1, 8}> { [mix] y = Reshape(x, s) }",
            "'mix'",
            "mixes the batch",
        ),
        (
            "(float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y) <int64[4] s = {1, 1, 4, 4}> { [up] y = Resize(x, , , s) }",
            "'up'",
            "sizes",
        ),
    ],
    ids=["flattened-rows", "mixed", "resize"],
)
def test_what_hard_codes_the_batch_is_freed_or_refused_by_name(text: str, node: str, words: str) -> None:
    model = parse(text)
    if not words:
        assert check_batch(model, set_batch(model, "n").model).passed
        return
    with pytest.raises(UnsupportedError) as caught:
        set_batch(model, "n")
    assert node in str(caught.value)
    assert words in str(caught.value)


def test_resize_gets_the_new_number_and_expand_the_operand_s_own() -> None:
    model = parse("""(float[2, 1, 2, 2] x) => (float[2, 3, 4, 4] y) <int64[4] s = {2, 1, 4, 4}, int64[4] e = {2, 3, 4, 4}>
        { r = Resize(x, , , s) y = Expand(r, e) }""")
    changed = set_batch(model, 6).model
    assert shapes(changed) == ["[6,1,2,2]", "[6,3,4,4]"]
    assert check_batch(model, changed).passed


def test_a_constant_that_only_running_finds_is_found_by_running() -> None:
    # The token is one row, Concat wants as many as the batch.
    model = parse(
        "(float[1, 2] x) => (float[1, 3] y) <float[1, 1] token = {1.0}> { [join] y = Concat<axis = 1>(x, token) }"
    )
    with pytest.raises(ModelError, match="join"):
        check_batch(model, set_batch(model, "n").model)


def test_rows_that_depend_on_each_other_fail_the_check() -> None:
    model = parse("(float[n, 4] x) => (float[n, 4] y) { m = ReduceMean<axes = [0]>(x) y = Sub(x, m) }")
    assert not check_batch(model, set_batch(model, 4).model).passed


def test_an_output_without_rows_is_said() -> None:
    model = parse("(float[n, 4] x) => (float y) { y = ReduceMax<keepdims = 0>(x) }")
    with pytest.raises(UnsupportedError, match="output 'y' has no first dimension"):
        check_batch(model, set_batch(model, 4).model)


def test_inputs_of_another_first_dimension_stay() -> None:
    model = parse("(float[1, 4] x, float[4] scale) => (float[1, 4] y) { y = Mul(x, scale) }")
    rewrite = set_batch(model, "n")
    assert shapes(rewrite.model) == ["[n,4]", "[4]", "[n,4]"]
    assert [skip.subject for skip in rewrite.skipped] == ["scale"]
    assert check_batch(model, rewrite.model).passed


def test_the_same_size_changes_nothing(pgc_model: Any) -> None:
    rewrite = set_batch(pgc_model("s"), "batch")
    assert not rewrite.changes
    assert rewrite.skipped[0].reason == "has batch batch already"


@pytest.mark.parametrize("batch", [0, -1, "", "2x", "a b"])
def test_what_is_no_size_is_refused(batch: int | str) -> None:
    with pytest.raises(OptionError, match="no size and no name"):
        set_batch(parse("(float[1] x) => (float[1] y) { y = Neg(x) }"), batch)


def test_a_model_without_a_batch_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no batch to set"):
        set_batch(parse("(float x) => (float y) { y = Neg(x) }"), 2)


@given(networks())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_networks_fixed_and_back(proto: onnx.ModelProto) -> None:
    model = modelio.load(proto)
    fixed = set_batch(model, 3).model
    modelio.check(fixed)
    assert check_batch(model, fixed, runs=2).passed
    free = set_batch(fixed, "n").model
    modelio.check(free)
    assert shapes(free) == shapes(model)
    assert check_batch(fixed, free, runs=1).passed
