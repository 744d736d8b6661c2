"""How heatmaps look: the options of pictures, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgc_graph.errors import OptionError

__all__ = ["CompositeOptions", "HeatmapStyle"]


@dataclass(frozen=True)
class HeatmapStyle:
    """How a map is coloured and laid over its image.

    Attributes:
        alpha: Share of the heatmap in the overlay, in [0, 1].
        cmap: A matplotlib colour map.
        invert: Whether the colour map runs backwards.
    """

    alpha: float = 0.55
    cmap: str = "turbo"
    invert: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise OptionError(f"alpha {self.alpha} is impossible; expected 0 (image only) to 1 (heatmap only)")


@dataclass(frozen=True)
class CompositeOptions:
    """What the collage shows.

    Attributes:
        topk: How many tensors.
        output: The file to write, a `.png`; relative to the folder of the heatmaps.
        sort: `intensity` (highest first) or `order` (as the maps are given).
        layout: `row` fills the two columns line by line, `col` one column after the other.
        title: The headline; a standard one if empty.
        captions: A few words under each tensor's name, by tensor name; its intensity where missing.
    """

    topk: int = 6
    output: Path = Path("top_features_composite.png")
    sort: str = "intensity"
    layout: str = "row"
    title: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.topk < 1:
            raise OptionError(f"a composite of {self.topk} tensors shows nothing; expected at least 1")
        if self.output.suffix.lower() != ".png":
            raise OptionError(f"composite file {self.output} is no PNG; choose a name that ends in .png")
        if self.sort not in ("intensity", "order"):
            raise OptionError(f"unknown composite order {self.sort!r}; expected intensity or order")
        if self.layout not in ("row", "col"):
            raise OptionError(f"unknown composite layout {self.layout!r}; expected row or col")
