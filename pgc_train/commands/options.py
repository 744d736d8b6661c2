"""Options that commands share, each defined once; they hand the command typed objects, not loose names."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_graph.build.spec import BACKBONES, COLOURS, HEADS, PRESET_NAMES, TOKEN_HEADS, preset
from pgc_graph.errors import OptionError
from pgc_train.options import RESAMPLING, AugmentOptions, TrainOptions

if TYPE_CHECKING:
    from pgc_train.prepare import DataQuery

__all__ = ["FOLDER", "PAIR", "data_options", "recipe_options", "spec_options"]

Function = TypeVar("Function", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path)

if TYPE_CHECKING:
    _PairBase = click.ParamType[tuple[int, int]]
else:
    _PairBase = click.ParamType  # not subscriptable at run time before click 8.4


class _Pair(_PairBase):
    """Two lengths, as 32 for both or 32x48."""

    name = "NxM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is not a size; expected a number of at least 1, or two as 32x48", param, ctx)
        return int(parts[0]), int(parts[-1])


PAIR = _Pair()
_DEFAULTS = TrainOptions()


def spec_options(function: Function) -> Function:
    """--preset and what overrides parts of it, handed over as `spec: ModelSpec`."""

    @_add(
        click.option("--preset", "preset_name", type=click.Choice(PRESET_NAMES), default="s", show_default=True),
        click.option("--backbone", "--arch-variant", type=click.Choice(BACKBONES), help="Instead of the preset's."),
        click.option("--head", "--head-variant", type=click.Choice(HEADS), help="Instead of the preset's."),
        click.option("--token-mixer-grid", type=PAIR, help="Rows x columns of tokens of the heads over tokens.  [2x2]"),
        click.option("--image-size", type=PAIR, help="Height x width that the network sees, in pixels.  [32x32]"),
        click.option(
            "--colour", type=click.Choice(COLOURS), help="What the network sees, computed from RGB inside it."
        ),
        *(
            click.option(flag, "colour", flag_value=colour, default=None, help=f"The same as --colour {colour}.")
            for flag, colour in (("--rgb-to-y", "luma"), ("--rgb-to-lab", "lab"), ("--rgb-to-luv", "luv"))
        ),
        click.option("--base-channels", type=click.IntRange(1), help="Instead of the preset's."),
        click.option("--num-blocks", type=click.IntRange(1), help="Instead of the preset's."),
        click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), help="In the head, while training."),
    )
    @functools.wraps(function)
    def wrapper(*args: Any, preset_name: str, dropout: float | None, **kwargs: Any) -> Any:
        names = ("backbone", "head", "colour", "base_channels", "num_blocks", "image_size")
        parts = {name: kwargs.pop(name) for name in names}
        parts["token_grid"] = kwargs.pop("token_mixer_grid")
        changes = {name: value for name, value in parts.items() if value is not None}
        if "backbone" in changes:
            changes.setdefault("head", "auto")
        spec = dataclasses.replace(preset(preset_name), **changes)
        if "token_grid" in changes and spec.resolved_head not in TOKEN_HEADS:
            raise OptionError(
                f"--token-mixer-grid says nothing to the head {spec.resolved_head}, which has no tokens; "
                f"expected --head-variant {' or '.join(TOKEN_HEADS)}"
            )
        if changes and spec != preset(preset_name):
            spec = dataclasses.replace(spec, variant="custom")
        if dropout is not None:
            spec = dataclasses.replace(spec, dropout=dropout)
        return function(*args, spec=spec, **kwargs)

    return wrapper  # type: ignore[return-value]


def data_options(function: Function) -> Function:
    """Where training and validation crops come from, handed over as `query: DataQuery`."""

    @_add(
        click.option(
            "--data",
            "roots",
            type=FOLDER,
            multiple=True,
            help="Folder with pointing/ and not_pointing/ in it, or a .parquet file.",
        ),
        click.option("--synth-data", type=FOLDER, multiple=True, help="The same for crops drawn by `pgc-train synth`."),
        click.option("--val-data", type=FOLDER, multiple=True, help="Crops to validate on."),
        click.option(
            "--splits", type=FOLDER, help="CSV: image_path,label,source,group,split; rows train and val count."
        ),
        click.option(
            "--val-fraction",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=0.15,
            show_default=True,
            help="Without --val-data and --splits: the share held out, in whole groups (file name before the first _).",
        ),
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any,
        roots: tuple[Path, ...],
        synth_data: tuple[Path, ...],
        val_data: tuple[Path, ...],
        splits: Path | None,
        val_fraction: float,
        **kwargs: Any,
    ) -> Any:
        from pgc_train.prepare import DataQuery

        query: DataQuery = DataQuery(roots, synth_data, val_data, splits, val_fraction, kwargs["recipe"].seed)
        return function(*args, query=query, **kwargs)

    return wrapper  # type: ignore[return-value]


def recipe_options(function: Function) -> Function:
    """How to train, handed over as `recipe: TrainOptions`."""

    @_add(
        _number("--epochs", "epochs", click.IntRange(1), "Passes over the crops."),
        _number("--batch-size", "batch_size", click.IntRange(2), "Crops a step."),
        _number("--lr", "learning_rate", click.FloatRange(0, min_open=True), "Learning rate after the warm-up."),
        _number("--weight-decay", "weight_decay", click.FloatRange(0), "Of AdamW."),
        _number("--label-smoothing", "label_smoothing", click.FloatRange(0, 1, max_open=True), "Of the targets."),
        _number("--average-decay", "average_decay", click.FloatRange(0, 1, max_open=True), "Of the weights; 0 = off."),
        _number("--best", "best", click.Choice(["f1", "loss"]), "What makes an epoch the best one."),
        _number("--plateau", "plateau", click.Choice(["f1", "loss"]), "What lowers the learning rate when it stalls."),
        _number("--plateau-patience", "plateau_patience", click.IntRange(0), "Epochs it may stall."),
        _number("--patience", "patience", click.IntRange(0), "Epochs without a new best until the end; 0 = never."),
        _number("--samples-per-epoch", "samples_per_epoch", click.IntRange(0), "Crops an epoch; 0 = all there are."),
        _number(
            "--synth-share", "synth_share", click.FloatRange(0, 1, max_open=True), "Share of drawn crops in an epoch."
        ),
        *_sampling_options(),
        _number("--seed", "seed", click.IntRange(0), "Of all randomness."),
        _number("--threads", "threads", click.IntRange(0), "Of torch; 0 = its own choice."),
        click.option(
            "--augment",
            "strength",
            type=click.FloatRange(0, 2),
            default=AugmentOptions().strength,
            show_default=True,
            help="How strongly training crops are changed; 0 = not at all.",
        ),
        click.option(
            "--augment-ramp",
            "ramp",
            type=click.IntRange(0),
            default=AugmentOptions().ramp,
            show_default=True,
            help="Epochs over which the changes grow to that.",
        ),
    )
    @functools.wraps(function)
    def wrapper(*args: Any, strength: float, ramp: int, **kwargs: Any) -> Any:
        names = {field.name for field in dataclasses.fields(TrainOptions)} & kwargs.keys()
        chosen = {name: kwargs.pop(name) for name in names}
        recipe = TrainOptions(**chosen, augment=AugmentOptions(strength=strength, ramp=ramp))
        return function(*args, recipe=recipe, **kwargs)

    return wrapper  # type: ignore[return-value]


def _sampling_options() -> tuple[Callable[[Any], Any], ...]:
    return (
        _number(
            "--resampling",
            "resampling",
            click.Choice(RESAMPLING),
            "Photographs of an epoch: by --pointing-share, as they come (none), half pointing (balanced), or half "
            "pointing, each draw anew (weighted).",
        ),
        _number(
            "--pointing-share",
            "pointing_share",
            click.FloatRange(0, 1, max_open=True),
            "Share of pointing crops among an epoch's photographs; 0 = as they come.",
        ),
    )


def _number(flag: str, field: str, kind: click.ParamType[Any], text: str) -> Callable[[Function], Function]:
    return click.option(flag, field, type=kind, default=getattr(_DEFAULTS, field), show_default=True, help=text)


def _add(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
