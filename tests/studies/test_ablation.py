"""ablate against the plain loop of reference/plain_ablation.py, on real networks and on graphs made to mislead it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from PIL import Image

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.errors import ImageError, OptionError, UnsupportedError
from pgc_graph.images import ImageBatch, find_images, preprocess_from_metadata, read_batches
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import AblationResult, ablate, ablate_batches
from pgc_graph.studies.ablation.scores import Scores, Wanted, pick_scores
from random_networks import networks
from reference.plain_ablation import plain_ablation

EVERY = TargetQuery(include_all=True)
PGC_LOGIT = "/base_model/Squeeze_output_0"


def batches_of(images: NDArray[np.float32], size: int = 8) -> list[ImageBatch]:
    starts = range(0, len(images), size)
    names = [Path(f"{index}.png") for index in range(len(images))]
    return [ImageBatch(tuple(names[s : s + size]), images[s : s + size], ()) for s in starts]


def random_images(count: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).random((count, *shape), np.float32)


def make(text: str) -> ir.Model:
    return modelio.load(onnx.parser.parse_model(text))


def check(
    model: ir.Model,
    images: NDArray[np.float32],
    query: TargetQuery,
    *,
    value: float = 0.0,
    logit: str | None = None,
    size: int = 8,
    tolerance: float = 1e-5,
) -> AblationResult:
    """Ablate, compare every score with the plain loop's, and return the result."""
    seen: list[Scores] = []
    targets = select_targets(find_targets(model), query)
    result = ablate_batches(
        model,
        batches_of(images, size),
        targets,
        value=value,
        runtime=RuntimeOptions(provider="cpu"),
        on_batch=lambda batch, scores: seen.append(scores),
    )
    by_position = sorted(result.gates, key=lambda impact: impact.position)
    tensors = [impact.target.tensor for impact in by_position]
    assert len(tensors) + len(result.skipped_tensors) == len(targets)
    plain = plain_ablation(modelio.to_proto(model), images, tensors, value=value, logit=logit)
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(np.concatenate([s.baseline for s in seen]), plain.baseline, **close)
    np.testing.assert_allclose(np.concatenate([s.ablated for s in seen], axis=1), plain.ablated, **close)
    deltas = plain.baseline - plain.ablated
    for impact, delta in zip(by_position, deltas, strict=True):
        finite = delta[np.isfinite(delta)]
        assert impact.non_finite == len(delta) - len(finite)
        if len(finite):
            assert impact.delta.mean == pytest.approx(finite.mean(), abs=2 * tolerance)
            assert impact.delta.std == pytest.approx(finite.std(), abs=2 * tolerance)
    if logit is not None and plain.ablated_logit is not None:
        logits = np.concatenate([s.ablated_logit for s in seen if s.ablated_logit is not None], axis=1)
        np.testing.assert_allclose(logits, plain.ablated_logit, **close)
    return result


# --- real networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("variant", ["s", "l"])
def test_pgc_on_photographs_equals_plain_loop(variant: str, value: float, photos: Path) -> None:
    model = calibrated_pgc(variant)
    paths = find_images(photos)[::900]
    preprocess = preprocess_from_metadata(model.metadata_props, (None, 3, 32, 32))
    images = np.concatenate([batch.tensor for batch in read_batches(paths, preprocess)])
    result = check(model, images, TargetQuery(), value=value, logit=PGC_LOGIT, size=3)
    assert result.engine.method == "planned"
    assert result.baseline.count == len(paths)
    assert max(abs(impact.delta.mean) for impact in result.gates) > 1e-2  # the gates do something


@pytest.mark.parametrize(("variant", "runs", "cuts"), [("s", 6, 9), ("l", 8, 14)])
def test_pgc_needs_no_more_runs_than_its_graph_implies(variant: str, runs: int, cuts: int) -> None:
    model = calibrated_pgc(variant)
    targets = select_targets(find_targets(model), TargetQuery())
    engine = ablate_batches(model, batches_of(smooth_images(3)), targets).engine
    assert (engine.suffix_runs, engine.constant_gates) == (runs, cuts)
    assert engine.self_check is not None
    assert engine.self_check < 1e-5


@pytest.mark.parametrize(
    ("name", "size", "query"),
    [
        pytest.param("resnet20_cifar10", 32, EVERY, id="residual"),
        pytest.param("resnet20_cifar10_dynamo", 32, EVERY, id="shape-chains-and-several-plans"),
        pytest.param("mnasnet_small", 224, TargetQuery(), id="depthwise-se"),
        pytest.param("dla46c", 224, TargetQuery(op_types=("Concat",)), id="concat"),
        pytest.param("efficientnet_b0", 224, TargetQuery(limit=16), id="efficientnet"),
    ],
)
def test_public_architecture_equals_plain_loop(
    name: str, size: int, query: TargetQuery, corpus_model: Callable[[str], Path]
) -> None:
    result = check(modelio.load(corpus_model(name)), random_images(3, 3, size, size), query)
    assert result.engine.method == "planned"


