"""The sections of a report, each as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from pgc_graph.render.colormap import lookup_table
from pgc_graph.render.report.drawing import MOST_DRAWN, draw_graph
from pgc_graph.render.report.pictures import image_uri, overlay_uri, strongest_place
from pgc_graph.render.report.plot import MOST_LABELS, impact_plot, short_names
from pgc_graph.render.report.tables import Cell, Column, broken, mean, number, sortable_table, text
from pgc_graph.studies.report import ReportData
from pgc_graph.studies.report_images import Example, Mistake

__all__ = ["ablation_section", "card_section", "errors_section", "examples_section", "graph_section"]


def card_section(data: ReportData) -> str:
    """Return the model card: what the model is and what it takes."""
    summary, macs = data.summary, data.summary.macs
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in summary.opset_imports.items())
    size = "not from a file" if summary.file_bytes is None else _size(summary.file_bytes + summary.external_bytes)
    uncounted = f", without {len(macs.uncounted)} nodes that cannot be counted" if macs.uncounted else ""
    (latency,) = data.timing.latencies
    rows = [
        ("size", size),
        ("opset", opsets),
        ("parameters", f"{summary.parameters.weights:,}"),
        ("MACs", f"{macs.total:,} an image{uncounted}"),
        (
            "latency",
            f"{latency.p50:.3f} ms median, {latency.p90:.3f} ms at 90 % · batch {latency.batch_size}, "
            f"{latency.threads or 'all'} threads of {data.timing.cores} cores, {data.timing.provider}, "
            f"onnxruntime {data.timing.onnxruntime}, {latency.runs:,} runs",
        ),
        ("nodes", f"{summary.nodes:,}: {_few(summary.operators)}"),
        ("inputs", "; ".join(_tensor(info.name, info.dtype, info.shape) for info in summary.inputs)),
        ("outputs", "; ".join(_tensor(info.name, info.dtype, info.shape) for info in summary.outputs)),
        ("producer", summary.producer or "not stated"),
        *sorted((key, " ".join(value.split())) for key, value in summary.metadata.items()),
    ]
    items = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in rows)
    return _section("card", "Model card", f'<dl class="card">{items}</dl>')


def ablation_section(data: ReportData) -> str:
    """Return the ranking of the ablation as a chart and as a table."""
    result = data.ablation
    has_logit = any(impact.logit_delta is not None for impact in result.gates)
    labels = [label.label for label in result.labels[:MOST_LABELS]]
    columns = [Column("rank", True), Column("tensor"), Column("kind"), Column("mean Δ", True), Column("std Δ", True)]
    columns += [Column("mean Δ logit", True)] if has_logit else []
    columns += [Column(f"Δ {label}", True) for label in labels]
    columns += [Column("accuracy", True)] if result.quality is not None else []
    names = short_names([impact.target.node for impact in result.gates])
    rows: list[list[Cell]] = []
    for impact, name in zip(result.gates, names, strict=True):
        tensor = Cell(f'<span title="{escape(impact.target.tensor)}">{broken(name)}</span>', impact.target.tensor)
        row = [number(impact.rank, "{:d}"), tensor, text(impact.target.kind or impact.target.op_type)]
        row += [mean(impact.delta), number(impact.delta.std, "{:.4f}")]
        if has_logit:
            row.append(number(None if impact.logit_delta is None else impact.logit_delta.mean))
        row += [mean(item.delta) for item in impact.labels[:MOST_LABELS]]
        row += [number(impact.quality.accuracy, "{:.4f}")] if impact.quality is not None else []
        rows.append(row)
    quality = result.quality
    told = [
        f"Δ is the score ({escape(result.score_output)}) of the untouched model minus the score without the tensor: "
        f"positive where the tensor speaks for the class. Over {result.image_count:,} images, whose mean score is "
        f"{result.baseline.mean:.4f}; in brackets the 95 % interval of the mean.",
        "" if quality is None else f"Untouched accuracy {quality.accuracy:.4f}, F1 {quality.f1:.4f}.",
        f"{result.skipped_count:,} images could not be read." if result.skipped_count else "",
        f"Of {len(result.labels)} labels, the first {MOST_LABELS} are shown."
        if len(result.labels) > MOST_LABELS
        else "",
    ]
    figure = _figure("impact", impact_plot(result), "impact-svg", "What the score loses without each tensor")
    table = sortable_table("ablation", "Ablation ranking", columns, rows)
    return _section("ablation", "Ablation", f"<p>{' '.join(filter(None, told))}</p>{figure}{table}")


def examples_section(data: ReportData) -> str:
    """Return what the most important tensors see in a few images of each label."""
    names = dict(
        zip(
            (impact.target.tensor for impact in data.ablation.gates),
            short_names([impact.target.node for impact in data.ablation.gates]),
            strict=True,
        )
    )
    ranks = {impact.target.tensor: impact.rank for impact in data.ablation.gates}
    groups: dict[str, list[str]] = {}
    table = lookup_table("turbo")
    for index, example in enumerate(data.examples):
        groups.setdefault(example.place.label, []).append(_example(index, example, names, ranks, table=table))
    parts = [
        "<p>Each map is the mean over a tensor's channels, coloured from its own lowest to its own highest value, over the "
        'image. <span class="scale"><span aria-hidden="true"></span> low to high</span></p>'
    ]
    for label, figures in groups.items():
        heading = f"<h3>{escape(label)}</h3>" if label else ""
        parts.append(f'{heading}<div class="examples">{"".join(figures)}</div>')
    return _section("heatmaps", "Heatmaps", "".join(parts))


def errors_section(data: ReportData) -> str:
    """Return the worst errors as a table, or nothing where no label says what an error is."""
    if not data.mistakes:
        return ""
    columns = [Column("image"), Column("file"), Column("label"), Column("found"), Column("judged")]
    columns += [Column("score", True), Column("loss", True)]
    wrong = sum(mistake.place.is_wrong for mistake in data.mistakes)
    told = (
        "The images with the highest loss among those that are classified wrong"
        + (", then among the others." if wrong < len(data.mistakes) else ".")
        if wrong
        else "No image is classified wrong; these are the ones with the highest loss."
    )
    table = sortable_table("errors", "Worst errors", columns, [_mistake_row(item) for item in data.mistakes])
    return _section("errors", "Worst errors", f"<p>{told}</p>{table}")


def graph_section(data: ReportData) -> str:
    """Return the graph as a drawing, and the place where a node's details appear."""
    ranks = {impact.target.tensor: impact.rank for impact in data.ablation.gates}
    count = len(data.graph.nodes)
    told = (
        "Choose a node to see its shape, weights, histogram and heatmaps. A number in a circle is its rank by ablation."
        if count <= MOST_DRAWN
        else f"The graph has {count:,} nodes, more than can be drawn one by one: these are its blocks."
    )
    kinds = ("weights", "activation", "norm", "pool", "elementwise", "other")
    legend = "".join(f'<li class="{kind}">{kind}</li>' for kind in kinds)
    return _section(
        "graph",
        "Graph",
        f'<p>{told}</p><div class="tools" role="group" aria-label="Zoom">'
        '<button type="button" id="zoom-in" aria-label="Zoom in">+</button>'
        '<button type="button" id="zoom-out" aria-label="Zoom out">−</button>'
        '<button type="button" id="zoom-fit">Whole graph</button>'
        '<label for="find-node">Find</label><input type="search" id="find-node" placeholder="node or operator" '
        'autocomplete="off"><output id="found-nodes" for="find-node"></output>'
        '<button type="button" class="png" data-svg="graph-svg">PNG</button>'
        '<button type="button" id="nodes-csv">CSV</button></div>'
        f'<ul class="legend" aria-label="Colours">{legend}</ul>'
        '<div class="split"><div id="graph-view" class="view" role="region" aria-label="Drawing of the graph" tabindex="0">'
        f"{draw_graph(data.graph, ranks)}</div>"
        '<aside id="details" aria-live="polite" aria-label="Details of the chosen node">'
        '<p class="hint">No node is chosen. Click one, or move with the arrow keys and press Enter.</p></aside></div>',
    )


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}" aria-labelledby="heading-{name}"><h2 id="heading-{name}">{title}</h2>{body}</section>'


