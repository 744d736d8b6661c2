"""Which images a study looks at: files, a folder, a list, a Parquet or an .npz file, handed over as one typed object."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    from pgc_graph.sources import ImageSource

__all__ = ["ImageRequest", "image_source_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class ImageRequest:
    """Which images to look at: one file, or the first so many of one of the others."""

    image: Path | None = None
    image_dir: Path | None = None
    image_list: Path | None = None
    parquet: Path | None = None
    npz: Path | None = None
    split: str | None = None
    limit: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no image is named."""
        return not self._given()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are named, which no output may replace."""
        return tuple(path for path in (self.image, self.image_list, self.parquet, self.npz) if path is not None)

    def open_or_none(self) -> ImageSource | None:
        """Look at what is named, if anything is; as `open`."""
        return None if self.is_empty else self.open()

    def open(self) -> ImageSource:
        """Look at what is named, without decoding more than a single image.

        Raises:
            OptionError: Nothing or too much is named, or there is no such split.
            ImageError: There is no image, or what holds them cannot be read.
        """
        from pgc_graph import sources
        from pgc_graph.images import load_image

        given = self._given()
        if len(given) > 1:
            raise OptionError(f"both {given[0]} and {given[1]} are given; expected one of them")
        if self.split is not None and self.parquet is None:
            raise OptionError(f"--split {self.split} has no meaning without --parquet; leave it out")
        if self.image is not None:
            load_image(self.image)  # fails at once, where a folder's unreadable images are skipped
            return sources.FileImages([self.image])
        if self.image_list is not None:
            return sources.image_list(self.image_list, limit=self.limit)
        if self.parquet is not None:
            return sources.parquet_images(self.parquet, split=self.split, limit=self.limit)
        if self.npz is not None:
            return sources.npz_images(self.npz, limit=self.limit)
        if self.image_dir is not None:
            return sources.image_folder(self.image_dir, limit=self.limit)
        raise OptionError(
            "no images given; expected --image FILE or --image-dir FOLDER, --image-list, --parquet or --npz FILE "
            "(--list-targets needs none)"
        )

    def _given(self) -> list[str]:
        options = {
            "--image": self.image,
            "--image-dir": self.image_dir,
            "--image-list": self.image_list,
            "--parquet": self.parquet,
            "--npz": self.npz,
        }
        return [name for name, path in options.items() if path is not None]


def image_source_options(function: Function) -> Function:
    """--image, --image-dir, --image-list, --parquet, --split, --npz and --max-images as `images: ImageRequest`."""
    path = click.Path(path_type=Path)

    @click.option("--image", type=path, help="One image.")
    @click.option("--image-dir", type=path, help="A folder of images, searched recursively.")
    @click.option("--image-list", type=path, help="A text file that names an image a line, relative to the file.")
    @click.option("--parquet", type=path, help="A Parquet file: image_path, image_bytes, label, split.")
    @click.option("--split", help="With --parquet: only rows of this split  [default: all]")
    @click.option(
        "--npz", type=path, help="An .npz file: images, as (N, H, W, 3) uint8 or (N, 3, H, W) float32; labels."
    )
    @click.option(
        "--max-images",
        type=click.IntRange(0),
        default=100,
        show_default=True,
        help="The first so many of several images; 0 = all.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, max_images: int, **kwargs: Any) -> Any:
        names = ("image", "image_dir", "image_list", "parquet", "npz", "split")
        request = ImageRequest(**{name: kwargs.pop(name) for name in names}, limit=max_images or None)
        return function(*args, images=request, **kwargs)

    return wrapper  # type: ignore[return-value]
