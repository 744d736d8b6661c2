"""`pgc-graph build`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgc_cli.options import SIZE, check_output, output_option
from pgc_cli.progress import show_warnings
from pgc_graph.build.spec import BACKBONES, COLOURS, HEADS, PRESET_NAMES
from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    from pgc_graph.build.spec import ModelSpec

__all__ = ["command"]

_COUNT = click.IntRange(1)
_PRESETS = "[default: the preset's]"


@click.command("build", short_help="Write a PGC graph.")
@click.option("--preset", "name", type=click.Choice(PRESET_NAMES), default="s", show_default=True, help="Size of it.")
@click.option("--backbone", type=click.Choice(BACKBONES), help=f"Kind of blocks  {_PRESETS}")
@click.option("--head", type=click.Choice(HEADS), help="Kind of head  [default: the one that suits the backbone]")
@click.option("--colour", type=click.Choice(COLOURS), help=f"What it sees, computed from RGB inside  {_PRESETS}")
@click.option("--base-channels", type=_COUNT, help=f"Channels of the first blocks  {_PRESETS}")
@click.option("--num-blocks", type=_COUNT, help=f"Blocks of the backbone  {_PRESETS}")
@click.option("--expansion", type=_COUNT, help=f"Widening inside an inverted_se block  {_PRESETS}")
@click.option("--se-reduction", type=_COUNT, help=f"Narrowing inside squeeze-and-excitation  {_PRESETS}")
@click.option(
    "--token-grid", type=SIZE, help=f"Rows x columns of tokens of a transformer or mlp_mixer head  {_PRESETS}"
)
@click.option("--token-layers", type=_COUNT, help=f"Layers of a transformer or mlp_mixer head  {_PRESETS}")
@click.option("--image-size", type=SIZE, help=f"Pixels of the input, SIZE or HEIGHTxWIDTH  {_PRESETS}")
@click.option("--weights", type=click.Path(path_type=Path), help="A .safetensors file of pgc-train's parameter names.")
@click.option("--seed", type=click.IntRange(0), help="Of the weights of an untrained network  [default: 0]")
@click.option("--opset", type=int, default=17, show_default=True, help="Opset to write for.")
@output_option
def command(
    name: str, weights: Path | None, seed: int | None, opset: int, output: Path, force: bool, **overrides: Any
) -> None:
    """Write a PGC graph as ONNX, with its BatchNormalization nodes in (fold-bn removes them).

    The weights are those of a file, or random ones that a seed determines.

    Example: pgc-graph build --preset s --seed 0 -o pgc_s.onnx
    """
    from pgc_graph import modelio
    from pgc_graph.build.pgc import build_pgc
    from pgc_graph.build.weights import init_weights, load_weights, parameter_count

    show_warnings()
    if weights is not None and seed is not None:
        raise OptionError("both --weights and --seed are given; expected one of them: leave one out")
    check_output(output, () if weights is None else (weights,), force=force)
    spec = _spec(name, {field: value for field, value in overrides.items() if value is not None})
    arrays = init_weights(spec, seed or 0) if weights is None else load_weights(weights, spec)
    modelio.save(modelio.load(build_pgc(spec, arrays, opset=opset)), output)
    click.echo(f"Saved {output} ({parameter_count(spec):,} parameters, opset {opset}, {output.stat().st_size:,} bytes)")


def _spec(name: str, overrides: dict[str, Any]) -> ModelSpec:
    from pgc_graph.build.spec import preset

    base = preset(name)
    if "backbone" in overrides:
        overrides.setdefault("head", "auto")
    spec = dataclasses.replace(base, **overrides)
    # A preset is a network, whatever size of image it is fed.
    is_preset = dataclasses.replace(spec, image_size=base.image_size, head=spec.resolved_head) == base
    return spec if is_preset else dataclasses.replace(spec, variant="custom")
