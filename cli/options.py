"""Options that several commands share, each defined once; they hand the command typed objects, not loose names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.analysis.targets import TargetQuery
    from pgc_graph.images import Preprocess
    from pgc_graph.runtime.session import RuntimeOptions

__all__ = [
    "SIZE",
    "VariadicCommand",
    "check_output",
    "force_option",
    "json_option",
    "model_argument",
    "model_option",
    "output_option",
    "preprocess_options",
    "read_preprocess",
    "runtime_options",
    "target_options",
]

Function = TypeVar("Function", bound=Callable[..., Any])

if TYPE_CHECKING:
    _SizeBase = click.ParamType[tuple[int, int]]
else:
    _SizeBase = click.ParamType  # not subscriptable at run time before click 8.4


class SizeType(_SizeBase):
    """An image size: `32` or `HEIGHTxWIDTH`."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse `32` or `32x48` into (height, width)."""
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).lower().partition("x")
        if not height.isdigit() or not (width or height).isdigit() or int(height) < 1 or int(width or height) < 1:
            self.fail(f"{value!r} is not a size; expected 32 or HEIGHTxWIDTH such as 32x48", param, ctx)
        return int(height), int(width or height)


SIZE = SizeType()


class VariadicCommand(click.Command):
    """A command whose repeatable options also take several values at once: `--layers stem features.0`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat a repeatable option's name before each of its values, then parse as usual."""
        repeatable = {
            name
            for parameter in self.params
            if isinstance(parameter, click.Option) and parameter.multiple
            for name in parameter.opts
        }
        short = {name for parameter in self.params for name in parameter.opts if name[0] == "-" != name[1:2]}
        expanded: list[str] = []
        current, count = "", 0
        for arg in args:
            if arg.startswith("--") or arg in short:
                current, count = (arg, 0) if arg in repeatable else ("", 0)
            elif current:
                count += 1
                if count > 1:
                    expanded.append(current)
            expanded.append(arg)
        return super().parse_args(ctx, expanded)


def model_argument(function: Function) -> Function:
    """MODEL: the .onnx file to read."""
    return click.argument("model_path", metavar="MODEL", type=click.Path(path_type=Path))(function)


def model_option(function: Function) -> Function:
    """--model: the .onnx file to read."""
    return click.option(
        "--model", "model_path", required=True, type=click.Path(path_type=Path), help="The .onnx classifier to look at."
    )(function)


def output_option(function: Function) -> Function:
    """-o/--output and --force."""
    option = click.option(
        "-o", "--output", required=True, type=click.Path(path_type=Path), help="The .onnx file to write."
    )
    return option(force_option(function))


def force_option(function: Function) -> Function:
    """--force: allow the output to replace the input."""
    return click.option("--force", is_flag=True, help="Let the output replace the input file.")(function)


def json_option(function: Function) -> Function:
    """--json: results as one JSON document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")(function)


def check_output(output: Path, inputs: tuple[Path, ...], *, force: bool) -> None:
    """Refuse an output that would overwrite an input.

    Raises:
        OptionError: It would, and `force` is not set.
    """
    for path in inputs:
        if not force and path.exists() and output.exists() and path.samefile(output):
            raise OptionError(f"{output} is the input itself; choose another output, or say --force")


def runtime_options(function: Function) -> Function:
    """--provider and --threads, handed over as `runtime: RuntimeOptions`."""

    @click.option(
        "--provider",
        type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
        default="auto",
        show_default=True,
        help="Where the model runs; auto takes CUDA where it really works.",
    )
    @click.option(
        "--threads", type=click.IntRange(0), default=0, show_default=True, help="Threads to use; 0 = all cores."
    )
    @functools.wraps(function)
    def wrapper(*args: Any, provider: str, threads: int, **kwargs: Any) -> Any:
        from pgc_graph.runtime.session import RuntimeOptions

        runtime: RuntimeOptions = RuntimeOptions(provider=provider, threads=threads)
        return function(*args, runtime=runtime, **kwargs)

    return wrapper  # type: ignore[return-value]


def preprocess_options(function: Function) -> Function:
    """--input-size, --mean, --std; None each where the model's metadata decides."""
    triple: dict[str, Any] = {"type": float, "nargs": 3, "metavar": "R G B", "default": None}
    for option in (
        click.option(
            "--std", help="Divide each channel by these, in units of [0, 1]  [default: the model's]", **triple
        ),
        click.option("--mean", help="Subtract these from each channel in [0, 1]  [default: the model's]", **triple),
        click.option(
            "--input-size",
            type=SIZE,
            default=None,
            help="Resize images to SIZE or HEIGHTxWIDTH pixels  [default: the model's]",
        ),
    ):
        function = option(function)
    return function


def read_preprocess(
    model: ir.Model,
    input_size: tuple[int, int] | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
) -> Preprocess:
    """Decide how images are fed to a model: options, then metadata, then the shape of its input.

    Raises:
        OptionError: The values make no sense or contradict the model.
        UnsupportedError: The model does not take one batch of RGB images.
    """
    from pgc_graph.analysis.interface import image_input
    from pgc_graph.images import preprocess_from_metadata

    source = image_input(model)
    return preprocess_from_metadata(
        model.metadata_props, source.shape, size=input_size, mean=mean, std=std, pixels=source.takes_pixels
    )


def target_options(function: Function) -> Function:
    """--name-contains, --pattern, --op-type, --regex, --include-all, --limit, handed over as `query: TargetQuery`."""

    @click.option(
        "--name-contains",
        multiple=True,
        metavar="TEXT ...",
        help="Tensors whose name contains any of these, or that an address such as silu@features.2 or se@* finds.",
    )
    @click.option(
        "--pattern",
        "patterns",
        multiple=True,
        metavar="PATTERN ...",
        type=click.Choice(["silu", "relu", "gelu", "hardswish", "swish", "se", "all"]),
        help="Results of any of these activations: silu, relu, gelu, hardswish, swish, se, all.",
    )
    @click.option("--op-type", multiple=True, metavar="OP ...", help="Tensors produced by any of these operators.")
    @click.option("--regex", multiple=True, metavar="REGEX ...", help="Tensors whose name any of these finds.")
    @click.option("--include-all", is_flag=True, help="All tensors, not only the Sigmoid→Mul ones.")
    @click.option(
        "--limit", type=click.IntRange(1), default=None, help="Only the first so many tensors, in graph order."
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any,
        name_contains: tuple[str, ...],
        patterns: tuple[str, ...],
        op_type: tuple[str, ...],
        regex: tuple[str, ...],
        include_all: bool,
        limit: int | None,
        **kwargs: Any,
    ) -> Any:
        from pgc_graph.analysis.targets import TargetQuery

        query: TargetQuery = TargetQuery(name_contains, op_type, regex, include_all, limit, patterns)
        return function(*args, query=query, **kwargs)

    return wrapper  # type: ignore[return-value]
