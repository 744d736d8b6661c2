"""Learned gates: gradients by differences, optima that are known by hand, determinism, resumption, the L0 formulas."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from click.testing import Result
from PIL import Image

from conftest import REPOSITORY
from pgc_graph import modelio
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.images import Preprocess, load_image, to_tensor
from pgc_graph.sources import FileImages, npz_images
from pgc_graph.studies.ablation.classes import folder_labels
from pgc_graph.studies.ablation.measure import Measure
from pgc_graph.studies.learning import LearnSettings, learn_gates
from pgc_graph.studies.learning.learn import mac_weights
from pgc_graph.studies.learning.penalty import BETA, GAMMA, ZETA, cost_of, gates_of, sampled
from pgc_graph.studies.learning.pool import batch_indices, read_pool, rows_of
from pgc_graph.studies.learning.problem import loss_and_gradient, open_problem

MODEL = REPOSITORY / "models" / "pgc_s_32x32.onnx"
CROPS = sorted((REPOSITORY / "models" / "crops").rglob("*.png"))
STEP = 1e-3  # of a gate
SHORT = LearnSettings(steps=8, batch_size=8)
BRANCHES = """
<ir_version: 8, opset_import: ["": 17]> g (float[n, 3, 4, 4] x) => (float[n, 1] y)
<float[1, 3, 1, 1] w = {20, -20, 0}, float[1, 3, 1, 1] v = {0, 0, 0.001}, int64[2] row = {-1, 1}>
{
    needed = Conv(x, w)
    useless = Conv(x, v)
    both = Add(needed, useless)
    p = GlobalAveragePool(both)
    z = Reshape(p, row)
    y = Sigmoid(z)
}
"""
"""Whether an image is more red than green; what is blue adds next to nothing."""


def shipped(limit: int | None = None) -> tuple[ir.Model, tuple[Target, ...]]:
    model = modelio.load(MODEL)
    return model, select_targets(find_targets(model), TargetQuery(limit=limit))


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """An .npz file of images, more red than green where the label is 1."""
    generator = np.random.default_rng(0)
    images = generator.random((24, 3, 4, 4), np.float32) * 0.2
    labels = np.arange(24) % 2
    images[labels == 1, 0] += 0.5
    images[labels == 0, 1] += 0.5
    np.savez(tmp_path / "colours.npz", images=images, labels=labels.astype(str))
    return tmp_path / "colours.npz"


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensors", "channels"])
def test_gradient_of_the_loss_equals_central_differences(per_channel: bool) -> None:
    model, targets = shipped()
    problem = open_problem(model, targets, per_channel=per_channel)
    images = np.stack([to_tensor(load_image(path), Preprocess(size=(32, 32))) for path in CROPS[:4]])
    wanted = np.array([[0.0], [1.0], [0.3], [1.0]])
    values = [np.full(gate.shape, 0.9) for gate in problem.gates]
    _, found = loss_and_gradient(problem, images, wanted, values)
    for index in (0, len(targets) // 2, len(targets) - 1):
        direction = np.random.default_rng(index).choice([-1.0, 1.0], problem.gates[index].shape)
        ends = []
        for sign in (-1, 1):
            moved = [value.copy() for value in values]
            moved[index] = moved[index] + sign * STEP * direction
            ends.append(loss_and_gradient(problem, images, wanted, moved)[0])
        slope = (ends[1] - ends[0]) / (2 * STEP)
        assert float((found[index] * direction).sum()) == pytest.approx(slope, rel=3e-2, abs=3e-3)


def test_loss_of_several_classes_equals_torch() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]> g (float[n, 3, 2, 2] x) => (float[n, 3] y)
    <float[3, 3, 1, 1] w = {1, 2, -1, 0.5, 1, 3, -2, 1, 1}>
    { c = Conv(x, w) p = GlobalAveragePool(c) f = Flatten(p) y = Softmax(f) }"""
    model = modelio.load(onnx.parser.parse_model(text))
    targets = [target for target in find_targets(model) if target.tensor == "c"]
    problem = open_problem(model, targets, per_channel=True)
    generator = np.random.default_rng(0)
    images, gate = generator.normal(size=(5, 3, 2, 2)).astype(np.float32), generator.random((1, 3, 1, 1))
    wanted = generator.dirichlet([1, 1, 1], 5)
    loss, (gradient,) = loss_and_gradient(problem, images, wanted, [gate])
    kernel = torch.tensor([1, 2, -1, 0.5, 1, 3, -2, 1, 1]).reshape(3, 3, 1, 1)
    free = torch.tensor(gate, dtype=torch.float32, requires_grad=True)
    logits = (torch.nn.functional.conv2d(torch.tensor(images), kernel) * free).mean(dim=(2, 3))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(wanted, dtype=torch.float32))
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert free.grad is not None
    np.testing.assert_allclose(gradient, free.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "own-answers"])
