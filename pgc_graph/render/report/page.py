"""Put the sections of a report into one self-contained page and write it."""

from __future__ import annotations

import base64
import json
import re
from html import escape
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pgc_graph.analysis.blocks import BlockNode
from pgc_graph.errors import OptionError
from pgc_graph.files import write_text
from pgc_graph.render.colormap import lookup_table
from pgc_graph.render.report.pictures import pack_maps
from pgc_graph.render.report.sections import (
    ablation_section,
    card_section,
    errors_section,
    examples_section,
    graph_section,
)
from pgc_graph.results import to_data
from pgc_graph.studies.report import NodeMaps, ReportData

__all__ = ["check_report_path", "render_report", "save_report"]


def check_report_path(path: Path) -> None:
    """Find out before the work that a report cannot be called that.

    Raises:
        OptionError: The name does not end in `.html`.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"report file {path} is no HTML; choose a name that ends in .html")


def save_report(data: ReportData, path: Path) -> int:
    """Write a report as one HTML file, all or nothing, and return its size in bytes.

    Raises:
        OptionError: The file cannot be written or does not end in `.html`.
    """
    check_report_path(path)
    page = render_report(data)
    write_text(path, page)
    return len(page.encode("utf-8"))


def render_report(data: ReportData) -> str:
    """Return a report as the text of one HTML page, which refers to nothing outside itself; same data, same text."""
    sections = {
        "card": card_section(data),
        "ablation": ablation_section(data),
        "heatmaps": examples_section(data),
        "errors": errors_section(data),
        "graph": graph_section(data),
    }
    titles = {
        "card": "Model card",
        "ablation": "Ablation",
        "heatmaps": "Heatmaps",
        "errors": "Errors",
        "graph": "Graph",
    }
    links = "".join(f'<a href="#{name}">{titles[name]}</a>' for name, body in sections.items() if body)
    # In a script element, nothing but `</` and `<!--` would be read as markup.
    script_data = json.dumps(_page_data(data), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    values = {
        "title": escape(f"pgc-graph report: {data.name}"),
        "name": escape(data.name),
        "version": escape(version("pgc-graph")),
        "links": links,
        "sections": "\n".join(body for body in sections.values() if body),
        "style": _asset("report.css"),
        "data": script_data,
        "script": _asset("report.js"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _asset("report.html"))


def _asset(name: str) -> str:
    return resources.files("pgc_graph.render.report").joinpath("assets", name).read_text(encoding="utf-8")


def _page_data(data: ReportData) -> dict[str, Any]:
    """Return what the page shows only when it is asked: details of nodes."""
    impacts = {
        impact.target.tensor: {
            "rank": impact.rank,
            "delta": to_data(impact.delta.mean),
            "interval": to_data(impact.delta.interval),
        }
        for impact in data.ablation.gates
    }
    owner = {node: block.name for block in data.graph.blocks for node in block.nodes}
    return {
        "name": data.name,
        "colours": base64.b64encode(lookup_table("turbo").tobytes()).decode("ascii"),
        "nodes": [_node(node, owner[index], impacts) for index, node in enumerate(data.graph.nodes)],
        "maps": [_maps(item) for item in data.node_maps],
    }


def _node(node: BlockNode, block: str, impacts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": node.name,
        "op": node.op_type,
        "tensor": node.tensor,
        "block": block,
        "shape": None if node.shape is None else list(node.shape),
        "dtype": node.dtype,
        "weights": to_data(node.weights),
        "impact": impacts.get(node.tensor),
    }


def _maps(item: NodeMaps) -> dict[str, Any]:
    packed = pack_maps(list(item.maps.values()))
    label = f"{item.place.label}: {item.place.path.name}" if item.place.label else item.place.path.name
    return {"label": label, "maps": dict(zip(item.maps, packed, strict=True))}
