"""Interventions against the plain loop, to which means, donors' tensors and noise are fed as numpy computes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from PIL import Image

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.images import ImageBatch
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import AblationResult, Intervention, Measure, ablate, ablate_batches
from pgc_graph.studies.ablation.intervention import NoiseSource, donor_index
from pgc_graph.studies.ablation.reference import POOL, donor_pool
from pgc_graph.studies.ablation.scores import Scores
from random_networks import networks
from reference.plain_ablation import plain_ablation

EVERY = TargetQuery(include_all=True)
PGC_LOGIT = "/base_model/Squeeze_output_0"
MODES = {
    "mean": Intervention("mean"),
    "mean-by-element": Intervention("mean", mean_per="element"),
    "resample": Intervention("resample", seed=3),
    "noise": Intervention("noise", sigma=0.7, seed=5),
}


def batches_of(images: NDArray[np.float32], size: int) -> list[ImageBatch]:
    names = [Path(f"{index}.png") for index in range(len(images))]
    starts = range(0, len(images), size)
    return [ImageBatch(tuple(names[s : s + size]), images[s : s + size], ()) for s in starts]


def values_of(model: onnx.ModelProto, images: NDArray[np.float32], tensors: Sequence[str]) -> list[np.ndarray]:
    """Return the tensors of all images, one image at a time; batches of another size are filled up."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    rows = source.shape[0] if isinstance(source.shape[0], int) else 1
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[source.type]
    runs = [session.run(None, {source.name: np.repeat(image[None], rows, axis=0).astype(kind)}) for image in images]
    return [np.concatenate([run[index][:1] for run in runs]) for index in range(len(tensors))]


def per_channel(values: np.ndarray) -> tuple[int, ...]:
    """Return the axes to reduce; every tensor with channels in these tests has them on axis 1, if its rank is 2 or 4."""
    return (0,) if values.ndim not in (2, 4) else tuple(axis for axis in range(values.ndim) if axis != 1)


def shifts_of(
    intervention: Intervention, images: NDArray[np.float32], tensors: Sequence[str], values: Sequence[np.ndarray]
) -> list[np.ndarray]:
    count = len(images)
    if intervention.mode == "resample":
        index = donor_index(intervention.seed, np.arange(count), min(count, POOL))
        index = np.where(index == np.arange(count), (index + 1) % min(count, POOL), index)
        return [value[index] for value in values]
    if intervention.mode == "noise":
        source = NoiseSource(intervention.seed, max(value[0].size for value in values))
        drawn = [source.draw(t, np.arange(count), v.shape[1:]) for t, v in zip(tensors, values, strict=True)]
        spreads = [value.std(axis=per_channel(value), keepdims=True, dtype=np.float64) for value in values]
        return [(noise * 0.7 * spread) for noise, spread in zip(drawn, spreads, strict=True)]
    by_element = intervention.mean_per == "element"
    return [v.mean(axis=0 if by_element else per_channel(v), keepdims=True, dtype=np.float64) for v in values]


def check(
    model: ir.Model,
    images: NDArray[np.float32],
    query: TargetQuery,
    intervention: Intervention,
    *,
    logit: str | None = None,
    size: int = 8,
    tolerance: float = 1e-5,
    column: int | None = None,
) -> AblationResult:
    """Ablate, compare every score with the plain loop's, and return the result."""
    seen: list[Scores] = []
    result = ablate_batches(
        model,
        batches_of(images, size),
        select_targets(find_targets(model), query),
        intervention=intervention,
        measure=Measure("argmax" if column is None else str(column)),
        runtime=RuntimeOptions(provider="cpu"),
        on_batch=lambda batch, scores: seen.append(scores),
    )
    by_position = sorted(result.gates, key=lambda impact: impact.position)
    tensors = [impact.target.tensor for impact in by_position]
    proto = modelio.to_proto(model)
    values = values_of(proto, images, tensors)
    shifts = shifts_of(intervention, images, tensors, values)
    factor = 1.0 if intervention.mode == "noise" else 0.0
    plain = plain_ablation(proto, images, tensors, value=factor, logit=logit, shifts=shifts, column=column)
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(np.concatenate([s.baseline for s in seen]), plain.baseline, **close)
    np.testing.assert_allclose(np.concatenate([s.ablated for s in seen], axis=1), plain.ablated, **close)
    if logit is not None and plain.ablated_logit is not None:
        close["atol"] = tolerance * max(1.0, np.abs(plain.ablated_logit).max())  # logits of 30 near 0 by cancellation
        logits = np.concatenate([s.ablated_logit for s in seen if s.ablated_logit is not None], axis=1)
        np.testing.assert_allclose(logits, plain.ablated_logit, **close)
    assert result.intervention == intervention
    return result


