"""Write the pictures of a heatmap study: one file a tensor, and a collage of the strongest."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError
from pgc_graph.files import atomic_path
from pgc_graph.render.colormap import lookup_table
from pgc_graph.render.composite import draw_composite
from pgc_graph.render.panels import PANEL_SIDE, draw_panels, fit_size, image_panel
from pgc_graph.render.png import encode_png
from pgc_graph.render.style import CompositeOptions, HeatmapStyle
from pgc_graph.studies.heatmap import Heatmap, HeatmapResult

__all__ = ["CompositeOptions", "HeatmapStyle", "SavedHeatmaps", "picture_name", "save_heatmaps"]

_LONGEST_SLUG = 120
_MOST_THREADS = 8


@dataclass(frozen=True)
class SavedHeatmaps:
    """What was written.

    Attributes:
        paths: One file a map, in the order of the result's maps.
        composite_path: The collage, or None if none was asked for.
        composite_count: How many tensors the collage shows.
    """

    paths: tuple[Path, ...]
    composite_path: Path | None = None
    composite_count: int = 0


def save_heatmaps(
    result: HeatmapResult,
    original_image: NDArray[np.uint8],
    output_dir: Path,
    *,
    options: HeatmapStyle | None = None,
    composite: CompositeOptions | None = None,
) -> SavedHeatmaps:
    """Draw every map beside and over its image, and a collage if asked for; the same input gives the same bytes.

    All pictures are drawn before the first is written, and each is written all or nothing.

    Args:
        result: The maps; files are numbered in their order.
        original_image: `(H, W, 3)` uint8 RGB of any size: the picture itself, not the model's input.
        output_dir: The folder to write to; made where it does not exist.
        options: Colours and transparency.
        composite: What the collage shows; None for no collage.

    Returns:
        The files.

    Raises:
        OptionError: An unknown colour map, or a file or folder that cannot be written.
    """
    options = options or HeatmapStyle()
    table = lookup_table(options.cmap, invert=options.invert)
    original = image_panel(original_image, fit_size(original_image, PANEL_SIDE))

    def draw(number: int, heatmap: Heatmap) -> bytes:
        header = f"{number:03d} | {heatmap.target.node}"
        return encode_png(draw_panels(heatmap, original, table, alpha=options.alpha, header=header))

    numbers = range(1, len(result.heatmaps) + 1)
    names = [
        output_dir / picture_name(n, heatmap.target.node) for n, heatmap in zip(numbers, result.heatmaps, strict=True)
    ]
    # Pillow and zlib work without the interpreter's lock.
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="draw") as pool:
        pictures = dict(zip(names, pool.map(draw, numbers, result.heatmaps), strict=True))
    paths = tuple(pictures)
    if composite is None:
        _write(pictures, output_dir)
        return SavedHeatmaps(paths)
    composite_path = output_dir / composite.output
    if composite_path in pictures:
        raise OptionError(f"composite file {composite_path} is also the name of a heatmap; choose another")
    pictures[composite_path] = encode_png(
        draw_composite(result, original_image, table, alpha=options.alpha, options=composite)
    )
    _write(pictures, output_dir)
    return SavedHeatmaps(paths, composite_path, min(composite.topk, len(result.heatmaps)))


def picture_name(number: int, node: str) -> str:
    """Name a heatmap's file: `001_base_model_stem_stem_2_Mul.png` for node `/base_model/stem/stem.2/Mul`.

    Of a very long name the end is kept: it tells more, and the number keeps names apart.
    """
    slug = re.sub(r"[^0-9A-Za-z]+", "_", node).strip("_")[-_LONGEST_SLUG:].strip("_")
    return f"{number:03d}_{slug or 'tensor'}.png"


def _write(pictures: dict[Path, bytes], output_dir: Path) -> None:
    for folder in dict.fromkeys((output_dir, *(path.parent for path in pictures))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or "unknown reason"
            raise OptionError(f"cannot make folder {folder}: {reason}; choose another output folder") from error
    for path, data in pictures.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
