"""What an ablation leaves on disk: the scores of each image and gate, and a chart."""

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
    from pgc_graph.studies.ablation import Saving

__all__ = ["SaveRequest", "save_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class SaveRequest:
    """Where scores and the chart go, if anywhere, and whether to go on with a run that was killed or interrupted."""

    path: Path | None
    resume: bool
    chart: Path | None

    def check(self, inputs: Sequence[Path]) -> None:
        """Find out before the work, not after it, that a file cannot be written.

        Raises:
            OptionError: A file's name or folder does not fit, it is one of the inputs, there is an unfinished run that is
                not to be resumed, or there is nothing to resume to.
        """
        if self.path is not None:
            from pgc_graph.studies.ablation.saving.keeper import Saving, summary_path

            for output in (self.path, summary_path(self.path)):
                check_output(output, tuple(inputs), force=False)
            Saving(self.path, self.resume).check()
        elif self.resume:
            raise OptionError("--resume goes on with what --save has left; give --save FILE as before")
        if self.chart is not None:
            from pgc_graph.render.charts import check_chart_path

            check_chart_path(self.chart)
            check_output(self.chart, tuple(inputs), force=False)

    def saving(self, model_path: Path) -> Saving | None:
        """Return where the scores go."""
        if self.path is None:
            return None
        from pgc_graph.studies.ablation import Saving

        return Saving(self.path, self.resume, model_path)


def save_options(function: Function) -> Function:
    """--save, --resume and --chart, handed over as `save: SaveRequest`."""
    path = click.Path(path_type=Path)

    @click.option(
        "--save",
        "save_path",
        type=path,
        help="Write the scores of each image and gate to a .parquet, .csv, .json or .npz file, and a summary beside it.",
    )
    @click.option("--resume", is_flag=True, help="Go on with a run with --save that was killed or interrupted.")
    @click.option("--chart", type=path, help="Draw mean Δ with its 95 % interval, by label, to a .png file.")
    @functools.wraps(function)
    def wrapper(*args: Any, save_path: Path | None, resume: bool, chart: Path | None, **kwargs: Any) -> Any:
        return function(*args, save=SaveRequest(save_path, resume, chart), **kwargs)

    return wrapper  # type: ignore[return-value]