@given(network=networks())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_network_equals_plain_loop(network: onnx.ModelProto) -> None:
    result = check(modelio.load(network), random_images(3, 3, 8, 8) - 0.5, EVERY, tolerance=2e-5)
    assert result.engine.method == "planned"


# --- graphs made to mislead ------------------------------------------------------------------------------------------

HEAD = """row = ReduceMean <axes = [2, 3], keepdims = 0> (last)
    sums = ReduceSum <keepdims = 1> (row, one)  prob = Sigmoid (sums)"""


def graph(body: str, batch: str = "n", kind: str = "float", head: str = HEAD) -> ir.Model:
    """Write a classifier `x` -> `prob` (n, 1) whose features are `last` (n, 3, h, w); constants: one, two, w."""
    return make(
        f"""<ir_version: 8, opset_import: ["": 17]>
        agraph ({kind}[{batch}, 3, 4, 4] x) => ({kind}[{batch}, 1] prob)
        <int64[1] one = {{1}}, int64[2] flatten = {{-1, 48}}, float[1, 3, 1, 1] factors = {{0.5, -1.5, 2.0}},
         int64[1] first = {{-1}}, int64[1] last_row = {{-9223372036854775807}}, int64[1] axis = {{0}}> {{
            scale = CastLike (factors, x)
            {body}
            {head}
        }}"""
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("p = Relu (x)  m = ReduceMean <axes = [0]> (p)  last = Sub (p, m)", id="mean-over-the-batch"),
        pytest.param(
            "p = Relu (x)  r = Slice (p, first, last_row, axis, first)  last = Add (p, r)", id="reversed-batch"
        ),
        pytest.param("p = Relu (x)  s = Softmax <axis = 0> (p)  last = Mul (p, s)", id="softmax-over-the-batch"),
    ],
)
def test_rows_that_depend_on_each_other_are_run_the_plain_way(body: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = check(graph(body), random_images(5, 3, 4, 4), TargetQuery(regexes=("^p$", "^last$")))
    assert result.engine.method == "plain"
    assert len(caplog.records) == 1
    assert "run by itself" in caplog.text


def test_batch_dependent_graph_is_noticed_though_images_come_one_by_one() -> None:
    model = graph("p = Relu (x)  m = ReduceMean <axes = [0]> (p)  last = Sub (p, m)")
    result = check(model, random_images(3, 3, 4, 4), TargetQuery(regexes=("^p$",)), size=1)
    assert result.engine.method == "plain"


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_images_are_not_worth_a_plan(count: int, caplog: pytest.LogCaptureFixture) -> None:
    result = check(calibrated_pgc("s"), smooth_images(count), TargetQuery(), logit=PGC_LOGIT)
    assert (result.engine.method, result.engine.note) == ("plain", "few images")
    assert not caplog.records


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("p = Mul (x, scale)  c = Concat <axis = 1> (p, x)  last = Relu (c)", id="concat-needs-rows"),
        pytest.param("p = Mul (x, scale)  q = Sigmoid (p)  last = Sub (x, q)", id="constant-branch"),
        pytest.param(
            "p = Mul (x, scale)  s = Shape (p)  f = Reshape (p, flatten)  r = Reshape (f, s)  last = Add (r, x)",
            id="shape-of-a-gated-tensor",
        ),
        pytest.param("p = Relu (scale)  last = Mul (x, p)", id="gated-weight"),
        pytest.param("p = Mul (x, scale)  unused = Neg (p)  last = Relu (x)", id="gate-that-leads-nowhere"),
        pytest.param("p = Mul (x, scale)  q = Mul (p, p)  r = Add (q, p)  last = Add (r, x)", id="diamond"),
        pytest.param(
            """p = Mul (x, scale)  yes = Constant <value = bool {1}> ()
            inner = If (yes) < then_branch = a () => (float[n, 3, 4, 4] t) { u = Sigmoid (p)  t = Mul (u, x) },
                               else_branch = b () => (float[n, 3, 4, 4] e) { e = Identity (p) } >
            last = Add (inner, x)""",
            id="captured-by-a-subgraph",
        ),
    ],
)
@pytest.mark.parametrize("value", [0.0, -0.7])
def test_odd_graph_equals_plain_loop(body: str, value: float) -> None:
    result = check(graph(body), random_images(5, 3, 4, 4) - 0.5, EVERY, value=value, logit="sums", size=2)
    assert result.engine.method == "planned"


