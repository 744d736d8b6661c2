"""The layout of the report's drawing: nothing overlaps, edges run down, chains are straight."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pgc_graph.render.report.layout import arrange

GAP = (10.0, 20.0)
SLACK = 1e-6


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    count = draw(st.integers(1, 14))
    sizes = [(float(draw(st.integers(5, 60))), float(draw(st.integers(5, 60)))) for _ in range(count)]
    pairs = list(itertools.combinations(range(count), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []
    return sizes, edges


@given(graphs())
def test_boxes_do_not_overlap_and_edges_run_down(
    graph: tuple[list[tuple[float, float]], list[tuple[int, int]]],
) -> None:
    sizes, edges = graph
    layout = arrange(sizes, edges, gap=GAP)
    assert len(layout.corners) == len(sizes)
    for (x, y), (width, height) in zip(layout.corners, sizes, strict=True):
        assert -SLACK <= x <= layout.size[0] - width + SLACK
        assert -SLACK <= y <= layout.size[1] - height + SLACK
    for first, second in itertools.combinations(range(len(sizes)), 2):
        (ax, ay), (bx, by) = layout.corners[first], layout.corners[second]
        beside = ax + sizes[first][0] + GAP[0] <= bx + SLACK or bx + sizes[second][0] + GAP[0] <= ax + SLACK
        above = ay + sizes[first][1] <= by + SLACK or by + sizes[second][1] <= ay + SLACK
        assert beside or above
    for (source, target), bends in zip(edges, layout.bends, strict=True):
        heights = [layout.corners[source][1] + sizes[source][1], *(y for _, y in bends), layout.corners[target][1]]
        assert heights == sorted(heights)
        assert heights[0] < heights[-1]


def test_edges_pass_beside_the_boxes_of_the_layers_between() -> None:
    sizes = [(40.0, 10.0)] * 4
    layout = arrange(sizes, [(0, 1), (1, 2), (2, 3), (0, 3)], gap=GAP)
    for x, _ in layout.bends[3]:
        for corner in layout.corners[1:3]:
            assert not corner[0] <= x <= corner[0] + 40


def test_a_chain_is_straight() -> None:
    layout = arrange([(40.0, 10.0), (20.0, 10.0), (60.0, 10.0)], [(0, 1), (1, 2)], gap=GAP)
    centres = [corner[0] + width / 2 for corner, width in zip(layout.corners, (40, 20, 60), strict=True)]
    assert max(centres) - min(centres) < SLACK
    assert layout.size == (60.0, 70.0)


def test_nothing_needs_no_room() -> None:
    assert arrange([], [], gap=GAP).size == (0.0, 0.0)
