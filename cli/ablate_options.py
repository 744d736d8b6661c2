"""What `pgc-graph ablate` can be asked: its own options, handed over as typed objects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.analysis.targets import Target
    from pgc_graph.images import Preprocess
    from pgc_graph.render.style import CompositeOptions
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.studies.ablation.intervention import Intervention
    from pgc_graph.studies.ablation.measure import Measure

__all__ = [
    "ImageSource",
    "MeasureRequest",
    "Study",
    "TopkRequest",
    "image_source_options",
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
class ImageSource:
    """Which images to ablate: one file, or the first so many below a folder."""

    image: Path | None
    folder: Path | None
    limit: int

    @property
    def is_empty(self) -> bool:
        """Whether neither file nor folder is given."""
        return self.image is None and self.folder is None

    def paths_or_none(self) -> tuple[Path, ...]:
        """List the files, none if none are named."""
        return () if self.is_empty else self.paths()

    def paths(self) -> tuple[Path, ...]:
        """List the files.

        Raises:
            OptionError: Both or neither of file and folder are given.
            ImageError: The folder holds no image, or the file cannot be read.
        """
        from pgc_graph.images import find_images, load_image

        if self.image is not None and self.folder is not None:
            raise OptionError("both --image and --image-dir are given; expected one of them")
        if self.image is not None:
            load_image(self.image)  # fails at once, where a folder's unreadable images are skipped
            return (self.image,)
        if self.folder is None:
            raise OptionError(
                "no images given; expected --image FILE or --image-dir FOLDER (--list-targets needs none)"
            )
        return find_images(self.folder, limit=self.limit)


@dataclass(frozen=True)
class MeasureRequest:
    """What the study is measured by: the class, where labels come from, and the ranking."""

    target: str
    labels: str
    rank_by: str

    def read(self, model: ir.Model, paths: Sequence[Path]) -> Measure:
        """Label the images; folder names count by themselves where every one is a class of the model.

        Raises:
            OptionError: The file of labels cannot be read or lacks an image.
        """
        from pgc_graph.studies.ablation.classes import class_names, folder_labels, read_labels
        from pgc_graph.studies.ablation.measure import Measure

        labels = None
        if self.labels in ("auto", "folders"):
            labels = folder_labels(paths)
            names = class_names(model)
            if self.labels == "auto" and not all(label in names for label in labels.values()):
                labels = None
        elif self.labels != "none":
            labels = read_labels(Path(self.labels), paths)
        return Measure(self.target, labels, self.rank_by)


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


def image_source_options(function: Function) -> Function:
    """--image, --image-dir and --max-images, handed over as `source: ImageSource`."""

    @click.option("--image", type=click.Path(path_type=Path), help="One image.")
    @click.option("--image-dir", type=click.Path(path_type=Path), help="A folder of images, searched recursively.")
    @click.option("--max-images", type=click.IntRange(1), default=100, show_default=True, help="Images of the folder.")
    @functools.wraps(function)
    def wrapper(*args: Any, image: Path | None, image_dir: Path | None, max_images: int, **kwargs: Any) -> Any:
        return function(*args, source=ImageSource(image, image_dir, max_images), **kwargs)

    return wrapper  # type: ignore[return-value]


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
        help="What images show: their folders' names, or a file with columns image_path,label. auto = folders, "
        "if each is named like a class of the model.",
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
