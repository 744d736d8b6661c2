"""What `pgc-graph ablate --per-channel` and `--cumulative` can be asked, and with what they do not go together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_cli.options import check_output
from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    from pgc_cli.ablate_engine import EngineRequest
    from pgc_cli.save_options import SaveRequest

__all__ = ["RemovalRequest", "removal_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class RemovalRequest:
    """Whether channels are changed one by one, and whether removals are added up."""

    per_channel: bool
    threshold: float
    top: int
    cumulative: bool
    steps: int
    chart: Path | None

    def check(
        self,
        save: SaveRequest,
        engine: EngineRequest,
        inputs: Sequence[Path],
        *,
        planned: bool,
        stats: bool,
        costs: bool,
    ) -> None:
        """See that the options fit, before the work.

        Args:
            save: What is written.
            engine: Where it is computed.
            inputs: Files that no output may replace.
            planned: Whether a plan is asked for, which is one for tensors.
            stats: Whether the spread of tensors is asked for.
            costs: Whether what tensors cost is asked for.

        Raises:
            OptionError: They do not, or the chart cannot be written.
        """
        if self.per_channel and planned:
            raise OptionError("--explain and --save-plan are about whole tensors; leave out --per-channel")
        given = {
            "--save": save.path is not None,
            "--resume": save.resume,
            "--chart": save.chart is not None,
            "--stats": stats,
            "--costs": costs,
        }
        for option in (name for name, is_given in given.items() if is_given and self.per_channel):
            more = "; --json has the quantiles of each channel" if option == "--stats" else ""
            raise OptionError(f"{option} is about whole tensors; leave it out, or --per-channel{more}")
        for option in ("--per-channel", "--cumulative"):
            if engine.name == "ray" and (self.per_channel if option == "--per-channel" else self.cumulative):
                raise OptionError(f"{option} runs on this machine alone; leave it out, or --engine ray")
        if self.chart is not None:
            if not self.cumulative:
                raise OptionError("--cumulative-chart draws what --cumulative finds; add --cumulative")
            from pgc_graph.render.charts import check_chart_path

            check_chart_path(self.chart)
            check_output(self.chart, tuple(inputs), force=False)


def removal_options(function: Function) -> Function:
    """--per-channel, --cumulative and theirs, handed over as `removal: RemovalRequest`."""

    @click.option("--per-channel", is_flag=True, help="Change every channel of the tensors on its own.")
    @click.option(
        "--channel-threshold",
        type=click.FloatRange(0, min_open=True),
        default=0.001,
        show_default=True,
        help="With --per-channel: the |mean Δ| from which on a channel matters.",
    )
    @click.option(
        "--top-channels",
        type=click.IntRange(0),
        default=20,
        show_default=True,
        help="With --per-channel: channels to print; --json has them all.",
    )
    @click.option(
        "--cumulative", is_flag=True, help="Also remove one after another, the lowest rank first, and score each step."
    )
    @click.option(
        "--cumulative-steps",
        type=click.IntRange(0),
        default=100,
        show_default=True,
        help="With --cumulative: points of the curve, evenly spread; 0 for one a removal.",
    )
    @click.option(
        "--cumulative-chart", type=click.Path(path_type=Path), help="With --cumulative: draw the curve to a PNG file."
    )
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        names = ["per_channel", "channel_threshold", "top_channels"]
        names += ["cumulative", "cumulative_steps", "cumulative_chart"]
        return function(*args, removal=RemovalRequest(*(kwargs.pop(name) for name in names)), **kwargs)

    return wrapper  # type: ignore[return-value]
