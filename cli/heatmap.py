"""`pgc-graph heatmap`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgc_cli.heatmap_draw import Drawing, draw
from pgc_cli.heatmap_method import MapReader, MethodRequest, method_options
from pgc_cli.heatmap_options import SCALE, ManyRequest, composite_options, many_options, style_options
from pgc_cli.heatmap_report import listing
from pgc_cli.heatmap_targets import choose_targets
from pgc_cli.image_options import ImageRequest, image_source_options
from pgc_cli.options import (
    VariadicCommand,
    json_option,
    model_option,
    preprocess_options,
    read_preprocess,
    runtime_options,
    target_options,
)
from pgc_cli.progress import show_warnings

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.analysis.targets import Target, TargetQuery
    from pgc_graph.render.heatmaps import CompositeOptions, HeatmapStyle
    from pgc_graph.runtime.session import RuntimeOptions

__all__ = ["command"]


@click.command("heatmap", cls=VariadicCommand, short_help="Draw what each tensor looks at in an image.")
@model_option
@image_source_options
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default="feature_heatmaps",
    show_default=True,
    help="The folder to write to.",
)
@click.option(
    "--layers",
    multiple=True,
    metavar="TEXT ...",
    help="Of the tensors, those whose name contains any of these, or that an address such as relu@stem finds.",
)
@target_options
@click.option("--list-layers", "--list-targets", is_flag=True, help="List the tensors and stop; needs no image.")
@click.option(
    "--reduce",
    type=click.Choice(["mean", "max", "sum"]),
    default="mean",
    show_default=True,
    help="How channels become one map (with --method activation).",
)
@method_options
@click.option(
    "--scale",
    type=SCALE,
    default="each",
    show_default=True,
    help="Colours run over each map's own values, over all maps of an image, or from LOW to HIGH.",
)
@many_options
@preprocess_options
@style_options
@composite_options
@runtime_options
@json_option
def command(
    model_path: Path,
    images: ImageRequest,
    output_dir: Path,
    layers: tuple[str, ...],
    query: TargetQuery,
    list_layers: bool,
    reduce: str,
    method: MethodRequest,
    scale: str | tuple[float, float],
    many: ManyRequest,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    style: HeatmapStyle,
    composite: CompositeOptions | None,
    runtime: RuntimeOptions,
    as_json: bool,
) -> None:
    """Draw what each Sigmoid→Mul tensor (or those you choose) looks at in an image: image, heatmap and overlay.

    Of several images each gets a folder, or all one contact sheet (--sheet); --label-means and --difference draw means.

    Example: pgc-graph heatmap --model pgc_l_32x32.onnx --image hand.png --composite-topk 6
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import find_targets

    show_warnings()
    model = modelio.load(model_path)
    if list_layers:
        click.echo(listing(choose_targets(find_targets(model), layers, query), as_json))
        return
    method.check(model_path)
    preprocess = read_preprocess(model, input_size, mean, std)
    targets = () if method.draws_input else choose_targets(find_targets(model), layers, query)
    many.check((model_path, *images.files))
    source = images.open()

    if many.against is not None and composite is not None:
        composite = dataclasses.replace(composite, topk=2 * composite.topk, sort="order", layout="row")
    reader = functools.partial(method.reader, preprocess=preprocess, reduce=reduce, runtime=runtime)
    read = _reader(model, model_path, targets, many.against, reader)
    drawing = Drawing(model_path, preprocess, read, output_dir, style, composite, scale, as_json)
    draw(drawing, source, many, single=images.image is not None)
    method.save(model, targets)


def _reader(
    model: ir.Model,
    model_path: Path,
    targets: tuple[Target, ...],
    against: Path | None,
    reader: Callable[[ir.Model, Sequence[Target]], MapReader],
) -> MapReader:
    """Open a session, or one a model, for all images."""
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import find_targets
    from pgc_graph.studies.heatmap_groups import matching_targets, paired

    first = reader(model, targets)
    if against is None:
        return first
    other = modelio.load(against)
    second = reader(other, matching_targets(targets, find_targets(other)))
    names = (model_path.name, against.name)
    return lambda row: paired(first(row), second(row), names)