@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
@pytest.mark.parametrize("variant", ["s", "l"])
def test_pgc_equals_plain_loop(variant: str, intervention: Intervention) -> None:
    result = check(calibrated_pgc(variant), smooth_images(7), TargetQuery(), intervention, logit=PGC_LOGIT, size=3)
    assert result.engine.method == "planned"
    assert max(abs(impact.delta.mean) for impact in result.gates) > 1e-3  # the interventions do something


@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
def test_one_or_two_images_equal_plain_loop(intervention: Intervention) -> None:
    result = check(calibrated_pgc("s"), smooth_images(2), TargetQuery(), intervention, logit=PGC_LOGIT)
    assert result.engine.method == "plain"


@given(network=networks())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
def test_random_network_equals_plain_loop(intervention: Intervention, network: onnx.ModelProto) -> None:
    images = np.random.default_rng(3).random((3, 3, 8, 8), np.float32) - 0.5
    result = check(modelio.load(network), images, EVERY, intervention, tolerance=2e-5, column=1)
    assert result.engine.method == "planned"


def graph(body: str, batch: str = "n", kind: str = "float") -> ir.Model:
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    agraph ({kind}[{batch}, 3, 4, 4] x) => ({kind}[{batch}, 1] prob)
    <int64[1] one = {{1}}, float[1, 3, 1, 1] factors = {{0.5, -1.5, 2.0}}> {{
        scale = CastLike (factors, x)
        {body}
        row = ReduceMean <axes = [2, 3], keepdims = 0> (last)
        sums = ReduceSum <keepdims = 1> (row, one)  prob = Sigmoid (sums)
    }}"""
    return modelio.load(onnx.parser.parse_model(text))


ODD = {
    "concat-needs-rows": "p = Mul (x, scale)  c = Concat <axis = 1> (p, x)  last = Relu (c)",
    "constant-branch": "p = Mul (x, scale)  q = Sigmoid (p)  last = Sub (x, q)",
    "shape-of-a-changed-tensor": "p = Mul (x, scale)  s = Shape (p)  r = Reshape (p, s)  last = Add (r, x)",
    "gate-that-leads-nowhere": "p = Mul (x, scale)  unused = Neg (p)  last = Relu (x)",
    "diamond": "p = Mul (x, scale)  q = Mul (p, p)  r = Add (q, p)  last = Add (r, x)",
    "captured-by-a-subgraph": """p = Mul (x, scale)  yes = Constant <value = bool {1}> ()
        inner = If (yes) < then_branch = a () => (float[n, 3, 4, 4] t) { u = Sigmoid (p)  t = Mul (u, x) },
                           else_branch = b () => (float[n, 3, 4, 4] e) { e = Identity (p) } >
        last = Add (inner, x)""",
}


@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_odd_graph_equals_plain_loop(body: str, intervention: Intervention) -> None:
    images = np.random.default_rng(5).random((5, 3, 4, 4), np.float32) - 0.5
    query = TargetQuery(regexes=("^(p|q|r|c|inner|last|row|sums|unused)$",))
    result = check(graph(body), images, query, intervention, logit="sums", size=2)
    assert result.engine.method == "planned"


@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
@pytest.mark.parametrize(("batch", "kind"), [("1", "float"), ("4", "float"), ("n", "double")])
def test_fixed_batch_and_other_type_equal_plain_loop(batch: str, kind: str, intervention: Intervention) -> None:
    model = graph("p = Mul (x, scale)  q = Sigmoid (p)  last = Concat <axis = 1> (q, x)", batch, kind)
    images = np.random.default_rng(6).random((6, 3, 4, 4), np.float32)
    result = check(model, images, TargetQuery(regexes=("^[pq]$", "^last$")), intervention, logit="sums")
    assert result.engine.method == "planned"


def test_rows_that_depend_on_each_other_are_run_the_plain_way(caplog: pytest.LogCaptureFixture) -> None:
    model = graph("p = Mul (x, scale)  m = ReduceMean <axes = [0]> (p)  last = Sub (p, m)")
    images = np.random.default_rng(5).random((5, 3, 4, 4), np.float32)
    targets = select_targets(find_targets(model), TargetQuery(regexes=("^p$",)))
    result = ablate_batches(model, batches_of(images, 8), targets, intervention=Intervention("mean"))
    assert result.engine.method == "plain"
    assert "run by itself" in caplog.text


@pytest.mark.parametrize(("variant", "cuts", "blocks"), [("s", 9, 3), ("l", 14, 4)])
def test_cuts_are_one_number_at_the_mean_and_one_run_with_donors(variant: str, cuts: int, blocks: int) -> None:
    model = calibrated_pgc(variant)
    targets = select_targets(find_targets(model), TargetQuery())
    mean, donors = (
        ablate_batches(model, batches_of(smooth_images(5), 5), targets, intervention=MODES[name]).engine
        for name in ("mean", "resample")
    )
    assert mean.constant_gates == cuts
    assert donors.constant_gates == 0
    # With donors, whatever lies on the branch of a residual block leads to the same branch of the donor.
    assert donors.suffix_runs == 1 + blocks


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_noise_is_standard_normal_and_different_everywhere() -> None:
    source = NoiseSource(7, 3000)
    drawn = source.draw("a", np.arange(40), (3, 1000)).reshape(40, -1).astype(np.float64)
    assert drawn.mean() == pytest.approx(0, abs=4 / np.sqrt(drawn.size))
    assert drawn.std() == pytest.approx(1, abs=4 / np.sqrt(2 * drawn.size))
    other = source.draw("b", np.arange(40), (3, 1000)).reshape(40, -1)
    correlations = np.corrcoef(np.concatenate([drawn, other]))
    assert np.abs(correlations[np.triu_indices(80, 1)]).max() < 6 / np.sqrt(3000)
    again = NoiseSource(7, 5000).draw("a", np.array([17]), (3000,))
    np.testing.assert_array_equal(again.ravel(), drawn[17].astype(np.float32))
    assert not np.allclose(NoiseSource(8, 3000).draw("a", np.array([17]), (3000,)), again)


def test_donors_are_others_and_spread_over_the_pool() -> None:
    images = smooth_images(POOL + 36)
    batches = batches_of(images, 16)
    pool = donor_pool(batches, 2)
    assert pool.paths == tuple(path for batch in batches for path in batch.paths)[:POOL]
    paths = [path for batch in batches for path in batch.paths]
    donors = pool.donors(paths, np.arange(len(paths)))
    chosen = [next(i for i, image in enumerate(images) if np.array_equal(image, donor)) for donor in donors]
    assert all(row != donor for row, donor in enumerate(chosen))
    assert len(set(chosen)) > POOL / 2
    later = pool.donors(paths[50:], np.arange(50, len(paths)))
    np.testing.assert_array_equal(later, donors[50:])


@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
def test_result_depends_neither_on_batches_nor_on_threads(intervention: Intervention, tmp_path: Path) -> None:
    paths = []
    for index in range(9):
        paths.append(tmp_path / f"{index}.png")
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    paths[4].write_bytes(b"no image")
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=6))
    found = [
        ablate(
            model, paths, targets, intervention=intervention, batch_size=size, runtime=RuntimeOptions(threads=threads)
        )
        for size, threads in ((1, 1), (4, 2))
    ]
    for one, other in zip(*(sorted(result.gates, key=lambda gate: gate.position) for result in found), strict=True):
        assert one.delta.mean == pytest.approx(other.delta.mean, abs=2e-6)
    for result in found:
        assert [skipped.path for skipped in result.skipped_images] == [paths[4]]
        assert len(result.images) == 8


def test_seed_decides() -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=4))
    for mode in ("resample", "noise"):
        batches = batches_of(smooth_images(6), 3)
        first, again, other = (
            ablate_batches(model, batches, targets, intervention=Intervention(mode, seed=seed)).gates
            for seed in (1, 1, 2)
        )
        assert first == again
        assert [gate.delta for gate in first] != [gate.delta for gate in other]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"mode": "median"}, "no intervention 'median'", id="mode"),
        pytest.param({"mode": "mean", "value": 0.5}, "no meaning for intervention mean; take scale", id="value"),
        pytest.param({"mode": "scale", "value": float("inf")}, "expected a finite number", id="endless"),
        pytest.param({"mode": "mean", "mean_per": "row"}, "expected channel or element", id="mean-per"),
        pytest.param({"mode": "noise", "sigma": 0.0}, "expected a finite number above 0", id="sigma"),
        pytest.param({"mode": "noise", "seed": -1}, "seed -1 is negative", id="seed"),
    ],
)
def test_intervention_that_makes_no_sense_is_an_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Intervention(**options)  # type: ignore[arg-type]


def test_images_have_to_be_there_twice_and_donors_to_be_others() -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=1))
    once = iter(batches_of(smooth_images(3), 3))
    with pytest.raises(OptionError, match="looks at the images twice"):
        ablate_batches(model, once, targets, intervention=Intervention("mean"))
    with pytest.raises(OptionError, match="give at least two"):
        ablate_batches(model, batches_of(smooth_images(1), 1), targets, intervention=Intervention("resample"))
