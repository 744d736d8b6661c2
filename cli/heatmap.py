"""`pgc-graph heatmap`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_cli.heatmap_method import MethodRequest, method_fields, method_options
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
from pgc_graph.errors import OptionError, SelectionError

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import Target, TargetQuery
    from pgc_graph.render.heatmaps import CompositeOptions, HeatmapStyle, SavedHeatmaps
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.studies.heatmap import HeatmapResult

__all__ = ["command", "saved_lines"]

Function = TypeVar("Function", bound=Callable[..., Any])


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


@click.command("heatmap", cls=VariadicCommand, short_help="Draw what each tensor looks at in an image.")
@model_option
@click.option("--image", type=click.Path(path_type=Path), help="The image to look at.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default="feature_heatmaps",
    show_default=True,
    help="The folder to write to.",
)
@click.option(
    "--layers", multiple=True, metavar="TEXT ...", help="Of the tensors, those whose name contains any of these."
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
@preprocess_options
@style_options
@composite_options
@runtime_options
@json_option
def command(
    model_path: Path,
    image: Path | None,
    output_dir: Path,
    layers: tuple[str, ...],
    query: TargetQuery,
    list_layers: bool,
    reduce: str,
    method: MethodRequest,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    style: HeatmapStyle,
    composite: CompositeOptions | None,
    runtime: RuntimeOptions,
    as_json: bool,
) -> None:
    """Draw what each Sigmoid→Mul tensor (or those you choose) looks at in one image: image, heatmap and overlay.

    Example: pgc-graph heatmap --model pgc_l_32x32.onnx --image hand.png --composite-topk 6
    """
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import find_targets

    show_warnings()
    model = modelio.load(model_path)
    if list_layers:
        click.echo(_listing(choose_targets(find_targets(model), layers, query), as_json))
        return
    method.check(model_path)
    if image is None:
        raise OptionError("no image given; expected --image FILE (or --list-layers, which needs none)")
    preprocess = read_preprocess(model, input_size, mean, std)
    targets = () if method.draws_input else choose_targets(find_targets(model), layers, query)

    from pgc_graph.images import load_image, to_tensor
    from pgc_graph.render.heatmaps import save_heatmaps

    picture = load_image(image)
    result = method.maps(model, to_tensor(picture, preprocess), targets, preprocess, reduce, runtime)
    saved = save_heatmaps(result, picture, output_dir, options=style, composite=composite)
    method.save(model, targets)
    note(f"[INFO] provider: {result.provider}")
    click.echo(_document(model_path, image, result, saved) if as_json else saved_lines(result, saved))


def choose_targets(targets: Sequence[Target], layers: Sequence[str], query: TargetQuery) -> tuple[Target, ...]:
    """Keep what the query asks for and, of that, what any of the layer filters finds, in the order of those filters.

    Raises:
        OptionError: A regular expression is malformed.
        SelectionError: Nothing is left.
    """
    from pgc_graph.analysis.targets import select_targets

    chosen = select_targets(targets, dataclasses.replace(query, limit=None))
    if not layers:
        return chosen[: query.limit]
    found = {
        text: [t for t in chosen if text.lower() in t.node.lower() or text.lower() in t.tensor.lower()]
        for text in layers
    }
    missing = ", ".join(repr(text) for text, matches in found.items() if not matches)
    union = {target.tensor for matches in found.values() for target in matches}
    kept = {target.tensor for target in [t for t in chosen if t.tensor in union][: query.limit]}
    if not kept:
        raise SelectionError(
            f"no tensor matches --layers {missing} ({len(chosen)} tensors); list them with --list-layers"
        )
    if missing:
        note(f"Warning: no tensor matches --layers {missing}")
    ordered = dict.fromkeys(target for matches in found.values() for target in matches)
    return tuple(target for target in ordered if target.tensor in kept)


def _listing(targets: Sequence[Target], as_json: bool) -> str:
    if as_json:
        from pgc_graph.results import to_json

        return to_json({"targets": tuple(targets)})
    return "\n".join(f"[{i:03d}] {t.kind or t.op_type} {t.node} -> {t.tensor}" for i, t in enumerate(targets))


def saved_lines(result: HeatmapResult, saved: SavedHeatmaps) -> str:
    """Say what was saved, and the score of the image."""
    pairs = zip(result.heatmaps, saved.paths, strict=True)
    lines = [f"[OK] Saved {heatmap.target.node} -> {path}" for heatmap, path in pairs]
    lines.append(f"Model {result.score_text}")
    if saved.composite_path is not None:
        lines.append(f"[COMPOSITE] Saved top-{saved.composite_count} heatmaps -> {saved.composite_path}")
    return "\n".join(lines)


def _document(model_path: Path, image: Path, result: HeatmapResult, saved: SavedHeatmaps) -> str:
    from pgc_graph.results import to_json

    heatmaps = [
        {
            **dataclasses.asdict(heatmap.target),
            "path": path,
            "shape": heatmap.values.shape,
            "intensity": heatmap.intensity,
            "minimum": float(heatmap.values.min()),
            "maximum": float(heatmap.values.max()),
        }
        for heatmap, path in zip(result.heatmaps, saved.paths, strict=True)
    ]
    fields = {
        "model": model_path,
        "image": image,
        "provider": result.provider,
        **method_fields(result),
        "score_name": result.score_name,
        "scores": result.scores,
        "labels": result.labels,
        "composite": saved.composite_path,
        "heatmaps": heatmaps,
        "skipped": result.skipped,
    }
    return to_json(fields)
