"""Importance against finite differences, against plain sums of gradient x activation, and against real ablation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from click.testing import Result
from numpy.typing import NDArray

import pgc_graph
from calibrated import smooth_images
from conftest import REPOSITORY
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.images import load_image, to_tensor
from pgc_graph.studies.ablation import ablate
from pgc_graph.studies.ablation.classes import TargetClass
from pgc_graph.studies.importance import estimate_importance, spearman
from pgc_graph.studies.importance.compare import channel_deltas
from pgc_graph.studies.importance.estimate import first_order, integrated
from pgc_graph.studies.importance.row_gates import class_weights, open_row_gates, run_values

CROPS = sorted((REPOSITORY / "models" / "crops" / "pointing").glob("*.png"))
STEP = 5e-4  # of a gate: the network has kinks, so larger ones miss the slope
THREE_CLASSES = """
<ir_version: 8, opset_import: ["": 17]> g (float[n, 3, 2, 2] x) => (float[n, 3] y)
<float[3, 3, 1, 1] w = {1, 0.5, -1, 0.25, 2, 0.5, -0.5, 1, 1}>
{ c = Conv(x, w) t = Mul(c, c) p = GlobalAveragePool(t) f = Flatten(p) y = Softmax(f) }
"""


def shipped(limit: int | None = None) -> tuple[ir.Model, tuple[pgc_graph.Target, ...]]:
    model = modelio.load(REPOSITORY / "models" / "pgc_s_32x32.onnx")
    return model, select_targets(find_targets(model), TargetQuery(limit=limit))


def test_first_order_equals_gradient_times_activation(pgc_model: Callable[[str], ir.Model]) -> None:
    model = pgc_model("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=5))
    images = smooth_images(3)
    opened = open_row_gates(model, targets)
    found = first_order(opened, images, class_weights(opened, images, TargetClass()))
    names = [target.tensor for target in targets]
    gradient = pgc_graph.gradient_graph(pgc_graph.add_taps(model, names).model, opened.value, names)
    session = onnxruntime.InferenceSession(modelio.to_bytes(gradient.model), providers=["CPUExecutionProvider"])
    for name, item, parts in zip(names, gradient.gradients, found, strict=True):
        tensor, slope = session.run([name, item.output], {"images": images})
        np.testing.assert_allclose(parts, (tensor * slope).sum(axis=(2, 3)), rtol=1e-3, atol=1e-4)


def test_first_order_equals_central_differences_of_the_gate() -> None:
    model, targets = shipped()
    preprocess = pgc_graph.Preprocess(size=(32, 32))
    images = np.stack([to_tensor(load_image(path), preprocess) for path in CROPS[:2]])
    opened = open_row_gates(model, targets)
    found = first_order(opened, images, class_weights(opened, images, TargetClass()))
    for index in (0, 5, len(targets) - 1):
        ends = [
            run_values(opened, images, {index: np.full((2, *opened.gates[index].shape), 1 + step)})[:, 0]
            for step in (-STEP, STEP)
        ]
        np.testing.assert_allclose(found[index].sum(axis=1), (ends[1] - ends[0]) / (2 * STEP), rtol=2e-2, atol=2e-2)


def test_integral_over_the_gate_is_the_true_delta_on_real_crops() -> None:
    model, targets = shipped()
    chosen = targets[-2:]
    result = estimate_importance(model, CROPS[:2], chosen, steps=384)
    truth = {gate.target.tensor: gate.logit_delta for gate in ablate(model, CROPS[:2], chosen).gates}
    for item in result.tensors:
        true = truth[item.target.tensor]
        assert true is not None
        assert item.estimate.mean == pytest.approx(true.mean, abs=1e-3)
        parts = [channel.estimate for channel in result.channels if channel.tensor == item.target.tensor]
        assert sum(parts) == pytest.approx(item.estimate.mean, abs=1e-9)


def test_smooth_network_is_integrated_exactly_and_its_classes_are_told_apart() -> None:
    model = modelio.load(onnx.parser.parse_model(THREE_CLASSES))
    targets = [target for target in find_targets(model) if target.tensor in ("c", "t")]
    images = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    opened = open_row_gates(model, targets, "prob")
    assert [gate.shape for gate in opened.gates] == [(3, 1, 1), (3, 1, 1)]
    for target in (TargetClass(), TargetClass(2)):
        weights = class_weights(opened, images, target)
        whole = run_values(opened, images)
        chosen = np.argmax(whole, axis=1) if target.column is None else np.full(4, target.column)
        for index, part in enumerate(integrated(opened, images, weights, 24)):
            without = run_values(opened, images, {index: np.zeros((4, 3, 1, 1))})
            rows = np.arange(4)
            np.testing.assert_allclose(part.sum(axis=1), (whole - without)[rows, chosen], atol=1e-5)


def test_gate_that_the_model_has_keeps_its_value() -> None:
    model, targets = shipped(2)
    gated = pgc_graph.insert_gates(model, [targets[0].tensor]).model
    initializer = next(value for name, value in gated.graph.initializers.items() if name.startswith("gate::"))
    initializer.const_value = ir.tensor(np.array(0.5, np.float32), name=initializer.name)
    images = smooth_images(2)
    opened, plain = open_row_gates(gated, targets), open_row_gates(model, targets)
    halved = run_values(plain, images, {0: np.full((2, *plain.gates[0].shape), 0.5)})
    np.testing.assert_allclose(run_values(opened, images), halved, atol=1e-4)
    result = first_order(opened, images, np.ones((2, 1)))[0].sum(axis=1)
    ends = [run_values(opened, images, {0: np.full((2, *opened.gates[0].shape), 1 + h)})[:, 0] for h in (-STEP, STEP)]
    np.testing.assert_allclose(result, (ends[1] - ends[0]) / (2 * STEP), rtol=2e-2, atol=2e-2)


def test_true_deltas_of_channels_equal_a_gated_model_fed_zeros() -> None:
    model, targets = shipped(1)
    images = smooth_images(3)
    opened = open_row_gates(model, targets)
    _, true = channel_deltas(opened, images, TargetClass(), 1000, 0)
    gated = pgc_graph.insert_gates(model, [targets[0].tensor], per_channel=True)
    asked = pgc_graph.add_taps(gated.model, [opened.value]).model
    session = onnxruntime.InferenceSession(modelio.to_bytes(asked), providers=["CPUExecutionProvider"])
    (baseline,) = session.run([opened.value], {"images": images})
    for channel in (0, 7, 31):
        gate = np.ones(gated.gates[0].shape, np.float32)
        gate[0, channel] = 0
        (without,) = session.run([opened.value], {"images": images, gated.gates[0].gate: gate})
        assert true[channel] == pytest.approx(float((baseline - without).mean()), abs=1e-4)


def plain_spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """By the definition: Pearson's correlation of ranks, a rank being 1 + those below + half of the others alike."""

    def rank(values: NDArray[np.float64]) -> list[float]:
        return [1 + float(np.sum(values < value)) + (float(np.sum(values == value)) - 1) / 2 for value in values]

    return float(np.corrcoef(rank(first), rank(second))[0, 1])


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_equals_the_definition_with_ties(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 6, (2, 30)).astype(np.float64)
    assert spearman(first, second) == pytest.approx(plain_spearman(first, second), abs=1e-12)


