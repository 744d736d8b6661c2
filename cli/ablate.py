"""`pgc-graph ablate`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_cli.ablate_report import Printer, list_targets
from pgc_cli.errors import EXIT_INTERRUPTED
from pgc_cli.heatmap import saved_lines
from pgc_cli.interrupt import interruptible
from pgc_cli.options import (
    VariadicCommand,
    json_option,
    model_option,
    preprocess_options,
    read_preprocess,
    runtime_options,
    target_options,
)
from pgc_cli.progress import note, show_warnings
from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.analysis.targets import TargetQuery
    from pgc_graph.images import Preprocess
    from pgc_graph.render.style import CompositeOptions
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.studies.ablation import AblationResult

__all__ = ["command"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class ImageSource:
    """Which images to ablate: one file, or the first so many below a folder."""

    image: Path | None
    folder: Path | None
    limit: int

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


@click.command("ablate", cls=VariadicCommand, short_help="Switch tensors off one by one and rank them.")
@model_option
@image_source_options
@preprocess_options
@target_options
@click.option("--list-targets", "only_list", is_flag=True, help="List the chosen tensors and stop; needs no image.")
@click.option(
    "--ablation-value", type=float, default=0.0, show_default=True, help="What a tensor is multiplied by; 0 = off."
)
@topk_options
@click.option("--quiet", is_flag=True, help="Leave out the lines for each image.")
@json_option
@runtime_options
def command(
    model_path: Path,
    source: ImageSource,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    query: TargetQuery,
    only_list: bool,
    ablation_value: float,
    topk: TopkRequest,
    quiet: bool,
    as_json: bool,
    runtime: RuntimeOptions,
) -> None:
    """Switch every Sigmoid→Mul tensor (or those you choose) off in turn and rank them by what the score loses.

    Δ is the score of the untouched model minus the score without the tensor: positive where the tensor speaks for the
    class. With several classes, the one that the model finds most likely is scored. The file itself is not changed.

    Example: pgc-graph ablate --model pgc_l_32x32.onnx --image-dir hands/ --max-images 1000
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import find_targets, select_targets

    show_warnings()
    model = modelio.load(model_path)
    if only_list:
        click.echo(list_targets(select_targets(find_targets(model), query), as_json=as_json))
        return
    preprocess = read_preprocess(model, input_size, mean, std)
    targets = select_targets(find_targets(model), query)
    paths = source.paths()

    from pgc_graph.runtime.providers import choose_provider
    from pgc_graph.studies.ablation import ablate

    topk.check()
    printer = Printer(model_path, choose_provider(runtime.provider), len(paths), quiet=quiet, as_json=as_json)
    with interruptible() as stop, printer.progress():
        result = ablate(
            model,
            paths,
            targets,
            preprocess=preprocess,
            value=ablation_value,
            runtime=runtime,
            on_batch=printer.batch,
            stop=stop,
        )
    if not result.images:
        raise KeyboardInterrupt
    printer.finish(result)
    if result.interrupted:
        note(f"interrupted: the figures cover {len(result.images)} of {len(paths)} images")
        click.get_current_context().exit(EXIT_INTERRUPTED)
    if topk.count:
        _render(model, result, topk, preprocess, runtime, as_json=as_json)


def _render(
    model: ir.Model,
    result: AblationResult,
    topk: TopkRequest,
    preprocess: Preprocess,
    runtime: RuntimeOptions,
    *,
    as_json: bool,
) -> None:
    """Draw the highest ranking tensors, in that order."""
    from pgc_graph.images import load_image, to_tensor
    from pgc_graph.render.heatmaps import save_heatmaps
    from pgc_graph.studies.heatmap import activation_maps

    targets = [impact.target for impact in result.gates[: topk.count]]
    path = topk.image or result.images[0].path
    captions = {impact.target.tensor: f"meanΔ={impact.delta.mean:+.4f}" for impact in result.gates}
    where = topk.folder / topk.composite
    click.echo(f"[INFO] Rendering heatmaps for top-{len(targets)} tensors -> {where}", err=as_json)
    picture = load_image(path)
    maps = activation_maps(model, to_tensor(picture, preprocess), targets, runtime=runtime)
    saved = save_heatmaps(maps, picture, topk.folder, composite=topk.collage(captions))
    click.echo(saved_lines(maps, saved), err=as_json)
