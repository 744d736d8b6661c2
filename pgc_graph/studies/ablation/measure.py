"""What an ablation is measured by: which class is scored, what images are labelled as, and what ranks the tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.errors import OptionError
from pgc_graph.studies.ablation.classes import TargetClass, class_index, class_names, read_target
from pgc_graph.studies.ablation.rank import RANKINGS
from pgc_graph.studies.ablation.scores import Wanted

__all__ = ["Measure", "OwnLabels", "Yardstick", "yardstick"]


@dataclass(frozen=True)
class OwnLabels:
    """The labels that come with the images, from wherever they are read.

    Attributes:
        names: Those that occur, from `ImageSource.labels`.
    """

    names: tuple[str, ...]


@dataclass(frozen=True)
class Measure:
    """What an ablation is measured by.

    Attributes:
        target: The class that is scored: `argmax` (the one found without gates, image by image), a name or an index.
        labels: What images are labelled as, or that they bring their own labels; None where they are not labelled.
            Images that a mapping lacks have no label.
        rank_by: One of `RANKINGS`.
    """

    target: str = "argmax"
    labels: Mapping[Path, str] | OwnLabels | None = None
    rank_by: str = "delta"


@dataclass(frozen=True)
class Yardstick:
    """A measure that fits a model.

    Attributes:
        measure: The measure.
        target: The class that is scored.
        names: The model's classes.
        is_judged: Whether a label is a class of the model.
    """

    measure: Measure
    target: TargetClass
    names: tuple[str, ...]
    is_judged: bool

    def labels(self, paths: Sequence[Path], own: Sequence[str] = ()) -> list[str] | None:
        """Return what some images are labelled as, an empty text for those without a label.

        Args:
            paths: Their files.
            own: The labels that they bring along, none if they bring none.
        """
        labels = self.measure.labels
        if labels is None:
            return None
        if isinstance(labels, OwnLabels):
            return list(own) or [""] * len(paths)
        return [labels.get(path, "") for path in paths]

    def truth(self, paths: Sequence[Path], own: Sequence[str] = ()) -> NDArray[np.int64] | None:
        """Return the class of each of some images, -1 where it is unknown; None where it is for all images."""
        return self.truth_of(self.labels(paths, own))

    def truth_of(self, labels: Sequence[str] | None) -> NDArray[np.int64] | None:
        """Return the class that each of some labels names, -1 for none; None where no image is labelled with a class."""
        if labels is None or not self.is_judged:
            return None
        indices = [class_index(label, self.names) for label in labels]
        return np.array([-1 if index is None else index for index in indices], np.int64)

    def wanted(self, paths: Sequence[Path], own: Sequence[str] = ()) -> Wanted:
        """Return what is wanted of a batch of images."""
        return Wanted(self.target, self.truth(paths, own))


def yardstick(model: ir.Model, measure: Measure, *, has_logit: bool) -> Yardstick:
    """Fit a measure to a model.

    Args:
        model: The classifier.
        measure: What it is measured by.
        has_logit: Whether a Sigmoid or Softmax makes the score.

    Raises:
        OptionError: There is no such class or ranking, or what it is to be ranked by cannot be had.
    """
    names = class_names(model)
    labels = measure.labels.names if isinstance(measure.labels, OwnLabels) else set((measure.labels or {}).values())
    judged = any(class_index(label, names) is not None for label in labels)
    if measure.rank_by not in RANKINGS:
        raise OptionError(f"cannot rank by {measure.rank_by!r}; expected {', '.join(RANKINGS)}")
    if measure.rank_by == "logit" and not has_logit:
        raise OptionError("cannot rank by logit: no Sigmoid or Softmax makes the score; rank by delta")
    if measure.rank_by in ("loss", "accuracy", "f1") and not judged:
        known = f" ({', '.join(names)})" if names else ", which its metadata do not name: give indices"
        raise OptionError(
            f"cannot rank by {measure.rank_by}: no image has a label that is a class of the model{known}; give labels"
        )
    return Yardstick(measure, read_target(model, measure.target), names, judged)
