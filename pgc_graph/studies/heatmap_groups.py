"""Maps of many images and of two models, put together: means by label, differences, pairs, one scale for several maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.studies.heatmap import Heatmap, HeatmapResult

__all__ = ["MapMeans", "difference", "matching_targets", "paired", "scaled"]


@dataclass(eq=False)
class MapMeans:
    """The running means of the maps, scores and pictures of some images, in float64; no image is kept.

    Attributes:
        count: How many images were added.
    """

    count: int = 0
    _first: HeatmapResult | None = None
    _sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _picture: NDArray[np.float64] | None = None
    _scores: Any = 0.0

    def add(self, result: HeatmapResult, picture: NDArray[np.uint8]) -> None:
        """Add an image: its maps, and `(H, W, 3)` uint8, all pictures of one size.

        Raises:
            UnsupportedError: A map has another shape than that of the images before.
        """
        self._first = self._first or result
        for heatmap in result.heatmaps:
            name, values = heatmap.target.tensor, heatmap.values.astype(np.float64)
            held = self._sums.get(name)
            if held is not None and held.shape != values.shape:
                found, expected = ("x".join(map(str, shape)) for shape in (values.shape, held.shape))
                raise UnsupportedError(f"the map of {name!r} is {found} here and was {expected}; it has no mean")
            self._sums[name] = values if held is None else held + values
        shown = picture.astype(np.float64)
        self._picture = shown if self._picture is None else self._picture + shown
        self._scores = self._scores + result.scores.astype(np.float64)
        self.count += 1

    def result(self) -> HeatmapResult:
        """Return the mean maps and scores.

        Raises:
            SelectionError: No image was added.
        """
        if self._first is None:
            raise SelectionError("no image has this label; expected at least one to take the mean of")
        means = tuple(
            dataclasses.replace(
                heatmap, values=(self._sums[heatmap.target.tensor] / self.count).astype(np.float32)
            ).with_limits(None)
            for heatmap in self._first.heatmaps
        )
        scores = np.asarray(self._scores / self.count, np.float32)
        return dataclasses.replace(self._first, heatmaps=means, scores=scores)

    def picture(self) -> NDArray[np.uint8]:
        """Return the mean picture.

        Raises:
            SelectionError: No image was added.
        """
        if self._picture is None:
            raise SelectionError("no image has this label; expected at least one to take the mean of")
        return np.asarray(np.rint(self._picture / self.count), np.uint8)


def difference(first: HeatmapResult, second: HeatmapResult) -> HeatmapResult:
    """Return maps of the first minus the second, each coloured from minus to plus its largest magnitude.

    The scores are the first's minus the second's; the middle of the colours stands for no difference.
    """
    others = {heatmap.target.tensor: heatmap for heatmap in second.heatmaps}
    heatmaps = []
    for heatmap in first.heatmaps:
        values = heatmap.values - others[heatmap.target.tensor].values
        most = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        heatmaps.append(dataclasses.replace(heatmap, values=values).with_limits((-most, most)))
    return dataclasses.replace(first, heatmaps=tuple(heatmaps), scores=first.scores - second.scores)


def matching_targets(targets: Sequence[Target], others: Sequence[Target]) -> tuple[Target, ...]:
    """Return, for each target, another model's tensor of the same name, or of a node of the same name.

    Raises:
        SelectionError: The other model has neither.
    """
    by_tensor = {target.tensor: target for target in others}
    by_node = {target.node: target for target in others}
    found = []
    for target in targets:
        match = by_tensor.get(target.tensor) or by_node.get(target.node)
        if match is None:
            raise SelectionError(
                f"the other model has neither tensor {target.tensor!r} nor node {target.node!r}; choose tensors that both "
                "models have"
            )
        found.append(match)
    return tuple(found)


def paired(first: HeatmapResult, second: HeatmapResult, names: tuple[str, str]) -> HeatmapResult:
    """Return the maps of two models in turns: the first's of a tensor, then the second's, each node marked by its model."""
    others = {heatmap.target.tensor: heatmap for heatmap in second.heatmaps}
    nodes = {heatmap.target.node: heatmap for heatmap in second.heatmaps}
    heatmaps: list[Heatmap] = []
    for one in first.heatmaps:
        other = others.get(one.target.tensor) or nodes.get(one.target.node)
        for name, heatmap in ((names[0], one), (names[1], other)):
            if heatmap is not None:
                target = dataclasses.replace(heatmap.target, node=f"{heatmap.target.node}  {name}")
                heatmaps.append(dataclasses.replace(heatmap, target=target))
    return dataclasses.replace(first, heatmaps=tuple(heatmaps))


def scaled(result: HeatmapResult, scale: str | tuple[float, float]) -> HeatmapResult:
    """Colour maps by a scale.

    Args:
        result: The maps; those of a difference have one scale about 0 that `shared` widens to the largest.
        scale: `each` (its own lowest to its own highest value), `shared` (over all maps), or the two values.

    Raises:
        OptionError: The two values are not finite or not in order, or the word is unknown.
    """
    if scale == "each":
        return result
    if isinstance(scale, str):
        if scale != "shared":
            raise OptionError(f"unknown scale {scale!r}; expected each, shared or LOW,HIGH")
        ends = [heatmap.limits or _range(heatmap.values) for heatmap in result.heatmaps]
        scale = min(low for low, _ in ends), max(high for _, high in ends)
    elif not (np.isfinite(scale).all() and scale[0] < scale[1]):
        raise OptionError(f"a scale from {scale[0]:g} to {scale[1]:g} shows nothing; expected LOW below HIGH")
    return dataclasses.replace(result, heatmaps=tuple(heatmap.with_limits(scale) for heatmap in result.heatmaps))


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
