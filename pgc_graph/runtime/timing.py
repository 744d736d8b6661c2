"""Latency of models side by side, measured so that the comparison is fair.

In each round every model runs once, in an order drawn anew, so that what disturbs the machine disturbs all of them and none
always runs behind the same neighbour. Threads of one session would spin for a while after its run and take cores from the
next one; they are told to stop. Profiles are recorded afterwards, in sessions of their own, since recording takes time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.errors import OptionError
from pgc_graph.runtime.contestants import Contestant, Shapes, open_contestant, prepare, profile_contestant
from pgc_graph.runtime.profile import OperatorProfile
from pgc_graph.runtime.providers import choose_provider
from pgc_graph.runtime.session import available_cores

__all__ = ["Latency", "TimingOptions", "TimingReport", "interleave", "time_models"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimingOptions:
    """What is measured, and how often.

    Attributes:
        provider: `auto`, `cpu`, `cuda` or `tensorrt`.
        threads: Threads inside one operator, one setting each; 0 lets onnxruntime take all cores.
        batch_sizes: Rows fed at once, one setting each; empty for what the models' inputs say, else 1.
        runs: Rounds a setting, None for as many as `seconds` allow.
        seconds: When to start no further round of a setting, None for never; one round is always run.
        warmup: Rounds before those that count.
        profile: Whether to record where the time goes.
        seed: Of the inputs and of the order in a round.
    """

    provider: str = "auto"
    threads: tuple[int, ...] = (0,)
    batch_sizes: tuple[int, ...] = ()
    runs: int | None = 100
    seconds: float | None = None
    warmup: int = 10
    profile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.threads or min(self.threads) < 0:
            raise OptionError(f"threads {self.threads} are impossible; expected one or more numbers from 0 (all cores)")
        if min(self.batch_sizes, default=1) < 1:
            raise OptionError(f"batch sizes {self.batch_sizes} are impossible; expected numbers from 1")
        if self.runs is None and self.seconds is None:
            raise OptionError("neither runs nor seconds were given; expected one of them, to know when to stop")
        if (self.runs is not None and self.runs < 1) or (self.seconds is not None and not self.seconds > 0):
            raise OptionError(
                f"{self.runs} runs in {self.seconds} seconds measure nothing; expected more than 0 of both"
            )
        if self.warmup < 0:
            raise OptionError(f"{self.warmup} rounds of warm-up are impossible; expected 0 or more")


@dataclass(frozen=True)
class Latency:
    """How long one model takes in one setting; times in milliseconds.

    Attributes:
        model: Its label.
        threads: Threads inside one operator; 0 for all cores.
        batch_size: Rows fed at once.
        runs: Runs measured.
        mean: Of all runs.
        min: The fastest run.
        p50: The median.
        p90: Nine runs in ten take no longer.
        p99: 99 runs in a hundred take no longer.
        rows_per_second: At the median.
        ratio: Median over the median of the first model in the same setting; below 1 is faster.
    """

    model: str
    threads: int
    batch_size: int
    runs: int
    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    rows_per_second: float
    ratio: float


@dataclass(frozen=True)
class TimingReport:
    """What was measured.

    Attributes:
        provider: Where the models ran: `cpu`, `cuda` or `tensorrt`.
        onnxruntime: Its version.
        cores: That this process may use.
        warmup: Rounds before those that count.
        interrupted: Whether it was stopped early; then the rest covers what was done.
        latencies: By setting, in the order of the models.
        profiles: Likewise; empty if none were asked for.
    """

    provider: str
    onnxruntime: str
    cores: int
    warmup: int
    interrupted: bool
    latencies: tuple[Latency, ...]
    profiles: tuple[OperatorProfile, ...]


def time_models(
    models: Sequence[tuple[str, ir.Model]],
    options: TimingOptions | None = None,
    *,
    shapes: Shapes | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_setting: Callable[[int, int], None] = lambda threads, batch_size: None,
) -> TimingReport:
    """Measure the latency of models side by side, on the random inputs of `random_feeds`.

    Args:
        models: Labels and models; ratios are against the first.
        options: Settings, how often, on what.
        shapes: Shapes of inputs by name; a batch size of the options wins over an open first dimension.
        stop: Asked between rounds; once it says yes, what was measured so far is returned.
        on_setting: Told threads and batch size before a setting is measured.

    Raises:
        OptionError: No model; a shape or a batch size that does not fit.
        UnsupportedError: Inputs for a model cannot be drawn.
        ModelError: onnxruntime refuses a model or fails to run it; the message names it.
        ProviderError: The requested provider cannot run here.
    """
    import onnxruntime

    options = options or TimingOptions()
    provider = choose_provider(options.provider)
    contestants = prepare(models, shapes=shapes or {}, batch_sizes=options.batch_sizes, seed=options.seed)
    settings = [(threads, batch) for threads in options.threads for batch in contestants[0].feeds]
    latencies: list[Latency] = []
    profiles: list[OperatorProfile] = []
    for threads, batch in settings:
        if stop():
            break
        on_setting(threads, batch)
        latencies += _measure(contestants, (threads, batch), provider, options, stop)
    for threads, batch in settings if options.profile else ():
        profiles += [
            profile_contestant(item, threads, batch, provider, warmup=options.warmup)
            for item in contestants
            if not stop()
        ]
    return TimingReport(
        provider=provider,
        onnxruntime=onnxruntime.__version__,
        cores=available_cores(),
        warmup=options.warmup,
        interrupted=stop(),
        latencies=tuple(latencies),
        profiles=tuple(profiles),
    )


def interleave(
    actions: Sequence[Callable[[], object]],
    *,
    runs: int | None,
    seconds: float | None = None,
    warmup: int = 0,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[tuple[float, ...], ...]:
    """Run actions in rounds, each once a round in an order drawn anew, and time each.

    Args:
        actions: What to time.
        runs: Rounds that count, None for no limit.
        seconds: No round starts after so long since the first one that counts; None for no limit.
        warmup: Rounds before, not returned.
        seed: Of the order.
        stop: Asked before each round.

    Returns:
        Milliseconds of every run by action, all of the same number.
    """
    generator = np.random.default_rng(seed)
    times: list[list[float]] = [[] for _ in actions]
    start = time.perf_counter()
    done = -warmup
    while runs is None or done < runs:
        if stop() or (done > 0 and seconds is not None and time.perf_counter() - start >= seconds):
            break
        start = time.perf_counter() if done == 0 else start
        for index in generator.permutation(len(actions)):
            before = time.perf_counter_ns()
            actions[index]()
            elapsed = time.perf_counter_ns() - before
            if done >= 0:
                times[index].append(elapsed / 1e6)
        done += 1
    return tuple(tuple(values) for values in times)


def _measure(
    contestants: Sequence[Contestant],
    setting: tuple[int, int],
    provider: str,
    options: TimingOptions,
    stop: Callable[[], bool],
) -> list[Latency]:
    threads, batch = setting
    actions = [open_contestant(item, threads, batch, provider) for item in contestants]
    logger.debug("%d models, %d threads, batch %d", len(actions), threads, batch)
    times = interleave(
        actions, runs=options.runs, seconds=options.seconds, warmup=options.warmup, seed=options.seed, stop=stop
    )
    if not times[0]:
        return []
    first = float(np.percentile(times[0], 50))
    return [_latency(item.label, setting, values, first) for item, values in zip(contestants, times, strict=True)]


def _latency(label: str, setting: tuple[int, int], milliseconds: Sequence[float], first: float) -> Latency:
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    return Latency(
        model=label,
        threads=setting[0],
        batch_size=setting[1],
        runs=len(milliseconds),
        mean=float(np.mean(milliseconds)),
        min=min(milliseconds),
        p50=p50,
        p90=p90,
        p99=p99,
        rows_per_second=1e3 * setting[1] / p50,
        ratio=p50 / first,
    )
