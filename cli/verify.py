"""`pgc-graph verify`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_cli.errors import EXIT_CHECK_FAILED
from pgc_cli.options import json_option, preprocess_options, read_preprocess
from pgc_cli.progress import show_warnings
from pgc_cli.rewrite import parse_shape
from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from pgc_graph.images import Preprocess

__all__ = ["command"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class FeedSource:
    """What the models are run on: images, files of arrays, or random inputs where neither is given."""

    images: tuple[Path, ...]
    folder: Path | None
    max_images: int
    files: tuple[Path, ...]
    runs: int
    seed: int
    shapes: dict[str, tuple[int, ...]]

    def check(self) -> None:
        """Refuse contradictions.

        Raises:
            OptionError: More than one kind of input is given.
        """
        given = {"--image": self.images, "--image-dir": self.folder, "--feeds": self.files}
        names = [name for name, value in given.items() if value]
        if len(names) > 1:
            raise OptionError(f"{' and '.join(names)} are both given; expected one kind of input")

    def feeds(self, model: ir.Model, preprocess: Callable[[], Preprocess]) -> Iterable[dict[str, NDArray[Any]]]:
        """Return the inputs; images are read as they are used."""
        from pgc_graph.images import find_images, load_image
        from pgc_graph.runtime.parity import random_feeds
        from pgc_graph.studies.feeds import image_feeds, npz_feeds

        if self.files:
            return [npz_feeds(model, path) for path in self.files]
        for path in self.images:
            load_image(path)  # in a folder an unreadable image is skipped; one that was asked for must be there
        if self.images or self.folder is not None:
            found = find_images(self.folder, limit=self.max_images) if self.folder is not None else self.images
            return image_feeds(model, found, preprocess())
        return random_feeds(model, runs=self.runs, seed=self.seed, fixed=self.shapes)


def feed_options(function: Function) -> Function:
    """Options that say what to run on, handed over as `source: FeedSource`."""
    path = click.Path(path_type=Path)

    @click.option("--image", multiple=True, type=path, help="Run on this image; may be given more than once.")
    @click.option("--image-dir", type=path, help="Run on the images of a folder, searched recursively.")
    @click.option("--max-images", type=click.IntRange(1), default=100, show_default=True, help="Images of the folder.")
    @click.option("--feeds", multiple=True, type=path, help="Run on an .npz file: one array an input, under its name.")
    @click.option(
        "--runs", type=click.IntRange(1), default=4, show_default=True, help="Random inputs, without the above."
    )
    @click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random inputs.")
    @click.option(
        "--input-shape", multiple=True, metavar="NAME=D,D,...", help="Shape of a random input, where A leaves it open."
    )
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        names = ("image", "image_dir", "max_images", "feeds", "runs", "seed")
        image, folder, limit, files, runs, seed = (kwargs.pop(name) for name in names)
        shapes = dict(map(parse_shape, kwargs.pop("input_shape")))
        source = FeedSource(image, folder, limit, files, runs, seed, shapes)
        return function(*args, source=source, **kwargs)

    return wrapper  # type: ignore[return-value]


@click.command("verify", short_help="Compare two models by running them.")
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@feed_options
@preprocess_options
@click.option(
    "--tolerance", type=click.FloatRange(0), default=1e-5, show_default=True, help="Largest |Δ| allowed in any case."
)
@click.option(
    "--rtol",
    type=click.FloatRange(0),
    default=None,
    help="Largest |Δ| allowed as a part of an output's largest |value|  [default: as --tolerance]",
)
@click.option("--bisect/--no-bisect", default=True, show_default=True, help="Find the first inner tensor that differs.")
@json_option
def command(
    first: Path,
    second: Path,
    source: FeedSource,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    tolerance: float,
    rtol: float | None,
    bisect: bool,
    as_json: bool,
) -> None:
    """Run models A and B on the same inputs and compare all outputs; where one differs, name the first inner tensor that
    does, and its node. Inputs are random unless images or arrays are given; images are prepared as A's metadata say.

    The exit code is 0 where all outputs agree and 1 where one does not.

    Example: pgc-graph verify model.onnx optimized.onnx --image-dir crops
    """
    from pgc_graph import modelio
    from pgc_graph.render.verify_table import verify_table
    from pgc_graph.results import to_json
    from pgc_graph.studies.verify import verify

    show_warnings()
    source.check()
    reference, candidate = modelio.load(first), modelio.load(second)
    feeds = source.feeds(reference, lambda: read_preprocess(reference, input_size, mean, std))
    result = verify(reference, candidate, feeds, tolerance=tolerance, relative_tolerance=rtol, locate=bisect)
    as_text = to_json(result, first=first, second=second, passed=result.passed) if as_json else verify_table(result)
    click.echo(as_text)
    if not result.passed:
        click.get_current_context().exit(EXIT_CHECK_FAILED)
