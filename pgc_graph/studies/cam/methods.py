"""The methods by name, what they can be asked, and what they return."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pgc_graph.errors import OptionError
from pgc_graph.studies.heatmap import HeatmapResult

__all__ = ["GRAPH_METHODS", "INPUT_METHODS", "METHODS", "CamOptions", "CamResult", "check_method"]

GRAPH_METHODS = ("gradcam", "gradcam++", "layercam", "xgradcam")
"""Methods that weigh an activation by its gradient: they can be written as one ONNX model."""

INPUT_METHODS = ("integrated-gradients", "smoothgrad")
"""Methods that give one map an image, at the size of the model's input, instead of one a tensor."""

METHODS = (*GRAPH_METHODS, "ablationcam", "eigencam", *INPUT_METHODS)
"""All methods."""


@dataclass(frozen=True)
class CamOptions:
    """What some methods need.

    Attributes:
        steps: Points on the path of integrated-gradients; noisy copies of smoothgrad.
        noise: Standard deviation of smoothgrad's noise, as a share of the range of the values fed for an image.
        seed: Of that noise. Every image gets the same noise, so that a map does not depend on its neighbours.
        batch_size: Rows a run, where the model leaves its batch open.
    """

    steps: int = 50
    noise: float = 0.15
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise OptionError(f"steps {self.steps}, batch size {self.batch_size}; expected both at least 1")
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise OptionError(f"noise {self.noise} is no share of a range; expected a number from 0 on, such as 0.15")
        if self.seed < 0:
            raise OptionError(f"seed {self.seed} is negative; expected 0 or more")


@dataclass(frozen=True, eq=False)
class CamResult(HeatmapResult):
    """All maps of one image by one method.

    Attributes:
        method: One of `METHODS`.
        class_index: The class that the maps speak of (for a single score: 1, or 0 for its opposite); None for
            eigencam, which knows no class.
        explained: The number that was explained: that class's logit where the model has logits, else its score; 0 where
            there is no class.
    """

    method: str = ""
    class_index: int | None = None
    explained: float = 0.0

    @property
    def class_label(self) -> str:
        """The class's name from the model's metadata, else its index; empty where there is no class."""
        if self.class_index is None:
            return ""
        return self.labels[self.class_index] if self.class_index < len(self.labels) else str(self.class_index)


def check_method(method: str, known: tuple[str, ...] = METHODS) -> None:
    """Refuse what is no method.

    Raises:
        OptionError: It is none of those.
    """
    if method not in known:
        raise OptionError(f"unknown method {method!r}; expected {', '.join(known)}")
