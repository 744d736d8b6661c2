"""What a report gathers is what the single studies find, and what onnxruntime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from conftest import REPOSITORY
from pgc_graph import modelio, sources
from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.summary import summarise
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.images import load_image, preprocess_from_metadata, to_tensor
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import Measure, ablate
from pgc_graph.studies.ablation.measure import OwnLabels
from pgc_graph.studies.report import ReportData, ReportRequest, gather_report

MODEL = REPOSITORY / "models" / "pgc_s_32x32.onnx"
CROPS = REPOSITORY / "models" / "crops"
RUNTIME = RuntimeOptions(provider="cpu", threads=1)
REQUEST = ReportRequest(examples=5, tensors=3, mistakes=4, seconds=0.05)


def gather(*, is_labelled: bool = True) -> ReportData:
    model = modelio.load(MODEL)
    images = sources.image_folder(CROPS)
    return gather_report(
        model,
        images,
        select_targets(find_targets(model), TargetQuery()),
        name="s",
        preprocess=preprocess_from_metadata(model.metadata_props, image_input(model).shape),
        request=REQUEST,
        measure=Measure(labels=OwnLabels(images.labels()) if is_labelled else None),
        runtime=RUNTIME,
        file_bytes=MODEL.stat().st_size,
    )


@pytest.fixture(scope="module")
def data() -> ReportData:
    return gather()


def rows(paths: list[Path]) -> np.ndarray:
    model = modelio.load(MODEL)
    preprocess = preprocess_from_metadata(model.metadata_props, image_input(model).shape)
    return np.stack([to_tensor(load_image(path), preprocess) for path in paths])


def test_figures_are_those_of_the_studies(data: ReportData) -> None:
    model, images = modelio.load(MODEL), sources.image_folder(CROPS)
    targets = select_targets(find_targets(model), TargetQuery())
    expected = ablate(model, images, targets, measure=Measure(labels=OwnLabels(images.labels())), runtime=RUNTIME)
    assert data.ablation.gates == expected.gates
    assert data.ablation.labels == expected.labels
    assert data.summary == summarise(model, file_bytes=MODEL.stat().st_size)
    (latency,) = data.timing.latencies
    assert latency.batch_size == 1
    assert latency.p50 > 0


def test_examples_are_the_first_of_each_label_with_the_highest_ranking_tensors(data: ReportData) -> None:
    names = sorted(path.name for path in (CROPS / "not_pointing").glob("*.png"))[:3]
    names += sorted(path.name for path in (CROPS / "pointing").glob("*.png"))[:2]
    assert [example.place.path.name for example in data.examples] == names
    top = [impact.target for impact in data.ablation.gates[:3]]
    for example in data.examples:
        assert [heatmap.target for heatmap in example.maps.heatmaps] == top
        assert np.array_equal(example.picture, load_image(example.place.path))


def test_worst_errors_are_those_with_the_highest_loss(data: ReportData) -> None:
    paths = sorted(CROPS.rglob("*.png"))
    (scores,) = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"]).run(
        None, {"images": rows(paths)}
    )
    found = []
    for path, score in zip(paths, np.reshape(scores, -1).astype(np.float64), strict=True):
        is_pointing = path.parent.name == "pointing"
        loss = -np.log(score if is_pointing else 1 - score)
        found.append(((score >= 0.5) != is_pointing, loss, path))
    found.sort(reverse=True)
    assert [mistake.place.path for mistake in data.mistakes] == [path for _, _, path in found[:4]]
    for mistake, (wrong, loss, path) in zip(data.mistakes, found, strict=False):
        assert mistake.place.is_wrong == wrong
        assert mistake.place.loss == pytest.approx(loss, rel=1e-3)
        right = path.parent.name
        other = {"pointing": "not_pointing", "not_pointing": "pointing"}[right]
        assert (mistake.place.label, mistake.predicted) == (right, other if wrong else right)


def test_maps_of_nodes_are_means_over_channels(data: ReportData) -> None:
    from pgc_graph.passes.taps import add_taps

    tensors = [node.tensor for node in data.graph.nodes if node.shape is not None and len(node.shape) == 4]
    tapped = add_taps(modelio.load(MODEL), tensors).model
    session = onnxruntime.InferenceSession(modelio.to_bytes(tapped), providers=["CPUExecutionProvider"])
    assert [maps.place.label for maps in data.node_maps] == ["not_pointing", "pointing"]
    for maps in data.node_maps:
        activations = session.run(tensors, {"images": rows([maps.place.path])})
        spatial = {t: a[0].mean(axis=0) for t, a in zip(tensors, activations, strict=True) if a[0, 0].size > 1}
        assert set(maps.maps) == set(spatial)
        for tensor, values in spatial.items():
            np.testing.assert_allclose(maps.maps[tensor].values, values, atol=1e-4)


def test_without_labels_there_are_no_errors_to_show() -> None:
    data = gather(is_labelled=False)
    assert data.mistakes == ()
    assert [example.place.label for example in data.examples] == [""] * 5
    assert len(data.node_maps) == 1


@pytest.mark.parametrize("field", ["examples", "tensors", "seconds"])
def test_a_report_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(OptionError, match="says nothing"):
        ReportRequest(**{field: 0})
