"""Place boxes in layers so that edges run one way and cross little.

The steps of Sugiyama, Tagawa and Toda (1981): layers by the longest path, a placeholder in every layer that an edge passes,
order by the barycentre of the neighbours, then coordinates near the neighbours' without overlap. The last step is a least
squares fit under an order, solved by pooling adjacent violators (Barlow et al. 1972).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Layout", "Point", "arrange"]

_SWEEPS = 8
_PLACEHOLDER = 12.0

Point = tuple[float, float]
"""x and y, or width and height."""
Neighbours = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Layout:
    """Where boxes are.

    Attributes:
        corners: The upper left corner of each box.
        bends: For each edge the points that it passes between its ends, from layer to layer.
        size: Width and height of the whole; every corner lies in it, and the first at 0 of each axis.
    """

    corners: tuple[Point, ...]
    bends: tuple[tuple[Point, ...], ...]
    size: Point


def arrange(sizes: Sequence[Point], edges: Sequence[tuple[int, int]], *, gap: Point) -> Layout:
    """Place boxes from top to bottom.

    Args:
        sizes: Width and height of each box.
        edges: From box to box; the first always stands before the second in `sizes`.
        gap: Room between neighbours in a layer, and between layers.
    """
    if not sizes:
        return Layout((), tuple(() for _ in edges), (0.0, 0.0))
    level = [0] * len(sizes)
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        level[target] = max(level[target], level[source] + 1)
    boxes = list(sizes)
    chains = [_chain(edge, level, boxes) for edge in edges]
    above: list[list[int]] = [[] for _ in boxes]
    below: list[list[int]] = [[] for _ in boxes]
    for first, second in {pair for chain in chains for pair in itertools.pairwise(chain)}:
        above[second].append(first)
        below[first].append(second)
    layers: list[list[int]] = [[] for _ in range(max(level) + 1)]
    for box, where in enumerate(level):
        layers[where].append(box)
    _order(layers, above, below)
    centre = _across(layers, boxes, (above, below), gap[0])
    tops = [0.0]
    for layer in layers[:-1]:
        tops.append(tops[-1] + max(boxes[box][1] for box in layer) + gap[1])
    left = min(centre[box] - boxes[box][0] / 2 for box in range(len(boxes)))
    right = max(centre[box] + boxes[box][0] / 2 for box in range(len(boxes)))
    height = tops[-1] + max(boxes[box][1] for box in layers[-1])
    corners = [(centre[box] - width / 2 - left, tops[level[box]]) for box, (width, _) in enumerate(boxes)]
    tallest = [max(boxes[box][1] for box in layer) for layer in layers]
    bends = []
    for chain in chains:
        points: list[Point] = []
        for box in chain[1:-1]:
            points += [
                (centre[box] - left, tops[level[box]]),
                (centre[box] - left, tops[level[box]] + tallest[level[box]]),
            ]
        bends.append(tuple(points))
    return Layout(tuple(corners[: len(sizes)]), tuple(bends), (right - left, height))


def _chain(edge: tuple[int, int], level: list[int], boxes: list[Point]) -> tuple[int, ...]:
    """Return an edge as a path with a placeholder in every layer between its ends."""
    source, target = edge
    between = []
    for where in range(level[source] + 1, level[target]):
        between.append(len(boxes))
        boxes.append((_PLACEHOLDER, 0.0))
        level.append(where)
    return source, *between, target


def _order(layers: list[list[int]], above: Neighbours, below: Neighbours) -> None:
    place = {box: float(index) for layer in layers for index, box in enumerate(layer)}
    for sweep in range(_SWEEPS):
        neighbours, sequence = (above, layers) if sweep % 2 == 0 else (below, layers[::-1])
        for layer in sequence:
            layer.sort(key=_barycentre(neighbours, place))
            place.update({box: float(index) for index, box in enumerate(layer)})


def _barycentre(neighbours: Neighbours, place: dict[int, float]) -> Callable[[int], float]:
    def key(box: int) -> float:
        near = neighbours[box]
        return sum(place[other] for other in near) / len(near) if near else place[box]

    return key


def _across(
    layers: Sequence[Sequence[int]], boxes: Sequence[Point], sides: tuple[Neighbours, Neighbours], gap: float
) -> list[float]:
    """Return the centre of each box across the layers."""
    centre = [0.0] * len(boxes)
    for layer in layers:
        offsets = _offsets(layer, boxes, gap)
        for box, offset in zip(layer, offsets, strict=True):
            centre[box] = offset - offsets[-1] / 2
    for sweep in range(_SWEEPS):
        neighbours, sequence = (sides[0], layers) if sweep % 2 == 0 else (sides[1], layers[::-1])
        for layer in sequence:
            wanted = [_wanted(box, neighbours[box], boxes, centre) for box in layer]
            weights = [_weight(boxes[box]) for box in layer]
            offsets = _offsets(layer, boxes, gap)
            shifts = _non_decreasing([w - o for w, o in zip(wanted, offsets, strict=True)], weights)
            for box, shift, offset in zip(layer, shifts, offsets, strict=True):
                centre[box] = shift + offset
    return centre


def _weight(box: Point) -> float:
    # Placeholders give way to boxes: it is the boxes that should stand in line.
    return 1.0 if box[1] else 0.02


def _wanted(box: int, near: Sequence[int], boxes: Sequence[Point], centre: Sequence[float]) -> float:
    """Return where a box would stand if there were no others in its layer."""
    total = sum(_weight(boxes[other]) for other in near)
    return sum(_weight(boxes[other]) * centre[other] for other in near) / total if near else centre[box]


def _offsets(layer: Sequence[int], boxes: Sequence[Point], gap: float) -> list[float]:
    """Return the least distance of each box of a layer from the first one, centre to centre."""
    steps = ((boxes[first][0] + boxes[second][0]) / 2 + gap for first, second in itertools.pairwise(layer))
    return list(itertools.accumulate(steps, initial=0.0))


def _non_decreasing(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the non-decreasing numbers that are nearest to some values by weighted least squares."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, mass, count = pools.pop()
            total = mass + pool[1]
            pool = ((mean * mass + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]
