"""Removing one thing after another against the plain loop: the whole model, one image and one step at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray

from calibrated import calibrated_pgc, smooth_images
from channel_checks import batches_of, shift_of
from pgc_graph import modelio
from pgc_graph.analysis.channels import channel_axis
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import Intervention, Measure, ablate_batches
from pgc_graph.studies.ablation.channels import ablate_channel_batches
from pgc_graph.studies.ablation.cumulative import (
    CumulativeResult,
    Removal,
    removal_order,
    remove_batches_cumulatively,
)
from pgc_graph.studies.ablation.cumulative.result import area_under
from random_networks import networks
from reference.plain_channels import PlainChannels, tensor_values

MODES = {
    "zero": Intervention(),
    "scale": Intervention("scale", 0.4),
    "mean": Intervention("mean"),
    "resample": Intervention("resample", seed=3),
    "noise": Intervention("noise", sigma=0.7, seed=5),
}
Images = NDArray[np.float32]
CPU = RuntimeOptions(provider="cpu")


def trapezoids(values: NDArray[np.float64], places: NDArray[np.float64]) -> float:
    return float(((values[1:] + values[:-1]) / 2 * np.diff(places)).sum())


def plain_curve(
    model: ir.Model, images: Images, order: Sequence[Removal], counts: Sequence[int], intervention: Intervention
) -> NDArray[np.float64]:
    """Return `(steps, images)`: the last column of the score."""
    tensors = list(dict.fromkeys(removal.tensor for removal in order))
    proto = modelio.to_proto(model)
    plain = PlainChannels(proto, tensors, [proto.graph.output[-1].name])
    values = dict(zip(tensors, tensor_values(proto, images, tensors), strict=True))
    largest = max(value[0].size for value in values.values())
    known = {str(value.name): value for node in infer_shapes(model).graph for value in node.outputs}
    axes = {tensor: channel_axis(known[tensor]) for tensor in tensors}
    shifts = {t: shift_of(intervention, t, values[t], axes[t], largest) for t in tensors}
    off = {"noise": 1.0, "scale": intervention.value}.get(intervention.mode, 0.0)
    curve = np.empty((len(counts), len(images)))
    for step, count in enumerate(counts):
        for row, image in enumerate(images):
            changes = {}
            for tensor in {removal.tensor for removal in order[:count]}:
                shape = [1] * values[tensor].ndim
                channels = [removal.channel for removal in order[:count] if removal.tensor == tensor]
                mask = np.ones(shape, bool)
                if channels[0] is not None:
                    axis = axes[tensor] or 0
                    shape[axis] = -1
                    mask = np.isin(np.arange(values[tensor].shape[axis]), channels).reshape(shape)
                shift = np.where(mask, shifts[tensor][row : row + 1], 0)
                changes[tensors.index(tensor)] = (np.where(mask, off, 1), shift)
            curve[step, row] = plain.run(image, changes)[0][-1]
    return curve


def check(
    model: ir.Model,
    images: Images,
    order: Sequence[Removal],
    intervention: Intervention,
    *,
    steps: int = 0,
    size: int = 3,
    tolerance: float = 1e-5,
) -> CumulativeResult:
    """Remove, compare every point with the plain loop's, and return the result."""
    targets = select_targets(find_targets(model), TargetQuery(include_all=True))
    batches = batches_of(images, size)
    result = remove_batches_cumulatively(
        model, batches, order, targets, intervention=intervention, measure=Measure("1"), runtime=CPU, steps=steps
    )
    counts = [point.removed for point in result.points]
    assert counts[0] == 0
    assert counts[-1] == len(order)
    plain = plain_curve(model, images, order, counts, intervention)
    assert [point.last for point in result.points] == [None, *(order[count - 1] for count in counts[1:])]
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose([point.prob.mean for point in result.points], plain.mean(axis=1), **close)
    np.testing.assert_allclose([point.prob.min for point in result.points], plain.min(axis=1), **close)
    np.testing.assert_allclose([point.delta.mean for point in result.points], (plain[0] - plain).mean(axis=1), **close)
    share = np.array(counts) / counts[-1]
    assert result.area == pytest.approx(trapezoids(plain.mean(axis=1), share), abs=1e-5)
    return result


@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
def test_tensors_of_pgc_removed_one_after_another_equal_plain_loop(intervention: Intervention) -> None:
    model, images = calibrated_pgc("s"), smooth_images(4)
    targets = select_targets(find_targets(model), TargetQuery())
    ranking = ablate_batches(model, batches_of(images, 4), targets, intervention=intervention, runtime=CPU)
    order = removal_order(ranking)
    assert [removal.tensor for removal in order] == [gate.target.tensor for gate in reversed(ranking.gates)]
    result = check(model, images, order, intervention)
    assert result.way.method == "planned"
    assert len(result.points) == 19


@pytest.mark.parametrize("intervention", [MODES["zero"], MODES["resample"]], ids=["zero", "resample"])
def test_channels_of_pgc_removed_one_after_another_equal_plain_loop(intervention: Intervention) -> None:
    model, images = calibrated_pgc("s"), smooth_images(2)
    targets = select_targets(find_targets(model), TargetQuery())[-2:]
    ranking = ablate_channel_batches(model, batches_of(images, 2), targets, intervention=intervention, runtime=CPU)
    order = removal_order(ranking)
    assert len(order) == 320
    result = check(model, images, order, intervention, steps=7)
    assert result.way.method == "batched"
    assert [point.removed for point in result.points] == [0, 46, 91, 137, 183, 229, 274, 320]


