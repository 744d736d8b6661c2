"""Ablation of channels: models that cannot be followed, rankings, labels, interruption."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from calibrated import calibrated_pgc, smooth_images
from channel_checks import MODES, batches_of, check_channels, graph, methods
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import Intervention, Measure
from pgc_graph.studies.ablation.channels import ablate_channel_batches
from reference.plain_channels import PlainChannels

# --- models whose channels cannot be followed -------------------------------------------------------------------------


@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
@pytest.mark.parametrize(("batch", "kind"), [("1", "float"), ("4", "float"), ("n", "double")])
def test_fixed_batch_and_other_type_equal_plain_loop(batch: str, kind: str, intervention: Intervention) -> None:
    images = np.random.default_rng(6).random((3, 3, 6, 6), np.float32)
    body = "u = ReduceMax <axes = [2, 3], keepdims = 0> (p)  c = MatMul (u, w4x4)  t = Tanh (c)"
    body += "  last = Unsqueeze (t, spatial)"
    result = check_channels(graph(body, batch, kind), images, TargetQuery(regexes=("^[pct]$",)), intervention)
    assert methods(result) == {"compiled"}


def test_batch_that_is_fixed_for_good_is_run_the_plain_way(caplog: pytest.LogCaptureFixture) -> None:
    model = graph("c = Conv (p, w4x4x1x1)  q = Sum (c, w4x4x6x6)  last = Relu (q)", "4")
    images = np.random.default_rng(6).random((3, 3, 6, 6), np.float32)
    result = check_channels(model, images, TargetQuery(regexes=("^[pc]$",)), MODES["resample"])
    assert methods(result) == {"plain"}
    assert "fixed batch of 4" in caplog.text


def test_rows_that_depend_on_each_other_are_run_the_plain_way(caplog: pytest.LogCaptureFixture) -> None:
    model = graph("m = ReduceMean <axes = [0]> (p)  d = Sub (p, m)  last = Exp (d)")
    images = np.random.default_rng(5).random((3, 3, 6, 6), np.float32)
    result = check_channels(model, images, TargetQuery(regexes=("^[pd]$",)), MODES["scale"])
    ways = {tensor.target.tensor: tensor.way for tensor in result.tensors}
    assert ways["p"].method == "plain"
    assert "differs by" in ways["p"].note
    assert "run one by one" in caplog.text


def test_tensor_without_channels_is_skipped_and_named() -> None:
    model = graph("f = Reshape (p, cube)  r = Relu (f)  b = Reshape (r, back)  last = Add (b, p)")
    images = np.random.default_rng(5).random((2, 3, 6, 6), np.float32)
    result = check_channels(model, images, TargetQuery(regexes=("^[pr]$",)), MODES["zero"])
    assert [(skip.subject, skip.reason) for skip in result.skipped_tensors] == [("r", "has no known channels")]
    assert [tensor.target.tensor for tensor in result.tensors] == ["p"]


def test_older_operator_set_is_run_as_rows_of_the_whole_model() -> None:
    text = """<ir_version: 8, opset_import: ["": 9]> agraph (float[n, 3, 4, 4] x) => (float[n] prob)
    <float[1, 3, 1, 1] w = {1, 2, 3}> {
        p = Mul (x, w)  q = Add (p, x)  s = ReduceMean <axes = [1, 2, 3], keepdims = 0> (q)  prob = Sigmoid (s) }"""
    model = modelio.load(onnx.parser.parse_model(text))
    images = np.random.default_rng(5).random((3, 3, 4, 4), np.float32)
    result = check_channels(model, images, TargetQuery(regexes=("^[pq]$",)), MODES["zero"])
    assert methods(result) == {"batched"}
    assert "operator set 9" in result.tensors[0].way.note


# --- ranking, images, interruption ------------------------------------------------------------------------------------


def test_accuracy_and_labels_of_a_channel_equal_plain_loop() -> None:
    model, images = calibrated_pgc("s"), smooth_images(6)
    targets = select_targets(find_targets(model), TargetQuery())[-1:]
    batches = batches_of(images, 4)
    paths = [path for batch in batches for path in batch.paths]
    labels = {path: ("pointing" if at % 2 else "not_pointing") for at, path in enumerate(paths)}
    result = ablate_channel_batches(model, batches, targets, measure=Measure("1", labels, "loss"))
    proto = modelio.to_proto(model)
    plain = PlainChannels(proto, [targets[0].tensor], [proto.graph.output[-1].name])
    base = np.array([plain.run(image, {})[0][0] for image in images])
    truth = np.arange(6) % 2 == 1
    losses = []
    for impact in result.channels[:8]:
        factor = (np.arange(64) != impact.channel).reshape(1, 64, 1, 1)
        prob = np.array([plain.run(image, {0: (factor, np.zeros(()))})[0][0] for image in images])
        assert impact.quality is not None
        assert impact.quality.accuracy == pytest.approx(((prob >= 0.5) == truth).mean())
        losses.append(-np.log(np.where(truth, prob, 1 - prob)).mean())
        assert impact.quality.loss == pytest.approx(losses[-1], abs=1e-5)
        for part, chosen in zip(impact.labels, (~truth, truth), strict=True):
            assert part.delta.mean == pytest.approx((base - prob)[chosen].mean(), abs=1e-6)
    assert losses == sorted(losses, reverse=True)


def test_stop_keeps_the_images_that_are_done() -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery())[-2:]
    done: list[int] = []
    runs: list[int] = []
    result = ablate_channel_batches(
        model,
        batches_of(smooth_images(40), 2),
        targets,
        runtime=RuntimeOptions(provider="cpu", threads=1),
        on_images=done.append,
        on_runs=runs.append,
        stop=lambda: len(done) >= 2,
    )
    assert result.interrupted
    assert 4 <= len(result.images) < 40
    assert {impact.delta.count for impact in result.channels} == {result.baseline.count} == {len(result.images)}
    assert runs == sorted(runs)
    assert runs[-1] >= 320 * 4


def test_result_depends_neither_on_batches_nor_on_threads() -> None:
    model, images = calibrated_pgc("s"), smooth_images(5)
    targets = select_targets(find_targets(model), TargetQuery())[-2:]
    one, many = (
        ablate_channel_batches(
            model,
            batches_of(images, size),
            targets,
            intervention=MODES["noise"],
            runtime=RuntimeOptions("cpu", threads),
        )
        for size, threads in ((1, 3), (4, 1))
    )
    deltas = [
        {(impact.tensor, impact.channel): impact.delta.mean for impact in result.channels} for result in (one, many)
    ]
    assert deltas[0] == pytest.approx(deltas[1], abs=1e-12)
    assert [image.path for image in one.images] == [image.path for image in many.images]


def test_model_stays_untouched() -> None:
    model = calibrated_pgc("s")
    before = modelio.to_bytes(model)
    ablate_channel_batches(model, batches_of(smooth_images(1), 1), select_targets(find_targets(model), TargetQuery()))
    assert modelio.to_bytes(model) == before


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_threshold_that_makes_no_sense_is_an_error(threshold: float) -> None:
    model = calibrated_pgc("s")
    with pytest.raises(OptionError, match="threshold"):
        ablate_channel_batches(model, batches_of(smooth_images(1), 1), find_targets(model)[:1], threshold=threshold)