@pytest.mark.parametrize("batch", ["1", "4"])
def test_fixed_batch_equals_plain_loop(batch: str) -> None:
    model = graph("p = Mul (x, scale)  q = Sigmoid (p)  last = Concat <axis = 1> (q, x)", batch)
    result = check(model, random_images(6, 3, 4, 4), EVERY, logit="sums")
    assert result.engine.method == "planned"


def test_fixed_reshape_of_a_batch_of_one_equals_plain_loop() -> None:
    head = "f = Reshape (last, flatten)  sums = ReduceMean <axes = [1]> (f)  prob = Sigmoid (sums)"
    model = graph("p = Mul (x, scale)  last = Relu (p)", "1", head=head)
    assert check(model, random_images(3, 3, 4, 4), EVERY).engine.method == "planned"


@pytest.mark.parametrize(("kind", "tolerance"), [("float16", 4e-3), ("double", 1e-12)])
def test_other_float_types_equal_plain_loop(kind: str, tolerance: float) -> None:
    model = graph("p = Mul (x, scale)  q = Sigmoid (p)  last = Add (q, x)", kind=kind)
    result = check(model, random_images(4, 3, 4, 4), EVERY, logit="sums", tolerance=tolerance)
    assert result.engine.method == "planned"


def test_older_ir_version_equals_plain_loop() -> None:
    model = make(
        """<ir_version: 3, opset_import: ["": 9]>
        agraph (float[n, 3, 4, 4] x, float[1, 3, 1, 1] w) => (float[n, 1, 1, 1] prob) <float[1, 3, 1, 1] w = {1, 2, 3}>
        { p = Mul (x, w)  q = Add (p, x)  s = ReduceMean <axes = [1, 2, 3]> (q)  prob = Sigmoid (s) }"""
    )
    model.graph.outputs[0].shape = None  # 4-D in truth: (n, 1, 1, 1)
    assert check(model, random_images(3, 3, 4, 4), EVERY, logit="s").engine.method == "planned"


CLASSES = """row = ReduceMean <axes = [2, 3], keepdims = 0> (last)
    wide = Reshape (row, split)  soft = Softmax <axis = -1> (wide)  prob = Reshape (soft, back)"""


def test_several_classes_are_scored_by_the_one_found_without_gates() -> None:
    model = make(
        f"""<ir_version: 8, opset_import: ["": 17]>
        agraph (float[n, 3, 4, 4] x) => (float[n, 3] prob)
        <int64[3] split = {{-1, 1, 3}}, int64[2] back = {{-1, 3}}, float[1, 3, 1, 1] scale = {{3.0, 4.0, 5.0}}> {{
            p = Mul (x, scale)  last = Sub (p, x)  {CLASSES}
        }}"""
    )
    images = random_images(6, 3, 4, 4) * np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 2)[:, :, None, None]
    result = check(model, images, TargetQuery(regexes=("^p$", "^last$")), logit="wide")
    assert [image.scored_class for image in result.images] == [0, 1, 2] * 2
    assert result.baseline.min > 1 / 3
    assert result.gates[0].logit_delta is not None


def test_class_that_was_decided_before_is_scored_though_rounding_favours_another() -> None:
    score = np.array([[1.0e-9, 1.1e-9], [2.0e-9, 1.9e-9]])
    gates = [[score * 2], [score * 3]]
    free = pick_scores([score], gates, 2)
    held = pick_scores([score], gates, 2, Wanted(classes=np.array([0, 1])))
    assert free.classes.tolist() == [1, 0]
    assert held.classes.tolist() == [0, 1]
    np.testing.assert_array_equal(held.baseline, [1.0e-9, 1.9e-9])
    np.testing.assert_array_equal(held.ablated, [[2.0e-9, 3.8e-9], [3 * 1.0e-9, 3 * 1.9e-9]])


def test_score_that_is_no_number_is_counted_and_left_out() -> None:
    # 0 / 0 below the gate: NaN for every image; the other gate leaves numbers.
    head = "t = ReduceMean <axes = [1, 2, 3]> (last)  d = Div (t, t)  f = Flatten (d)  prob = Sigmoid (f)"
    model = graph("p = Mul (x, scale)  last = Relu (p)", head=head)
    result = check(model, random_images(4, 3, 4, 4), TargetQuery(regexes=("^p$", "^f$")))
    numbers, broken = result.gates
    assert (numbers.target.tensor, numbers.non_finite) == ("f", 0)
    assert (broken.target.tensor, broken.non_finite, broken.delta.count) == ("p", 4, 0)
    assert np.isnan(broken.delta.mean)


