"""Which images a report shows: a few with each label, and those that the model gets most wrong."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.targets import Target
from pgc_graph.images import ImageBatch, Preprocess
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.sources import ImageSource
from pgc_graph.sources.source import to_picture, to_row
from pgc_graph.studies.ablation.measure import Yardstick
from pgc_graph.studies.ablation.scores import Scores
from pgc_graph.studies.heatmap import HeatmapResult, activation_maps

__all__ = ["Chooser", "Example", "Mistake", "Place", "draw_from", "show_mistakes"]

_MOST_LABELS = 12


@dataclass(frozen=True)
class Place:
    """An image that was scored.

    Attributes:
        position: Where it stands in its source.
        path: Its file, or what stands for it.
        label: What it is labelled as, or an empty text.
        score: What the ablation scored.
        loss: Minus the natural logarithm of the true class's probability; NaN where that is unknown.
        predicted: The class found, as an index; -1 where unknown.
        is_wrong: Whether that is not what the label says.
    """

    position: int
    path: Path
    label: str
    score: float
    loss: float = float("nan")
    predicted: int = -1
    is_wrong: bool = False


@dataclass(frozen=True, eq=False)
class Example:
    """An image, its row of the model's input's maps, and what it is.

    Attributes:
        place: Which image.
        picture: `(H, W, 3)` uint8 RGB.
        maps: Of the tensors that are shown.
    """

    place: Place
    picture: NDArray[np.uint8]
    maps: HeatmapResult


@dataclass(frozen=True, eq=False)
class Mistake:
    """An image that the model finds hard.

    Attributes:
        place: Which image.
        predicted: The class found, by name where it has one.
        picture: `(H, W, 3)` uint8 RGB.
    """

    place: Place
    predicted: str
    picture: NDArray[np.uint8]


class Chooser:
    """Watches an ablation and remembers which images are worth showing; its memory does not grow with their number."""

    def __init__(self, rule: Yardstick, *, examples: int, mistakes: int) -> None:
        self._rule = rule
        self._examples = examples
        self._mistakes = mistakes
        self._first: defaultdict[str, list[Place]] = defaultdict(list)
        self._worst: list[tuple[tuple[bool, float, int], Place]] = []

    def batch(self, batch: ImageBatch, scores: Scores) -> None:
        """Look at a batch; as `on_batch` of `ablate`."""
        labels = self._rule.labels(batch.paths, batch.labels) or [""] * len(batch.paths)
        truth = self._rule.truth_of(labels)
        positions = range(len(batch.paths)) if batch.positions is None else batch.positions.tolist()
        for row, (position, path, label) in enumerate(zip(positions, batch.paths, labels, strict=True)):
            place = Place(position, path, label, float(scores.baseline[row]))
            if truth is not None and scores.loss is not None and scores.predicted is not None and truth[row] >= 0:
                loss, predicted = float(scores.loss[row]), int(scores.predicted[row])
                place = Place(position, path, label, place.score, loss, predicted, bool(predicted != truth[row]))
                self._remember(place)
            if len(self._first[label]) < self._examples and (label in self._first or len(self._first) < _MOST_LABELS):
                self._first[label].append(place)

    def _remember(self, place: Place) -> None:
        if not self._mistakes:
            return
        # What is wrong comes before what is merely hard; a loss that is no number counts as the largest.
        key = place.is_wrong, place.loss if np.isfinite(place.loss) else np.inf, -place.position
        push = heapq.heappush if len(self._worst) < self._mistakes else heapq.heappushpop
        push(self._worst, (key, place))

    def examples(self) -> tuple[Place, ...]:
        """Return the first images with each label, at most as many as were asked for, one label after the other."""
        labels = sorted(self._first)
        share, more = divmod(self._examples, max(1, len(labels)))
        counts = [share + (rank < more) for rank in range(len(labels))]
        return tuple(place for label, count in zip(labels, counts, strict=True) for place in self._first[label][:count])

    def mistakes(self) -> tuple[Place, ...]:
        """Return the images that the model gets most wrong, the worst first."""
        return tuple(place for _, place in sorted(self._worst, key=lambda item: item[0], reverse=True))


def draw_from(
    model: ir.Model,
    source: ImageSource,
    places: Sequence[Place],
    targets: Sequence[Target],
    preprocess: Preprocess,
    runtime: RuntimeOptions,
) -> tuple[Example, ...]:
    """Decode some images and map what some tensors see in them.

    Raises:
        PgcGraphError: As for `activation_maps`; an image can no longer be read.
    """
    found = []
    for place in places:
        (entry,) = source.read([place.position])
        pixels = entry.load()
        maps = activation_maps(model, to_row(pixels, preprocess), targets, runtime=runtime)
        found.append(Example(place, to_picture(pixels, preprocess), maps))
    return tuple(found)


def show_mistakes(
    source: ImageSource, places: Sequence[Place], names: Sequence[str], preprocess: Preprocess
) -> tuple[Mistake, ...]:
    """Decode the images that the model gets most wrong.

    Args:
        source: Where they are.
        places: Which they are.
        names: The model's classes, or nothing.
        preprocess: How images become input.

    Raises:
        ImageError: One can no longer be read.
    """
    found = []
    for place in places:
        (entry,) = source.read([place.position])
        is_named = 0 <= place.predicted < len(names)
        name = names[place.predicted] if is_named else str(place.predicted) if place.predicted >= 0 else "no number"
        found.append(Mistake(place, name, to_picture(entry.load(), preprocess)))
    return tuple(found)
