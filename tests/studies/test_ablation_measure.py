"""Classes, labels, accuracy, F1, loss and ranking against the plain loop's rows and formulas written out."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from calibrated import calibrated_pgc, smooth_images
from conftest import REPOSITORY
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.images import ImageBatch, find_images, preprocess_from_metadata, read_batches
from pgc_graph.studies.ablation import AblationResult, Measure, ablate_batches
from pgc_graph.studies.ablation.classes import folder_labels, read_labels
from reference.plain_ablation import PlainScores, plain_ablation

PGC_LOGIT = "/base_model/Squeeze_output_0"
COLOURS = ("red", "green", "blue")
CLASSES = """<ir_version: 8, opset_import: ["": 17], metadata_props: ["pgc.labels": "red,green,blue"]>
agraph (float[n, 3, 4, 4] x) => (float[n, 3] prob) <float[1, 3, 1, 1] scale = {3.0, 4.0, 5.0}> {
    p = Mul (x, scale)  half = Sigmoid (p)  last = Sub (p, half)
    row = ReduceMean <axes = [2, 3], keepdims = 0> (last)  prob = Softmax <axis = -1> (row)
}"""


def paths_of(count: int) -> list[Path]:
    return [Path(f"{index}.png") for index in range(count)]


def colour_images(count: int) -> NDArray[np.float32]:
    tint = np.eye(3, dtype=np.float32)[np.arange(count) % 3][:, :, None, None]
    return np.random.default_rng(0).random((count, 3, 4, 4), np.float32) * (0.4 + tint)


def run(
    model: ir.Model, images: NDArray[np.float32], query: TargetQuery, measure: Measure, logit: str, size: int = 3
) -> tuple[AblationResult, PlainScores]:
    """Ablate in batches of 3, and the plain way; gates of the result in graph order."""
    paths = paths_of(len(images))
    batches = [ImageBatch(tuple(paths[s : s + size]), images[s : s + size], ()) for s in range(0, len(images), size)]
    targets = select_targets(find_targets(model), query)
    result = ablate_batches(model, batches, targets, measure=measure)
    assert result.engine.method == "planned"
    tensors = [target.tensor for target in targets]
    column = int(measure.target) if measure.target.isdigit() else None
    return result, plain_ablation(modelio.to_proto(model), images, tensors, logit=logit, column=column)


def f1_of(truth: NDArray[np.int64], predicted: NDArray[np.int64], one: int) -> float:
    hits = int(np.sum((truth == one) & (predicted == one)))
    precision = hits / max(1, int(np.sum(predicted == one)))
    recall = hits / int(np.sum(truth == one))
    return 2 * precision * recall / (precision + recall) if hits else 0.0


def figures(result: AblationResult) -> list[tuple[int, float, float, float]]:
    """Count, accuracy, F1 and loss, without gates and for each in graph order."""
    gates = sorted(result.gates, key=lambda gate: gate.position)
    qualities = [result.quality, *(gate.quality for gate in gates)]
    return [(q.count, q.accuracy, q.f1, q.loss) for q in qualities if q is not None]


def test_two_classes_are_judged_as_by_hand() -> None:
    model = calibrated_pgc("s")
    images = smooth_images(11)
    truth = np.arange(11) % 3 // 2  # one in three shows class 1
    labels = {path: ("not_pointing", "pointing")[t] for path, t in zip(paths_of(11), truth, strict=True)}
    result, plain = run(model, images, TargetQuery(), Measure(labels=labels), PGC_LOGIT)
    expected = []
    for row in plain.rows[:, :, 0]:
        predicted = (row >= 0.5).astype(int)
        loss = -np.mean(np.log(np.where(truth == 1, row, 1 - row)))
        expected.append((11, np.mean(predicted == truth), f1_of(truth, predicted, 1), loss))
    assert len({accuracy for _, accuracy, _, _ in expected}) > 2  # the gates do something
    np.testing.assert_allclose(figures(result), expected, atol=2e-5)
    assert [label.label for label in result.labels] == ["not_pointing", "pointing"]
    for index, label in enumerate(result.labels):
        rows = plain.rows[:, truth == index, 0]
        right = np.mean((rows >= 0.5) == (index == 1), axis=1)
        assert (label.images, label.prob.mean) == (rows.shape[1], pytest.approx(rows[0].mean(), abs=1e-5))
        assert label.accuracy == right[0]
        for gate in result.gates:
            part, other = gate.labels[index], rows[gate.position + 1]
            assert (part.label, part.accuracy) == (label.label, right[gate.position + 1])
            assert part.delta.mean == pytest.approx((rows[0] - other).mean(), abs=1e-5)
            assert part.prob.std == pytest.approx(other.std(), abs=1e-5)
            assert part.logit_delta is not None


def test_many_classes_are_judged_as_by_hand() -> None:
    truth = np.array([0, 1, 2, 0, 2, 1, 0, 0, 0, 1])  # some of them wrong
    labels = {path: COLOURS[t] for path, t in zip(paths_of(10), truth, strict=True)}
    query = TargetQuery(regexes=("^(p|half|last)$",))
    model = modelio.load(onnx.parser.parse_model(CLASSES))
    result, plain = run(model, colour_images(10), query, Measure(labels=labels), "row")
    expected = []
    for rows in plain.rows:
        predicted = rows.argmax(axis=1)
        loss = -np.mean(np.log(rows[np.arange(10), truth]))
        f1 = np.mean([f1_of(truth, predicted, one) for one in range(3)])
        expected.append((10, np.mean(predicted == truth), f1, loss))
    np.testing.assert_allclose(figures(result), expected, atol=1e-5)


def test_unlabelled_images_count_for_the_score_only() -> None:
    labels = dict.fromkeys(paths_of(4), "red")
    model = modelio.load(onnx.parser.parse_model(CLASSES))
    query = TargetQuery(regexes=("^p$",))
    result, plain = run(model, colour_images(7), query, Measure(labels=labels), "row")
    assert result.quality is not None
    assert (result.quality.count, result.labels[0].images, result.baseline.count) == (4, 4, 7)
    assert result.quality.loss == pytest.approx(-np.log(plain.rows[0, :4, 0]).mean(), abs=1e-5)
    assert [image.label for image in result.images] == ["red"] * 4 + [None] * 3


def test_labels_that_are_no_classes_are_grouped_but_not_judged() -> None:
    labels = {path: "left" if index < 2 else "right" for index, path in enumerate(paths_of(6))}
    model = modelio.load(onnx.parser.parse_model(CLASSES))
    query = TargetQuery(regexes=("^p$",))
    result, _ = run(model, colour_images(6), query, Measure(labels=labels), "row")
    assert result.quality is None
    assert [(label.label, label.images, label.accuracy) for label in result.labels] == [
        ("left", 2, None),
        ("right", 4, None),
    ]


@pytest.mark.parametrize(("target", "column"), [("0", 0), ("1", 1), ("blue", 2)])
def test_target_class_is_scored_whatever_the_model_finds(target: str, column: int) -> None:
    model = modelio.load(onnx.parser.parse_model(CLASSES))
    query = TargetQuery(regexes=("^(p|half|last)$",))
    result, plain = run(model, colour_images(6), query, Measure(target), "row")
    assert result.target == target
    assert [image.scored_class for image in result.images] == [column] * 6
    for gate in result.gates:
        delta = plain.rows[0, :, column] - plain.rows[gate.position + 1, :, column]
        assert gate.delta.mean == pytest.approx(delta.mean(), abs=1e-5)


def test_the_other_class_of_a_single_output_has_the_opposite_score() -> None:
    model = calibrated_pgc("s")
    found = [
        run(model, smooth_images(4), TargetQuery(limit=4), Measure(target), PGC_LOGIT)[0]
        for target in ("pointing", "not_pointing")
    ]
    by_position = [sorted(result.gates, key=lambda gate: gate.position) for result in found]
    assert found[0].baseline.mean + found[1].baseline.mean == pytest.approx(1, abs=1e-6)
    for one, other in zip(*by_position, strict=True):
        assert one.delta.mean == pytest.approx(-other.delta.mean, abs=1e-6)
        assert one.logit_delta is not None
        assert other.logit_delta is not None
        assert one.logit_delta.mean == pytest.approx(-other.logit_delta.mean, abs=1e-6)


@functools.cache
def shipped() -> tuple[ir.Model, NDArray[np.float32], NDArray[np.int64], PlainScores]:
    """The trained s on drawn crops: its answers change when tensors are off."""
    model = modelio.load(REPOSITORY / "models" / "pgc_s_32x32.onnx")
    paths = find_images(REPOSITORY / "models" / "crops")[::2]
    preprocess = preprocess_from_metadata(model.metadata_props, (None, 3, 32, 32))
    images = np.concatenate([batch.tensor for batch in read_batches(paths, preprocess)])
    truth = np.array([path.parent.name == "pointing" for path in paths], np.int64)
    targets = select_targets(find_targets(model), TargetQuery())
    plain = plain_ablation(modelio.to_proto(model), images, [t.tensor for t in targets], logit=PGC_LOGIT)
    return model, images, truth, plain


@pytest.mark.parametrize("rank_by", ["delta", "logit", "loss", "accuracy", "f1"])
def test_gates_are_ranked_by_what_is_lost(rank_by: str) -> None:
    model, images, truth, plain = shipped()
    labels = {path: str(t) for path, t in zip(paths_of(len(images)), truth, strict=True)}
    batches = [ImageBatch(tuple(labels), images, ())]
    targets = select_targets(find_targets(model), TargetQuery())
    result = ablate_batches(model, batches, targets, measure=Measure(labels=labels, rank_by=rank_by))
    rows = plain.rows[:, :, 0]
    predicted = rows >= 0.5
    assert plain.ablated_logit is not None
    lost = {
        "delta": -rows.mean(axis=1)[1:],
        "logit": -plain.ablated_logit.mean(axis=1),
        "loss": -np.log(np.where(truth, rows, 1 - rows)).mean(axis=1)[1:],
        "accuracy": -np.mean(predicted == truth, axis=1)[1:],
        "f1": np.array([-f1_of(truth, p.astype(int), 1) for p in predicted[1:]]),
    }
    in_order = [lost[rank_by][gate.position] for gate in result.gates]
    assert result.rank_by == rank_by
    assert len(set(np.round(in_order, 5))) > 2
    assert all(earlier >= later - 1e-5 for earlier, later in itertools.pairwise(in_order))


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        pytest.param(Measure("purple"), "no class 'purple'; expected argmax, red, green, blue or an index", id="name"),
        pytest.param(Measure("3"), "no class '3'", id="index"),
        pytest.param(Measure(rank_by="beauty"), "cannot rank by 'beauty'", id="ranking"),
        pytest.param(
            Measure(rank_by="f1"), r"no image has a label that is a class of the model \(red", id="unlabelled"
        ),
        pytest.param(Measure(labels={Path("0.png"): "?"}, rank_by="loss"), "cannot rank by loss", id="strange-labels"),
    ],
)
def test_measure_that_makes_no_sense_is_an_error(measure: Measure, message: str) -> None:
    model = modelio.load(onnx.parser.parse_model(CLASSES))
    with pytest.raises(OptionError, match=message):
        run(model, colour_images(3), TargetQuery(regexes=("^p$",)), measure, "row")


def test_index_beyond_unnamed_classes_is_an_error() -> None:
    text = CLASSES.replace(', metadata_props: ["pgc.labels": "red,green,blue"]', "")
    model = modelio.load(onnx.parser.parse_model(text))
    with pytest.raises(OptionError, match="expected 0 to 2"):
        run(model, colour_images(3), TargetQuery(regexes=("^p$",)), Measure("3"), "row")


def test_folders_label_their_images() -> None:
    paths = [Path("data/yes/1.png"), Path("data/no/deep/2.png")]
    assert folder_labels(paths) == {paths[0]: "yes", paths[1]: "deep"}


def test_labels_are_read_relative_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("label,image_path\nyes, a.png\n no,b/c.png\n".replace(", a", ",a"))
    paths = [tmp_path / "a.png", tmp_path / "b" / "c.png"]
    assert read_labels(tmp_path / "labels.csv", paths) == {paths[0]: "yes", paths[1]: "no"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("image_path,label\na.png,yes\n", "no label for 1 of 2 images, first: .*b.png", id="missing-image"),
        pytest.param("path,label\na.png,yes\n", "columns path, label; expected image_path and label", id="columns"),
        pytest.param("image_path,label\na.png\n", "line 2: no image_path or no label", id="short-line"),
        pytest.param("image_path,label\na.png,x\na.png,y\n", "line 3: a.png is 'y' here and 'x'", id="contradiction"),
        pytest.param("", "has columns none", id="empty"),
    ],
)
def test_labels_that_make_no_sense_are_an_error(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(OptionError, match=message):
        read_labels(tmp_path / "labels.csv", [tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(OptionError, match="cannot read labels"):
        read_labels(tmp_path / "nowhere.csv", [])