def test_model_that_is_gated_already_equals_plain_loop() -> None:
    from pgc_graph.passes.gates import insert_gates

    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=4))
    gated = insert_gates(model, [target.tensor for target in targets]).model
    batches = batches_of(smooth_images(3))
    direct = ablate_batches(model, batches, targets)
    again = ablate_batches(gated, batches, select_targets(find_targets(gated), TargetQuery(limit=4)))
    for one, other in zip(direct.gates, again.gates, strict=True):
        assert f"{one.target.tensor}::ungated" == other.target.tensor
        assert other.delta.mean == pytest.approx(one.delta.mean, abs=1e-6)


# --- ranking, images, interruption -----------------------------------------------------------------------------------


def test_ties_are_ranked_by_logit_then_by_graph_order() -> None:
    # The sigmoid is saturated: every Δ of the probability is 0 in float32, those of the logit are not.
    head = "big = Add (last, offset)  s = ReduceMean <axes = [1, 2, 3], keepdims = 0> (big)  prob = Sigmoid (s)"
    model = make(
        f"""<ir_version: 8, opset_import: ["": 17]>
        agraph (float[n, 3, 4, 4] x) => (float[n] prob) <float offset = {{60.0}}, float three = {{3.0}}> {{
            a = Neg (x)  b = Mul (x, three)  twin = Identity (b)  c = Add (a, twin)  last = Identity (c)  {head}
        }}"""
    )
    result = check(model, random_images(3, 3, 4, 4), TargetQuery(regexes=("^[ab]$", "^twin$", "^last$")), logit="s")
    assert [impact.delta.mean for impact in result.gates] == [0, 0, 0, 0]
    assert [impact.target.tensor for impact in result.gates] == ["b", "twin", "last", "a"]
    assert [impact.rank for impact in result.gates] == [1, 2, 3, 4]


def write_images(folder: Path, count: int, broken: Sequence[int] = ()) -> list[Path]:
    paths = []
    for index in range(count):
        path = folder / f"{index:02d}.png"
        if index in broken:
            path.write_bytes(b"no image")
        else:
            pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def test_unreadable_images_are_skipped_and_named(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 7, broken=(0, 1, 2, 5))
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=2))
    result = ablate(model, paths, targets, batch_size=3)
    assert [image.path for image in result.images] == [paths[3], paths[4], paths[6]]
    assert [skipped.path for skipped in result.skipped_images] == [paths[0], paths[1], paths[2], paths[5]]
    assert not result.interrupted


def test_not_a_single_readable_image_is_an_error(tmp_path: Path) -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=1))
    with pytest.raises(ImageError, match="none of the 2 images"):
        ablate(model, write_images(tmp_path, 2, broken=(0, 1)), targets)
    with pytest.raises(ImageError, match="no image"):
        ablate_batches(model, [], targets)


def test_stop_keeps_what_is_done(tmp_path: Path) -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=2))
    seen: list[int] = []
    result = ablate(
        model,
        write_images(tmp_path, 30),
        targets,
        batch_size=1,
        runtime=RuntimeOptions(threads=1),
        on_batch=lambda batch, scores: seen.append(len(batch.paths)),
        stop=lambda: len(seen) >= 3,
    )
    assert result.interrupted
    assert 3 <= len(result.images) < 30
    assert result.baseline.count == result.gates[0].delta.count == len(result.images)


def test_images_come_in_order_whatever_the_threads(tmp_path: Path) -> None:
    model = calibrated_pgc("s")
    paths = write_images(tmp_path, 23)
    targets = select_targets(find_targets(model), TargetQuery(limit=3))
    one, many = (ablate(model, paths, targets, runtime=RuntimeOptions(threads=n), batch_size=2) for n in (1, 4))
    assert [image.path for image in many.images] == paths
    assert one.gates == many.gates


def test_model_stays_untouched() -> None:
    model = calibrated_pgc("s")
    before = modelio.to_bytes(model)
    ablate_batches(model, batches_of(smooth_images(2)), select_targets(find_targets(model), TargetQuery()))
    assert modelio.to_bytes(model) == before


def test_tensors_that_cannot_be_gated_are_named() -> None:
    model = graph("s = Shape (x)  p = Relu (x)  last = Reshape (p, s)")
    result = check(model, random_images(2, 3, 4, 4), EVERY)
    assert [(skip.subject, "INT64" in skip.reason) for skip in result.skipped_tensors] == [("s", True)]
    with pytest.raises(UnsupportedError, match="none of the 1 tensors"):
        ablate_batches(model, batches_of(random_images(1, 3, 4, 4)), [Target("s", "s", "Shape")])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_is_no_number_is_an_error(value: float) -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery())
    with pytest.raises(OptionError, match="finite"):
        ablate_batches(model, batches_of(smooth_images(1)), targets, value=value)
