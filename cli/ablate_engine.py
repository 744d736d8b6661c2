"""Where `pgc-graph ablate` computes: on this machine, or on a Ray cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    from pgc_cli.ablate_options import Study
    from pgc_cli.ablate_report import Printer
    from pgc_cli.save_options import SaveRequest
    from pgc_graph.sources import ImageSource
    from pgc_graph.studies.ablation import AblationResult, Measure

__all__ = ["EngineRequest", "engine_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class EngineRequest:
    """Which engine computes, and where it is found."""

    name: str = "local"
    address: str | None = None
    shard_images: int = 0

    def __post_init__(self) -> None:
        if self.name == "local" and (self.address is not None or self.shard_images):
            option = "--address" if self.address is not None else "--shard-images"
            raise OptionError(f"{option} has no meaning without --engine ray; leave it out, or add that")

    def check(self, save: SaveRequest) -> None:
        """Find out before the work that the engine cannot do what is asked.

        Raises:
            OptionError: Scores of single images are to be saved, which workers do not send back.
        """
        if self.name == "ray" and save.path is not None:
            raise OptionError(f"--save {save.path} needs --engine local: workers of ray send figures back, not scores")

    def ablate(
        self,
        study: Study,
        source: ImageSource,
        measure: Measure,
        save: SaveRequest,
        printer: Printer,
        stop: Callable[[], bool],
    ) -> AblationResult:
        """Ablate and let the printer see what is done on the way.

        Raises:
            PgcGraphError: As `ablate` and `ablate_on_cluster`.
        """
        from pgc_graph.runtime.cluster import ClusterOptions
        from pgc_graph.studies.ablation import ablate, ablate_on_cluster

        asked: dict[str, Any] = {
            "preprocess": study.preprocess,
            "intervention": study.intervention,
            "measure": measure,
            "runtime": study.runtime,
            "stop": stop,
        }
        if self.name == "local":
            asked |= {"saving": save.saving(study.model_path), "on_resume": printer.resume}
            return ablate(study.model, source, study.targets, on_batch=printer.batch, **asked)
        cluster = ClusterOptions(self.address, study.runtime.threads)
        asked |= {"cluster": cluster, "shard_images": self.shard_images, "on_shard": printer.shard}
        return ablate_on_cluster(study.model, source, study.targets, **asked)


def engine_options(function: Function) -> Function:
    """--engine, --address and --shard-images, handed over as `engine: EngineRequest`."""

    @click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where images are scored: here, or by a Ray cluster whose nodes all see them under the same paths; "
        "--threads is then how many cores of it to use.",
    )
    @click.option(
        "--address",
        metavar="HOST:PORT",
        help="With --engine ray: the cluster; auto = one that runs here  [default: one of this machine's cores]",
    )
    @click.option(
        "--shard-images",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="With --engine ray: images a core scores in one go; 0 = some seconds' worth.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, engine: str, address: str | None, shard_images: int, **kwargs: Any) -> Any:
        return function(*args, engine=EngineRequest(engine, address, shard_images), **kwargs)

    return wrapper  # type: ignore[return-value]