@pytest.mark.parametrize(("penalty", "rate"), [("l1", 0.05), ("l0", 0.2)])
def test_useless_branch_closes_and_the_needed_one_stays(
    penalty: str, rate: float, labelled: bool, colours: Path
) -> None:
    model = modelio.load(onnx.parser.parse_model(BRANCHES))
    targets = [target for target in find_targets(model) if target.tensor in ("needed", "useless")]
    source = npz_images(colours)
    measure = Measure(labels={path: str(index % 2) for index, path in enumerate(source.paths())}) if labelled else None
    settings = LearnSettings(sparsity=1e-4, penalty=penalty, steps=200, learning_rate=rate, batch_size=8, patience=0)
    learned = learn_gates(model, source, targets, settings, measure=measure, preprocess=Preprocess(size=(4, 4)))
    gates = {gate.target.tensor: gate.values[0] for gate in learned.result.gates}
    assert gates["useless"] == 0
    assert gates["needed"] == pytest.approx(1, abs=0.05)
    assert [(point.kept, point.agreement) for point in learned.result.curve][1:] == [(1, 1.0), (2, 1.0)]
    assert learned.result.curve[1].f1 == (1.0 if labelled else None)


def test_model_that_is_written_computes_with_the_learned_gates() -> None:
    model, targets = shipped(3)
    learned = learn_gates(model, CROPS[:8], targets, replace(SHORT, sparsity=1.0, learning_rate=0.1))
    gates = {gate.gate: gate.values for gate in learned.result.gates}
    assert any(value < 0.9 for values in gates.values() for value in values)
    images = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    session = onnxruntime.InferenceSession(modelio.to_bytes(learned.model), providers=["CPUExecutionProvider"])
    fed = {name: np.array(values[0], np.float32) for name, values in gates.items()}
    np.testing.assert_array_equal(
        session.run(None, {"images": images})[-1], session.run(None, {"images": images, **fed})[-1]
    )


@pytest.mark.parametrize("penalty", ["l1", "l0"])
def test_run_repeats_itself_and_a_resumed_run_equals_it(penalty: str, tmp_path: Path) -> None:
    model, targets = shipped(4)
    settings = replace(SHORT, penalty=penalty)
    measure = Measure(labels=folder_labels(CROPS))
    whole = learn_gates(model, CROPS, targets, settings, measure=measure).result
    assert learn_gates(model, CROPS, targets, settings, measure=measure).result == whole
    file, made = tmp_path / "x.learning.npz", list[int]()
    part = learn_gates(
        *(model, CROPS, targets, settings),
        measure=measure,
        checkpoint=file,
        on_step=lambda step, objective: made.append(step),
        stop=lambda: len(made) == 3,
    ).result
    assert (part.ended, part.steps, file.is_file()) == ("interrupted", 3, True)
    with pytest.raises(OptionError, match="unfinished run"):
        learn_gates(model, CROPS, targets, settings, measure=measure, checkpoint=file)
    other = replace(settings, sparsity=0.5)
    with pytest.raises(OptionError, match="other sparsity than before"):
        learn_gates(model, CROPS, targets, other, measure=measure, checkpoint=file, resume=True)
    resumed = learn_gates(model, CROPS, targets, settings, measure=measure, checkpoint=file, resume=True).result
    assert resumed == whole
    assert not file.exists()
    with pytest.raises(OptionError, match="nothing to resume"):
        learn_gates(model, CROPS, targets, settings, measure=measure, checkpoint=file, resume=True)


def test_learning_stops_when_nothing_gets_better() -> None:
    model, targets = shipped(2)
    settings = replace(SHORT, steps=60, sparsity=0.0, learning_rate=1e-9, patience=4)
    found = learn_gates(model, CROPS[:8], targets, settings).result
    assert (found.ended, found.steps < 60) == ("patience", True)


