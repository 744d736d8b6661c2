"""What `pgc-graph heatmap` can be asked: its own options, handed over as typed objects."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_graph.errors import OptionError

__all__ = ["SCALE", "ManyRequest", "composite_options", "many_options", "style_options"]

Function = TypeVar("Function", bound=Callable[..., Any])

if TYPE_CHECKING:
    _ScaleBase = click.ParamType[str | tuple[float, float]]
else:
    _ScaleBase = click.ParamType  # not subscriptable at run time before click 8.4


class ScaleType(_ScaleBase):
    """A scale of colours: `each`, `shared` or `LOW,HIGH`."""

    name = "each|shared|LOW,HIGH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[float, float]:
        """Parse a word or two numbers."""
        if not isinstance(value, str) or value in ("each", "shared"):
            return value  # type: ignore[no-any-return]
        try:
            low, high = map(float, value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no scale; expected each, shared or LOW,HIGH such as 0,2.5", param, ctx)
        return low, high


SCALE = ScaleType()


@dataclass(frozen=True)
class ManyRequest:
    """What is made of several images or two models."""

    sheet: Path | None = None
    label_means: bool = False
    difference: tuple[str, str] | None = None
    against: Path | None = None

    def check(self, inputs: tuple[Path, ...]) -> None:
        """Find out before the work that the request makes no sense.

        Raises:
            OptionError: It excludes itself, or the sheet is no PNG or an input.
        """
        if self.against is not None and (self.label_means or self.difference is not None):
            raise OptionError("--against compares two models on each image; leave --label-means and --difference out")
        if self.sheet is None:
            return
        if self.sheet.suffix.lower() != ".png":
            raise OptionError(f"sheet {self.sheet} is no PNG; choose a name that ends in .png")
        if any(path.exists() and self.sheet.exists() and path.samefile(self.sheet) for path in inputs):
            raise OptionError(f"{self.sheet} is an input; choose another file for the sheet")


def many_options(function: Function) -> Function:
    """--sheet, --label-means, --difference and --against, handed over as `many: ManyRequest`."""
    path = click.Path(path_type=Path)

    @click.option("--sheet", type=path, help="One contact sheet (PNG) of all images instead of a folder an image.")
    @click.option("--label-means", is_flag=True, help="The mean map of each label instead of maps of each image.")
    @click.option(
        "--difference",
        nargs=2,
        default=None,
        metavar="A B",
        help="The mean map of label A minus that of label B; the middle colour stands for none.",
    )
    @click.option("--against", type=path, help="A second .onnx model, whose maps stand beside the first's.")
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        names = ("sheet", "label_means", "difference", "against")
        return function(*args, many=ManyRequest(**{name: kwargs.pop(name) for name in names}), **kwargs)

    return wrapper  # type: ignore[return-value]


def style_options(function: Function) -> Function:
    """--alpha, --cmap, --invert-cmap, handed over as `style: HeatmapStyle`."""

    @click.option(
        "--alpha", type=float, default=0.55, show_default=True, help="Share of the heatmap in the overlay, 0 to 1."
    )
    @click.option("--cmap", default="turbo", show_default=True, help="A colour map of matplotlib's.")
    @click.option("--invert-cmap/--no-invert-cmap", default=False, show_default=True, help="Run the colours backwards.")
    @functools.wraps(function)
    def wrapper(*args: Any, alpha: float, cmap: str, invert_cmap: bool, **kwargs: Any) -> Any:
        from pgc_graph.render.style import HeatmapStyle

        return function(*args, style=HeatmapStyle(alpha, cmap, invert_cmap), **kwargs)

    return wrapper  # type: ignore[return-value]


def composite_options(function: Function) -> Function:
    """--composite-topk, -output, -sort, -layout, handed over as `composite: CompositeOptions | None`."""

    @click.option(
        "--composite-topk", type=click.IntRange(0), default=0, show_default=True, help="Collage of so many; 0 for none."
    )
    @click.option(
        "--composite-output",
        type=click.Path(path_type=Path),
        default="top_features_composite.png",
        show_default=True,
        help="The collage's file, relative to the output folder.",
    )
    @click.option(
        "--composite-sort",
        type=click.Choice(["intensity", "order"]),
        default="intensity",
        show_default=True,
        help="Strongest first, or as filtered: by --layers, else as in the graph.",
    )
    @click.option(
        "--composite-layout",
        type=click.Choice(["row", "col"]),
        default="row",
        show_default=True,
        help="Fill line by line, or column by column.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from pgc_graph.render.style import CompositeOptions

        topk, output, sort, layout = (kwargs.pop(f"composite_{key}") for key in ("topk", "output", "sort", "layout"))
        composite = CompositeOptions(topk, output, sort, layout) if topk else None
        return function(*args, composite=composite, **kwargs)

    return wrapper  # type: ignore[return-value]
