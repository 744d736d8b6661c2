"""The report's page without a browser: it parses, refers to nothing outside, is small, and shows the library's numbers."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from conftest import REPOSITORY
from pgc_graph import modelio, sources
from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.images import preprocess_from_metadata
from pgc_graph.render.report.page import render_report, save_report
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import Measure
from pgc_graph.studies.ablation.measure import OwnLabels
from pgc_graph.studies.report import ReportData, ReportRequest, gather_report

VOID = {"meta", "link", "img", "input", "br", "wbr"}
SHAPES = {"rect", "path", "line", "circle"}


class Page(HTMLParser):
    """Collects what the tests ask for, and refuses elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.unnamed: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.table = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag == "img" and not given.get("alt"):
            self.unnamed.append(str(given))
        if tag == "table":
            self.table = given["id"]
            self.rows[self.table] = []
        if tag == "tr":
            self.rows[self.table].append([])
        if tag == "td":
            self.rows[self.table][-1].append(given["data-value"])
        if tag not in VOID and not (tag in SHAPES and self.get_starttag_text().endswith("/>")):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def data() -> ReportData:
    path = REPOSITORY / "models" / "pgc_l_32x32.onnx"
    model, images = modelio.load(path), sources.image_folder(REPOSITORY / "models" / "crops")
    return gather_report(
        model,
        images,
        select_targets(find_targets(model), TargetQuery()),
        name=path.name,
        preprocess=preprocess_from_metadata(model.metadata_props, image_input(model).shape),
        request=ReportRequest(examples=12, seconds=0.05),
        measure=Measure(labels=OwnLabels(images.labels())),
        runtime=RuntimeOptions("cpu", 1),
        file_bytes=path.stat().st_size,
    )


def test_page_is_sound_small_and_alone(data: ReportData, tmp_path: Path) -> None:
    size = save_report(data, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert size == (tmp_path / "report.html").stat().st_size < 3_000_000
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert page.unnamed == []
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}", re.sub(r"base64,[^\"]*", "", text)) == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_tables_hold_the_librarys_numbers(data: ReportData) -> None:
    rows = Page(render_report(data)).rows
    assert len(rows["table-ablation"]) == 1 + len(data.ablation.gates)
    for row, impact in zip(rows["table-ablation"][1:], data.ablation.gates, strict=True):
        assert row[:2] == [str(impact.rank), impact.target.tensor]
        shown = [float(value) for value in row[3:]]
        assert impact.logit_delta is not None
        assert impact.quality is not None
        labels = [item.delta.mean for item in impact.labels]
        mean = impact.logit_delta.mean
        assert shown == [impact.delta.mean, impact.delta.std, mean, *labels, impact.quality.accuracy]
    losses = [float(row[-1]) for row in rows["table-errors"][1:]]
    assert losses == [mistake.place.loss for mistake in data.mistakes]


def test_details_hold_the_maps_and_weights(data: ReportData) -> None:
    (text,) = re.findall(r'id="report-data">(.*?)</script>', render_report(data), re.DOTALL)
    details = json.loads(text)
    assert [node["name"] for node in details["nodes"]] == [node.name for node in data.graph.nodes]
    assert details["nodes"][0]["weights"][0]["mean"] == data.graph.nodes[0].weights[0].mean
    for shown, known in zip(details["maps"], data.node_maps, strict=True):
        for tensor, heatmap in known.maps.items():
            packed = shown["maps"][tensor]
            values = np.frombuffer(base64.b64decode(packed["data"]), "<f4")
            assert np.array_equal(values.reshape(packed["height"], packed["width"]), heatmap.values)


def test_names_cannot_become_markup(data: ReportData) -> None:
    evil = "</script><script>alert(1)</script>\"'&{{data}}"
    labels = tuple(dataclasses.replace(label, label=evil) for label in data.ablation.labels)
    nodes = tuple(dataclasses.replace(node, name=evil) for node in data.graph.nodes)
    changed = dataclasses.replace(
        data,
        name=evil,
        ablation=dataclasses.replace(data.ablation, labels=labels),
        graph=dataclasses.replace(data.graph, nodes=nodes),
    )
    text = render_report(changed)
    Page(text)
    assert "<script>alert" not in text


def test_another_kind_of_file_is_refused(data: ReportData, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"ends in \.html"):
        save_report(data, tmp_path / "report.pdf")