def test_hard_concrete_gates_equal_torch() -> None:
    numbers = np.linspace(-4, 4, 9)
    free = torch.tensor(numbers, requires_grad=True)
    noise = torch.tensor(np.random.default_rng(7).uniform(1e-6, 1 - 1e-6, 9))
    squashed = torch.sigmoid((noise.log() - (1 - noise).log() + free) / BETA)
    drawn = (squashed * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
    drawn.sum().backward()  # type: ignore[no-untyped-call]
    gates, slope = sampled("l0", numbers, np.random.default_rng(7))
    np.testing.assert_allclose(gates, drawn.detach().numpy(), atol=1e-12)
    assert free.grad is not None
    np.testing.assert_allclose(slope, free.grad.numpy(), atol=1e-12)
    again = torch.tensor(numbers, requires_grad=True)
    chance = torch.sigmoid(again - BETA * torch.log(torch.tensor(-GAMMA / ZETA, dtype=torch.float64)))
    chance.sum().backward()  # type: ignore[no-untyped-call]
    cost, cost_slope = cost_of("l0", numbers)
    np.testing.assert_allclose(cost, chance.detach().numpy(), atol=1e-12)
    assert again.grad is not None
    np.testing.assert_allclose(cost_slope, again.grad.numpy(), atol=1e-12)


def test_chance_to_be_open_is_what_drawing_gates_shows() -> None:
    numbers = np.repeat([-2.0, 0.0, 1.5], 40_000)
    gates, _ = sampled("l0", numbers, np.random.default_rng(0))
    shares = (gates > 0).reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(cost_of("l0", np.array([-2.0, 0.0, 1.5]))[0], shares, atol=0.01)
    assert gates_of("l0", np.array([-9.0, 3.0])).tolist() == [0.0, 1.0]


def test_every_pass_shows_every_image_once_and_images_need_not_fit_into_memory() -> None:
    seen = np.concatenate([batch_indices(10, 4, step, 3) for step in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    pools = [read_pool(FileImages(CROPS[:5]), Preprocess(size=(32, 32)), None, most=most) for most in (0, 2**20)]
    indices = np.array([4, 0, 4, 2])
    assert pools[0].tensor is None
    np.testing.assert_array_equal(rows_of(pools[0], indices), rows_of(pools[1], indices))


def test_macs_weigh_the_penalty() -> None:
    model, targets = shipped(4)
    problem = open_problem(model, targets, per_channel=True)
    pool = read_pool(FileImages(CROPS[:1]), Preprocess(size=(32, 32)), None)
    weights = np.split(mac_weights(model, targets, problem, pool, None), np.cumsum(problem.sizes)[:-1])
    # Two Conv of the stem on 32x32 and 16x16, the next expansion, the depthwise Conv, by hand for one image:
    macs = np.array([32 * 27 * 1024, 32 * 288 * 256, 128 * 32 * 256, 128 * 9 * 256])
    ratios = [part.sum() / weights[0].sum() for part in weights]
    np.testing.assert_allclose(ratios, macs / macs[0])
    assert np.concatenate(weights).mean() == pytest.approx(1)
    plain, weighed = (
        learn_gates(model, CROPS[:8], targets, replace(SHORT, steps=1, sparsity=0.5, cost=cost)).result.history[0]
        for cost in ("none", "macs")
    )
    assert weighed == pytest.approx(plain)  # all gates are 1


def test_command_writes_model_curve_and_chart(run_cli: Callable[..., Result], tmp_path: Path) -> None:
    line = ("learn-gates", "--model", MODEL, "--image-dir", REPOSITORY / "models" / "crops", "--limit", 3)
    options = ("--steps", 4, "--batch-size", 8, "--per-channel", "--max-images", 0, "-o", tmp_path / "gated.onnx")
    result = run_cli(*line, *options, "--curve", tmp_path / "c.csv", "--chart", tmp_path / "g.png", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["steps"], found["ended"], found["labelled_count"], found["image_count"]) == (4, "steps", 40, 40)
    rows = (tmp_path / "c.csv").read_text().splitlines()
    assert rows[0] == "kept,share,agreement,loss,accuracy,f1"
    assert len(rows) == len(found["curve"]) + 1
    with Image.open(tmp_path / "g.png") as chart:
        assert chart.width == 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "g.png", "gated.onnx"]
    onnx.checker.check_model(tmp_path / "gated.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(("--lr", "0"), "learning rate 0.0", id="rate"),
        pytest.param(("--sparsity", "nan"), "sparsity nan", id="sparsity"),
        pytest.param(("--chart", "x.jpg"), "is no PNG", id="chart"),
        pytest.param(("--resume",), "nothing to resume", id="resume"),
    ],
)
def test_command_refuses_in_one_line(
    options: tuple[str, ...], message: str, run_cli: Callable[..., Result], tmp_path: Path
) -> None:
    line = ("learn-gates", "--model", MODEL, "--image", CROPS[0], "-o", tmp_path / "gated.onnx")
    result = run_cli(*line, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())
