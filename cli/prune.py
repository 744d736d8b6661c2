"""`pgc-graph prune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgc_cli.progress import note
from pgc_cli.prune_report import comparison_text
from pgc_cli.rewrite import RewriteRequest, Step, rewrite_options, run_steps
from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.passes.prune import Pruned
    from pgc_graph.passes.rewrite import Rewrite

__all__ = ["command"]


@click.command("prune", short_help="Remove channels.")
@rewrite_options
@click.option(
    "--threshold",
    type=click.FloatRange(0),
    default=None,
    help="Gates, or scores of --channels, of at most this count as 0  [default: gates of 0; every channel of the file]",
)
@click.option(
    "--channels",
    "channel_file",
    type=click.Path(path_type=Path),
    help="CSV or JSON file of tensor, channel and score: the channels to remove; with --keep-macs, the ranking.",
)
@click.option(
    "--keep-macs",
    type=click.FloatRange(0, 1, min_open=True),
    help="Remove the lowest ranked channels until this share of MACs is left.",
)
@click.option(
    "--keep-channels",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="With --keep-macs: of every tensor at least this share of channels stays.",
)
@click.option(
    "--multiple-of",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="With --keep-macs: tensors keep a multiple of so many channels, which kernels like; 1 for any number.",
)
@click.option("--time/--no-time", "timed", default=True, show_default=True, help="Measure latency before and after.")
@click.option("--rounds", type=click.IntRange(1), default=50, show_default=True, help="Runs of each model to time.")
def command(
    request: RewriteRequest,
    threshold: float | None,
    channel_file: Path | None,
    keep_macs: float | None,
    keep_channels: float,
    multiple_of: int,
    timed: bool,
    rounds: int,
) -> None:
    """Remove channels of MODEL for good: those whose gate is 0, those that a file names, or the lowest ranked.

    The result has smaller weights and the same names, and computes what MODEL computes with these channels multiplied by 0;
    that is what the check compares it with. Channels that hang together go together. What cannot go is listed with the
    reason.

    Example: pgc-graph prune model.onnx -o small.onnx --keep-macs 0.5
    """
    from pgc_graph.studies.channel_file import read_channels

    rows = None if channel_file is None else read_channels(channel_file)
    if keep_macs is not None and rows is not None and threshold is not None:
        raise OptionError("--threshold and --keep-macs both decide what goes from --channels; give one of them")
    step = _prune_step(request, _Wish(rows, threshold, keep_macs, keep_channels, multiple_of))

    def measure(before: ir.Model, after: ir.Model) -> Any:
        from pgc_graph.runtime.shrinkage import compare_sizes

        return compare_sizes(before, after, runs=rounds if timed else 0, shapes=request.shapes)

    run_steps(request, [step], measure=measure, describe_measure=comparison_text)


@dataclass(frozen=True)
class _Wish:
    """What to remove, as the options say it."""

    rows: Mapping[str, Mapping[int, float | None]] | None
    threshold: float | None
    keep_macs: float | None
    keep_channels: float
    multiple_of: int


def _prune_step(request: RewriteRequest, wish: _Wish) -> Step:
    from pgc_cli.parity import check_parity
    from pgc_graph.passes.gates import gate_nodes
    from pgc_graph.passes.prune import prune_channels
    from pgc_graph.passes.prune.masks import zero_channels, zero_gates

    reference: list[ir.Model] = []

    def apply(model: ir.Model) -> Pruned:
        if wish.rows is None and wish.keep_macs is None and not gate_nodes(model):
            raise OptionError(f"{request.source} has no gates; say what goes with --channels or --keep-macs")
        gated = zero_gates(model, (wish.threshold or 0.0) if wish.rows is None else 0.0)
        channels = _chosen(gated, wish)
        reference.append(zero_channels(gated, channels))
        return prune_channels(gated, channels)

    def check(before: ir.Model, after: ir.Model, **options: Any) -> Any:
        from pgc_graph.runtime.shrinkage import ignores_inputs

        if ignores_inputs(after, seed=options["seed"], shapes=options["shapes"]):
            note("Warning: the pruned model puts out the same for every random input; too much was removed")
        return check_parity(reference[-1], after, **options)

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        count = sum(int(change.action.split()[0]) for change in rewrite.changes)
        return f"{count} channels removed from {len(rewrite.changes)} tensors"

    return Step("prune", apply, describe, check=check)


def _chosen(model: ir.Model, wish: _Wish) -> dict[str, list[int]]:
    """Return the channels to remove by tensor, beside those whose gate is 0."""
    from pgc_graph.passes.prune.choose import choose_channels

    if wish.keep_macs is not None:
        scores = None if wish.rows is None else _scores(wish.rows)
        return choose_channels(
            model, wish.keep_macs, scores, keep_channels=wish.keep_channels, multiple_of=wish.multiple_of
        )
    if wish.rows is None or wish.threshold is None:
        return {tensor: list(channels) for tensor, channels in (wish.rows or {}).items()}
    limit = wish.threshold
    small = {
        tensor: [c for c, score in found.items() if score <= limit] for tensor, found in _scores(wish.rows).items()
    }
    return {tensor: channels for tensor, channels in small.items() if channels}


def _scores(rows: Mapping[str, Mapping[int, float | None]]) -> dict[str, dict[int, float]]:
    scores: dict[str, dict[int, float]] = {}
    for tensor, channels in rows.items():
        for channel, score in channels.items():
            if score is None:
                raise OptionError(f"channel {channel} of {tensor!r} has no score; expected one for a ranking")
            scores.setdefault(tensor, {})[channel] = score
    return scores