def test_rank_correlation_by_hand() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)
    assert np.isnan(spearman([1, 1], [1, 2]))


def test_options_that_make_no_sense_are_refused() -> None:
    model, targets = shipped(1)
    with pytest.raises(OptionError, match="-1 steps"):
        estimate_importance(model, CROPS[:1], targets, steps=-1)
    with pytest.raises(OptionError, match="cannot rank by 'size'"):
        estimate_importance(model, CROPS[:1], targets, rank_by="size")


@pytest.mark.parametrize("name", ["scores.csv", "scores.json"])
def test_command_ranks_compares_and_saves(name: str, run_cli: Callable[..., Result], tmp_path: Path) -> None:
    crops = REPOSITORY / "models" / "crops" / "pointing"
    line = ("importance", "--model", REPOSITORY / "models" / "pgc_s_32x32.onnx", "--image-dir", crops)
    options = ("--max-images", 6, "--limit", 4, "--per-channel", "--top", 3, "--compare", "--compare-channels", 20)
    result = run_cli(*line, *options, "--save", tmp_path / name, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [item["rank"] for item in found["tensors"]] == [1, 2, 3, 4]
    assert (len(found["channels"]), found["image_count"], found["comparison"]["channel_count"]) == (3, 6, 20)
    assert -1 <= found["comparison"]["tensors"] <= 1
    text = (tmp_path / name).read_text()
    rows = json.loads(text)["channels"] if name.endswith("json") else text.splitlines()[1:]
    assert len(rows) == sum(item["channels"] for item in found["tensors"])


def test_command_refuses_a_scores_file_of_another_kind(run_cli: Callable[..., Result], tmp_path: Path) -> None:
    model = REPOSITORY / "models" / "pgc_s_32x32.onnx"
    result = run_cli("importance", "--model", model, "--image", CROPS[0], "--save", tmp_path / "scores.txt")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert ".csv or .json" in result.stderr
