"""The graph as an SVG drawing: blocks from left to right, the nodes of a block from top to bottom."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pgc_graph.analysis.blocks import Block, BlockNode, GraphBlocks
from pgc_graph.render.report.layout import Layout, Point, arrange

__all__ = ["MOST_DRAWN", "draw_graph", "family", "shape_text"]

MOST_DRAWN = 1500
"""Nodes that a drawing shows; of larger graphs, only the blocks."""

_NODE = (172.0, 30.0)
_PADDING = 14.0
_TITLE = 26.0
_DOT = 8.0
_FAMILIES = {
    "weights": ("Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "QLinearConv", "QLinearMatMul", "Einsum"),
    "activation": (
        *("Sigmoid", "Relu", "HardSigmoid", "HardSwish", "Gelu", "Softmax", "Tanh", "Elu", "LeakyRelu", "Clip", "Erf"),
        *("PRelu", "Swish", "Softplus", "LogSoftmax"),
    ),
    "norm": ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN"),
    "pool": (
        *("GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceMean", "ReduceMax", "ReduceSum"),
        *("ReduceMin", "ArgMax", "TopK"),
    ),
    "elementwise": ("Add", "Mul", "Sub", "Div", "Pow", "Sqrt", "Neg", "Min", "Max", "Sum", "Mean"),
}


@dataclass(frozen=True)
class _Box:
    """A block: where its entries and then its nodes are, the edges between them, and its size.

    An entry is a dot on top of a block for what its nodes read from another one.
    """

    entries: tuple[int, ...]
    inner: Layout
    edges: tuple[tuple[int, int], ...]
    size: Point


def family(op_type: str) -> str:
    """Return the kind of operator by which nodes are coloured."""
    return next((name for name, operators in _FAMILIES.items() if op_type in operators), "other")


def shape_text(shape: Sequence[str] | None, *, without_batch: bool = False) -> str:
    """Return a shape as `64×32×32`, without its first dimension where that is a batch."""
    if shape is None:
        return "unknown shape"
    dims = shape[1:] if without_batch and len(shape) > 1 else shape
    return "×".join(dims) or "scalar"


def draw_graph(graph: GraphBlocks, ranks: Mapping[str, int]) -> str:
    """Draw a graph as an `<svg>` element whose nodes are buttons with ids `node-0`, `node-1` ... in graph order.

    Args:
        graph: The graph.
        ranks: The ranks of ablated tensors by name, which are written beside their nodes.
    """
    is_detailed = len(graph.nodes) <= MOST_DRAWN
    owner = {node: index for index, block in enumerate(graph.blocks) for node in block.nodes}
    boxes = [_box(graph, block.nodes, is_detailed) for block in graph.blocks]
    pairs = sorted({(owner[entry], index) for index, box in enumerate(boxes) for entry in box.entries})
    # Layers run from top to bottom: to run from left to right, width and height change places, here and back again.
    flipped = arrange([box.size[::-1] for box in boxes], pairs, gap=(28.0, 64.0))
    corners = [_shifted((y, x), _PADDING, _PADDING) for x, y in flipped.corners]
    lanes = {
        pair: [_shifted((y, x), _PADDING, _PADDING) for x, y in bends]
        for pair, bends in zip(pairs, flipped.bends, strict=True)
    }
    width, height = flipped.size[1] + 2 * _PADDING, flipped.size[0] + 2 * _PADDING
    places: dict[int, Point] = {}
    for block, box, corner in zip(graph.blocks, boxes, corners, strict=True):
        inside = box.inner.corners[len(box.entries) :]
        places |= {
            i: _shifted(corner, _PADDING + x, _TITLE + y) for i, (x, y) in zip(block.nodes, inside, strict=False)
        }
    parts = [_draw_block(i, graph.blocks[i], corners[i], box) for i, box in enumerate(boxes)]
    for index, box in enumerate(boxes):
        for dot, entry in enumerate(box.entries):
            source = owner[entry]
            start = _shifted(corners[source], boxes[source].size[0], boxes[source].size[1] / 2)
            end = _shifted(corners[index], 0, box.size[1] / 2)
            if is_detailed:
                x, y = box.inner.corners[dot]
                start, end = (
                    (start[0], places[entry][1] + _NODE[1] / 2),
                    (end[0], corners[index][1] + _TITLE + y + _DOT / 2),
                )
                parts.append(_line((places[entry][0] + _NODE[0], start[1]), start))
                parts.append(_line(end, (end[0] + _PADDING + x, end[1])))
            parts.append(_curve([start, *lanes[source, index], end], is_vertical=False))
    parts += [_draw_node(i, graph.nodes[i], place, ranks) for i, place in sorted(places.items())]
    label = f"Graph of {len(graph.nodes)} nodes in {len(graph.blocks)} blocks, from left to right"
    return (
        f'<svg id="graph-svg" role="group" aria-label="{label}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'data-width="{width:.0f}" data-height="{height:.0f}">{"".join(parts)}</svg>'
    )


def _box(graph: GraphBlocks, members: Sequence[int], is_detailed: bool) -> _Box:
    first = members[0]
    entries = tuple(sorted({s for i in members for s in graph.nodes[i].sources if s < first}))
    if not is_detailed:
        return _Box(entries, Layout((), (), (0, 0)), (), (_NODE[0] + 2 * _PADDING, _TITLE + _PADDING))
    place = {node: index for index, node in enumerate((*entries, *members))}
    edges = tuple((place[s], place[i]) for i in members for s in graph.nodes[i].sources)
    inner = arrange([(_DOT, _DOT)] * len(entries) + [_NODE] * len(members), edges, gap=(14.0, 16.0))
    return _Box(entries, inner, edges, (inner.size[0] + 2 * _PADDING, inner.size[1] + _TITLE + _PADDING))


def _draw_block(index: int, block: Block, corner: Point, box: _Box) -> str:
    (x, y), (width, height) = corner, box.size
    most = int(0.125 * width)
    shown = block.name if len(block.name) <= most else "…" + block.name[1 - most :]
    title = f"{block.name or 'no common name'}: {len(block.nodes)} nodes"
    parts = [
        f'<g class="block" id="block-{index}"><title>{escape(title)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="10"/>'
        f'<text class="block-name" x="{x + _PADDING:.1f}" y="{y + 17:.1f}">{escape(shown)}</text>'
    ]
    places = [_shifted(corner, _PADDING + px, _TITLE + py) for px, py in box.inner.corners]
    sizes = [(_DOT, _DOT) if item < len(box.entries) else _NODE for item in range(len(places))]
    for (source, target), bends in zip(box.edges, box.inner.bends, strict=True):
        start = _shifted(places[source], sizes[source][0] / 2, sizes[source][1])
        lane = [_shifted(corner, _PADDING + px, _TITLE + py) for px, py in bends]
        parts.append(_curve([start, *lane, _shifted(places[target], sizes[target][0] / 2, 0)], is_vertical=True))
    for px, py in places[: len(box.entries)]:
        parts.append(f'<circle class="entry" cx="{px + _DOT / 2:.1f}" cy="{py + _DOT / 2:.1f}" r="{_DOT / 2:.0f}"/>')
    return "".join([*parts, "</g>"])


def _shifted(point: Point, right: float, down: float) -> Point:
    return point[0] + right, point[1] + down


def _line(start: Point, end: Point) -> str:
    return f'<path class="edge between" d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"/>'


def _curve(points: Sequence[Point], *, is_vertical: bool) -> str:
    text = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if is_vertical:
            middle = (y0 + y1) / 2
            text += f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
        else:
            middle = (x0 + x1) / 2
            text += f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return f'<path class="edge{"" if is_vertical else " between"}" d="{text}"/>'


def _draw_node(index: int, node: BlockNode, place: Point, ranks: Mapping[str, int]) -> str:
    x, y = place
    rank = ranks.get(node.tensor)
    shape = shape_text(node.shape, without_batch=True)
    label = f"{node.op_type} {node.name}, {shape}" + ("" if rank is None else f", rank {rank} by ablation")
    badge = ""
    if rank is not None:
        badge = (
            f'<rect class="badge" x="{x + _NODE[0] - 33:.1f}" y="{y + 6:.1f}" width="27" height="18" rx="9"/>'
            f'<text class="rank" x="{x + _NODE[0] - 19.5:.1f}" y="{y + 19:.1f}" text-anchor="middle">{rank}</text>'
        )
    short = node.op_type if len(node.op_type) <= 13 else node.op_type[:12] + "…"
    detail = shape if len(short) + len(shape) <= (24 if rank is None else 19) else ""
    return (
        f'<g class="node {family(node.op_type)}" id="node-{index}" role="button" tabindex="{-1 if index else 0}" '
        f'aria-label="{escape(label)}" data-node="{index}">'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{_NODE[0]:.0f}" height="{_NODE[1]:.0f}" rx="6"/>'
        f'<text x="{x + 9:.1f}" y="{y + 19.5:.1f}">{escape(short)}'
        f'<tspan class="shape" dx="6">{escape(detail)}</tspan></text>{badge}</g>'
    )
