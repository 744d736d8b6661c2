"""What `pgc-graph heatmap` draws: maps of one image, of each of many, of the mean of each label, or of a difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgc_cli.heatmap_report import document, image_line, saved_lines
from pgc_cli.progress import note
from pgc_graph.errors import ImageError, OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pgc_cli.heatmap_options import ManyRequest
    from pgc_graph.images import Preprocess
    from pgc_graph.render.style import CompositeOptions, HeatmapStyle
    from pgc_graph.sources import ImageSource
    from pgc_graph.studies.heatmap import HeatmapResult
    from pgc_graph.studies.heatmap_groups import MapMeans

__all__ = ["Drawing", "draw"]


@dataclass(frozen=True, eq=False)
class Drawing:
    """How an image becomes maps, and how maps become files.

    Attributes:
        model_path: The model, for JSON.
        preprocess: How images are fed.
        read: Runs the model, or both, on one row.
        output_dir: Where pictures go.
        style: Their colours.
        composite: What the collage shows, or None.
        scale: `each`, `shared`, or the two values.
        as_json: Whether stdout gets JSON.
    """

    model_path: Path
    preprocess: Preprocess
    read: Callable[[NDArray[Any]], HeatmapResult]
    output_dir: Path
    style: HeatmapStyle
    composite: CompositeOptions | None
    scale: str | tuple[float, float]
    as_json: bool


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image that was looked at."""

    path: Path
    label: str
    picture: NDArray[np.uint8]
    result: HeatmapResult


def draw(drawing: Drawing, source: ImageSource, many: ManyRequest, *, single: bool) -> None:
    """Draw what was asked for and say what was saved.

    Raises:
        ImageError: None of the images can be read.
        OptionError: A label of the difference is not there, or a file cannot be written.
    """
    from pgc_graph.studies.heatmap_groups import difference

    if many.difference is None and not many.label_means:
        seen = _looked_at(drawing, source)
        if many.sheet is not None:
            _sheet(drawing, seen, many.sheet)
        else:
            _folders(drawing, seen, single=single)
        return
    means = _means(drawing, source, many.difference)
    shown: list[tuple[str, NDArray[np.uint8], HeatmapResult]] = []
    if many.label_means:
        shown += [(label, mean.picture(), mean.result()) for label, mean in sorted(means.items())]
    if many.difference is not None:
        first, second = (means[label] for label in many.difference)
        names = " - ".join(many.difference)
        shown.append((names, first.picture(), difference(first.result(), second.result())))
    _folders(drawing, (_Seen(Path(name), "", picture, result) for name, picture, result in shown), single=False)


def _looked_at(drawing: Drawing, source: ImageSource) -> Iterator[_Seen]:
    """Yield the images one by one, through one session; those that cannot be read are named and left out."""
    from pgc_graph.sources import to_picture, to_row

    skipped = 0
    for entry in source.read(range(len(source))):
        try:
            pixels = entry.load()
        except ImageError as error:
            note(f"skipped: {error}")
            skipped += 1
            continue
        result = drawing.read(to_row(pixels, drawing.preprocess))
        yield _Seen(entry.path, entry.label, to_picture(pixels, drawing.preprocess), result)
    if skipped == len(source):
        raise ImageError(f"none of the {skipped} images could be read")


def _means(drawing: Drawing, source: ImageSource, wanted: tuple[str, str] | None) -> dict[str, MapMeans]:
    from pgc_graph.render.panels import image_panel
    from pgc_graph.studies.heatmap_groups import MapMeans

    known = source.labels()
    for label in wanted or ():
        if label not in known:
            raise OptionError(f"no image has label {label!r}; expected one of {', '.join(known) or 'none at all'}")
    height, width = drawing.preprocess.size
    means: dict[str, MapMeans] = {}
    for seen in _looked_at(drawing, source):
        picture = image_panel(seen.picture, (width, height))
        means.setdefault(seen.label or "unlabelled", MapMeans()).add(seen.result, picture)
    for label in wanted or ():
        if label not in means:
            raise ImageError(f"none of the images with label {label!r} could be read; expected at least one")
    return means


def _folders(drawing: Drawing, seen: Iterator[_Seen], *, single: bool) -> None:
    """Write a folder an image, or, for a single one, the output folder itself."""
    from pgc_graph.render.heatmaps import picture_name, save_heatmaps
    from pgc_graph.results import to_json
    from pgc_graph.studies.heatmap_groups import scaled

    documents = []
    for number, one in enumerate(seen, start=1):
        folder = drawing.output_dir if single else drawing.output_dir / picture_name(number, one.path.stem)[:-4]
        result = scaled(one.result, drawing.scale)
        saved = save_heatmaps(result, one.picture, folder, options=drawing.style, composite=drawing.composite)
        if number == 1:
            note(f"[INFO] provider: {result.provider}")
        if drawing.as_json:
            documents.append(document(drawing.model_path, one.path, result, saved))
        elif single:
            click.echo(saved_lines(result, saved))
        else:
            click.echo(image_line(one.path, result, saved, folder))
    if drawing.as_json:
        click.echo(to_json(documents[0] if single else {"model": drawing.model_path, "images": documents}))


def _sheet(drawing: Drawing, seen: Iterator[_Seen], file: Path) -> None:
    from pgc_graph.files import atomic_path
    from pgc_graph.render.png import encode_png
    from pgc_graph.render.sheet import draw_sheet, sheet_row
    from pgc_graph.results import to_json
    from pgc_graph.studies.heatmap_groups import scaled

    rows = []
    for one in seen:
        caption = f"{one.label}/{one.path.name}" if one.label else one.path.name
        rows.append(sheet_row(scaled(one.result, drawing.scale), one.picture, caption, drawing.style))
    data = encode_png(draw_sheet(tuple(rows)))
    with atomic_path(file) as temporary:
        temporary.write_bytes(data)
    if drawing.as_json:
        images = [{"image": row.caption, "score": row.score} for row in rows]
        click.echo(to_json({"model": drawing.model_path, "sheet": file, "images": images}))
    else:
        click.echo(f"[OK] Saved {len(rows)} images x {len(rows[0].cells) - 1} tensors -> {file}")