def _figure(name: str, body: str, svg: str, caption: str) -> str:
    return (
        f'<figure id="figure-{name}"><figcaption>{escape(caption)} '
        f'<button type="button" class="png" data-svg="{svg}">PNG</button>'
        '<button type="button" class="csv" data-table="table-ablation">CSV</button></figcaption>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">{body}</div></figure>'
    )


def _example(
    index: int, example: Example, names: Mapping[str, str], ranks: Mapping[str, int], *, table: NDArray[np.uint8]
) -> str:
    file = example.place.path.name
    tiles = [_tile(image_uri(example.picture), f"{file}, the image itself", "image", "")]
    for heatmap in example.maps.heatmaps:
        name, rank = names[heatmap.target.tensor], ranks[heatmap.target.tensor]
        uri = overlay_uri(example.picture, heatmap, table)
        tiles.append(
            _tile(uri, f"{name} on {file}: {strongest_place(heatmap)}", f"{rank}. {name}", str(heatmap.intensity))
        )
    return (
        f'<figure class="example" id="example-{index}" data-name="{escape(file)}"><figcaption>{escape(file)} · '
        f"{escape(example.maps.score_text)} "
        f'<button type="button" class="png-tiles" aria-label="PNG of {escape(file)}">PNG</button>'
        f'<button type="button" class="csv-tiles" aria-label="CSV of {escape(file)}">CSV</button></figcaption>'
        f'<div class="tiles">{"".join(tiles)}</div></figure>'
    )


def _tile(uri: str, alt: str, caption: str, value: str) -> str:
    return (
        f'<div class="tile" data-value="{escape(value)}"><img src="{uri}" alt="{escape(alt)}">'
        f"<span>{broken(caption)}</span></div>"
    )


def _mistake_row(mistake: Mistake) -> list[Cell]:
    place = mistake.place
    picture = f'<img src="{image_uri(mistake.picture)}" alt="{escape(place.path.name)}" class="thumb">'
    judged = "wrong" if place.is_wrong else "right"
    return [
        Cell(picture, str(place.path)),
        text(place.path.name),
        text(place.label),
        text(mistake.predicted),
        Cell(f'<span class="{judged}">{judged}</span>', judged),
        number(place.score, "{:.4f}"),
        number(place.loss, "{:.4f}"),
    ]


def _size(count: int) -> str:
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit} ({count:,} bytes)"
    return f"{count:,} bytes"


def _tensor(name: str, dtype: str, shape: Sequence[int | str | None] | None) -> str:
    dims = "unknown shape" if shape is None else "×".join("?" if dim is None else str(dim) for dim in shape)
    return f"{name} {dtype} {dims or 'scalar'}"


def _few(operators: Mapping[str, int]) -> str:
    items = list(operators.items())
    shown = ", ".join(f"{count} {name}" for name, count in items[:8])
    return shown + (f" and {len(items) - 8} more operators" if len(items) > 8 else "")