@given(network=networks())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("mode", ["zero", "mean", "noise"])
def test_random_network_equals_plain_loop(mode: str, network: onnx.ModelProto) -> None:
    model = modelio.load(network)
    images = np.random.default_rng(3).random((3, 3, 8, 8), np.float32) - 0.5
    tensors = [target.tensor for target in find_targets(model)]
    order = [Removal(tensors[index]) for index in np.random.default_rng(len(tensors)).permutation(len(tensors))]
    result = check(model, images, order, MODES[mode], tolerance=2e-5)
    assert result.way.method == "planned"


def graph(body: str, batch: str = "n") -> ir.Model:
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    agraph (float[{batch}, 3, 4, 4] x) => (float[{batch}, 1] prob)
    <int64[1] one = {{1}}, float[1, 3, 1, 1] scale = {{0.5, -1.5, 2.0}}> {{
        {body}
        row = ReduceMean <axes = [2, 3], keepdims = 0> (last)
        sums = ReduceSum <keepdims = 1> (row, one)  prob = Sigmoid (sums)
    }}"""
    return modelio.load(onnx.parser.parse_model(text))


ODD = {
    "concat-needs-rows": "p = Mul (x, scale)  q = Neg (x)  c = Concat <axis = 1> (p, q)  last = Relu (c)",
    "shape-of-a-changed-tensor": "p = Mul (x, scale)  q = Neg (p)  s = Shape (p)  r = Reshape (q, s)  last = Add (r, x)",
    "diamond": "p = Mul (x, scale)  q = Mul (p, p)  r = Add (q, p)  last = Add (r, x)",
    "captured-by-a-subgraph": """p = Mul (x, scale)  q = Neg (x)  yes = Constant <value = bool {1}> ()
        r = If (yes) < then_branch = a () => (float[n, 3, 4, 4] t) { u = Sigmoid (p)  t = Mul (u, q) },
                       else_branch = b () => (float[n, 3, 4, 4] e) { e = Identity (p) } >
        last = Add (r, x)""",
}


@pytest.mark.parametrize("mode", ["zero", "mean", "resample", "noise"])
@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_odd_graph_equals_plain_loop(body: str, mode: str) -> None:
    model, images = graph(body), np.random.default_rng(5).random((5, 3, 4, 4), np.float32) - 0.5
    tensors = [name for name in ("q", "row", "p", "r", "sums", "last") if f"{name} =" in body or len(name) > 2]
    result = check(model, images, [Removal(name) for name in tensors], MODES[mode], size=2)
    assert result.way.method == "planned"


@pytest.mark.parametrize("batch", ["1", "2"])
def test_fixed_batch_and_rows_that_depend_on_each_other(batch: str, caplog: pytest.LogCaptureFixture) -> None:
    images = np.random.default_rng(5).random((3, 3, 4, 4), np.float32) - 0.5
    body = "p = Mul (x, scale)  q = Neg (p)  last = Add (p, q)"
    assert check(graph(body, batch), images, [Removal("q"), Removal("p")], MODES["zero"]).way.method == "planned"
    if batch == "1":
        mixing = graph("p = Mul (x, scale)  m = ReduceMean <axes = [0]> (p)  q = Sub (p, m)  last = Add (q, p)")
        result = check(mixing, images, [Removal("q"), Removal("p")], MODES["scale"])
        assert result.way.method == "plain"
        assert "one image and step at a time" in caplog.text


def test_accuracy_is_measured_where_there_are_labels() -> None:
    model, images = calibrated_pgc("s"), smooth_images(6)
    batches = batches_of(images, 3)
    targets = select_targets(find_targets(model), TargetQuery(limit=4))
    paths = [path for batch in batches for path in batch.paths]
    measure = Measure("1", {path: ("pointing" if at % 2 else "not_pointing") for at, path in enumerate(paths)})
    order = [Removal(target.tensor) for target in targets]
    result = remove_batches_cumulatively(model, batches, order, targets, measure=measure, runtime=CPU)
    plain = plain_curve(model, images, order, range(5), MODES["zero"])
    truth = np.arange(6) % 2 == 1
    accuracy = ((plain >= 0.5) == truth).mean(axis=1)
    found = [point.quality.accuracy for point in result.points if point.quality is not None]
    assert found == pytest.approx(accuracy)
    assert result.accuracy_area == pytest.approx(trapezoids(accuracy, np.arange(5) / 4))


@pytest.mark.parametrize(
    ("removed", "values", "area"), [([0], [0.4], 0.4), ([0, 1], [1, 0], 0.5), ([0, 1, 4], [1, 1, 0], 0.625)]
)
def test_area_is_that_of_trapezoids(removed: list[int], values: list[float], area: float) -> None:
    assert area_under(removed, values) == pytest.approx(area)


@pytest.mark.parametrize(
    ("order", "steps", "message"),
    [
        pytest.param([], 0, "nothing is to be removed", id="empty"),
        pytest.param([Removal("p"), Removal("q", 1)], 0, "tensors and channels", id="mixed"),
        pytest.param([Removal("p", 3)], 0, "has 3 channels, so that 3", id="no-such-channel"),
        pytest.param([Removal("p")], -1, "-1 steps are impossible", id="steps"),
    ],
)
def test_order_that_makes_no_sense_is_an_error(order: list[Removal], steps: int, message: str) -> None:
    model = graph("p = Mul (x, scale)  q = Neg (p)  last = Add (p, q)")
    batches = batches_of(np.ones((2, 3, 4, 4), np.float32), 2)
    with pytest.raises(OptionError, match=message):
        remove_batches_cumulatively(model, batches, order, find_targets(model), steps=steps)
