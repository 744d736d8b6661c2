"""What `pgc-graph ablate` can be asked: its own options, handed over as typed objects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.analysis.targets import Target
    from pgc_graph.images import Preprocess
    from pgc_graph.render.style import CompositeOptions
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.sources import ImageSource
    from pgc_graph.studies.ablation.intervention import Intervention
    from pgc_graph.studies.ablation.measure import Measure

__all__ = [
    "MeasureRequest",
    "Study",
    "TopkRequest",
    "intervention_options",
    "measure_options",
    "topk_options",
]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Study:
    """What is ablated, and where."""

    model: ir.Model
    model_path: Path
    targets: tuple[Target, ...]
    preprocess: Preprocess
    intervention: Intervention
    runtime: RuntimeOptions
    as_json: bool


@dataclass(frozen=True)
class MeasureRequest:
    """What the study is measured by: the class, where labels come from, and the ranking."""

    target: str
    labels: str
    rank_by: str

    def read(self, model: ir.Model, images: ImageSource) -> Measure:
        """Label the images; their own labels count by themselves where every one is a class of the model.

        Raises:
            OptionError: The file of labels cannot be read or lacks an image.
        """
        from pgc_graph.studies.ablation.classes import class_names, read_labels
        from pgc_graph.studies.ablation.measure import Measure, OwnLabels

        if self.labels == "none":
            return Measure(self.target, None, self.rank_by)
        if self.labels not in ("auto", "folders"):
            return Measure(self.target, read_labels(Path(self.labels), tuple(images.paths())), self.rank_by)
        own = OwnLabels(images.labels())
        known = class_names(model)
        is_meant = self.labels == "folders" or (own.names and all(name in known for name in own.names))
        return Measure(self.target, own if is_meant else None, self.rank_by)


@dataclass(frozen=True)
class TopkRequest:
    """The pictures drawn of the highest ranking tensors: how many, of which image, and where they go."""

    count: int
    image: Path | None
    folder: Path
    composite: Path

    def check(self) -> None:
        """Find out before the work, not after it, that pictures cannot be drawn.

        Raises:
            OptionError: The collage's name is not that of a PNG file.
            ImageError: The image cannot be read.
        """
        if self.count:
            self.collage({})
        if self.count and self.image is not None:
            from pgc_graph.images import load_image

            load_image(self.image)

    def collage(self, captions: Mapping[str, str]) -> CompositeOptions:
        """Return what the collage shows: tensors column by column, in their order."""
        from pgc_graph.render.style import CompositeOptions

        return CompositeOptions(self.count, self.composite, "order", "col", captions=captions)


def intervention_options(function: Function) -> Function:
    """--mode, --ablation-value, --mean-per, --noise-sigma and --seed, handed over as `intervention: Intervention`."""

    @click.option(
        "--mode",
        type=click.Choice(["zero", "scale", "mean", "resample", "noise"]),
        help="What a tensor becomes: 0, a multiple, its mean over the images, that of another image, itself plus noise  "
        "[default: zero, or scale with --ablation-value]",
    )
    @click.option(
        "--ablation-value", type=float, default=0.0, show_default=True, help="What a tensor is multiplied by; 0 = off."
    )
    @click.option(
        "--mean-per",
        type=click.Choice(["channel", "element"]),
        default="channel",
        show_default=True,
        help="With --mode mean: one mean a channel or one an element.",
    )
    @click.option(
        "--noise-sigma",
        type=float,
        default=1.0,
        show_default=True,
        help="With --mode noise: its strength, in standard deviations of the tensor.",
    )
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of resample and noise.")
    @functools.wraps(function)
    def wrapper(
        *args: Any, mode: str | None, ablation_value: float, mean_per: str, noise_sigma: float, seed: int, **kwargs: Any
    ) -> Any:
        from pgc_graph.studies.ablation.intervention import Intervention

        chosen = mode or ("scale" if ablation_value else "zero")
        return function(*args, intervention=Intervention(chosen, ablation_value, mean_per, noise_sigma, seed), **kwargs)

    return wrapper  # type: ignore[return-value]


def measure_options(function: Function) -> Function:
    """--target, --labels and --rank-by, handed over as `measure: MeasureRequest`."""

    @click.option(
        "--target", default="argmax", show_default=True, help="The class to score: argmax (as found), name or index."
    )
    @click.option(
        "--labels",
        default="auto",
        show_default=True,
        metavar="auto|folders|none|CSV",
        help="What images show: their folders' names (or the labels in their Parquet or .npz file), or a file with "
        "columns image_path,label. auto = folders, if each is named like a class of the model.",
    )
    @click.option(
        "--rank-by",
        type=click.Choice(["delta", "logit", "loss", "accuracy", "f1"]),
        default="delta",
        show_default=True,
        help="What is lost without a tensor: score, logit, or, with labels, loss, accuracy or F1.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, target: str, labels: str, rank_by: str, **kwargs: Any) -> Any:
        return function(*args, measure=MeasureRequest(target, labels, rank_by), **kwargs)

    return wrapper  # type: ignore[return-value]


def topk_options(function: Function) -> Function:
    """--topk-heatmaps, -image, -output-dir and -composite-name, handed over as `topk: TopkRequest`."""
    path = click.Path(path_type=Path)

    @click.option(
        "--topk-heatmaps", type=click.IntRange(0), default=6, show_default=True, help="Tensors to draw; 0 for none."
    )
    @click.option("--topk-image", type=path, help="The image to draw them on  [default: the first one]")
    @click.option("--topk-output-dir", type=path, default="ablation_heatmaps", show_default=True, help="Where they go.")
    @click.option(
        "--topk-composite-name", type=path, default="ablation_top_features.png", show_default=True, help="The collage."
    )
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        names = ("heatmaps", "image", "output_dir", "composite_name")
        return function(*args, topk=TopkRequest(*(kwargs.pop(f"topk_{name}") for name in names)), **kwargs)

    return wrapper  # type: ignore[return-value]
