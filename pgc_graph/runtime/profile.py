"""Where a model's time goes: onnxruntime's own profile, added up by operator and by node.

What is listed is what onnxruntime runs after it rewrote the graph (a Conv with its Relu is one `FusedConv`). The time of
a node with subgraphs (If, Loop, Scan) is its own alone; what ran inside is listed by itself, so that all times add up to
what was spent in operators. The clock of a profile counts whole microseconds, cut off: tiny nodes look a little faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["NodeTime", "OperatorProfile", "OperatorTime", "read_profile"]

_KERNEL = "_kernel_time"
Event = Mapping[str, Any]


@dataclass(frozen=True)
class OperatorTime:
    """What all nodes of one operator take together.

    Attributes:
        op_type: The operator, as onnxruntime calls it.
        nodes: How many nodes.
        milliseconds: Mean of one run of the model.
        share: Of the time spent in operators, in [0, 1].
    """

    op_type: str
    nodes: int
    milliseconds: float
    share: float


@dataclass(frozen=True)
class NodeTime:
    """What one node takes.

    Attributes:
        node: Its name, or the one that onnxruntime made up for it.
        op_type: The operator, as onnxruntime calls it.
        calls: In all runs together; more than the runs inside a loop.
        milliseconds: Mean of one run of the model.
        share: Of the time spent in operators, in [0, 1].
    """

    node: str
    op_type: str
    calls: int
    milliseconds: float
    share: float


@dataclass(frozen=True)
class OperatorProfile:
    """The profile of one model.

    Attributes:
        model: Its label.
        threads: Threads inside one operator; 0 for all cores.
        batch_size: Rows fed at once.
        runs: Runs profiled, after those that warmed up.
        run_milliseconds: Mean of one run from start to end, profiling included.
        operator_milliseconds: The part of it that was spent in operators.
        operators: Slowest first.
        nodes: Slowest first.
    """

    model: str
    threads: int
    batch_size: int
    runs: int
    run_milliseconds: float
    operator_milliseconds: float
    operators: tuple[OperatorTime, ...]
    nodes: tuple[NodeTime, ...]


def read_profile(
    events: Sequence[Event], *, model: str, threads: int, batch_size: int, warmup: int = 0
) -> OperatorProfile:
    """Add up the events that onnxruntime's profiling recorded.

    Args:
        events: The parsed profile, in the trace event format of Chromium; times in microseconds.
        model: A label.
        threads: What the session was given.
        batch_size: What it was fed.
        warmup: So many runs at the start are left out.
    """
    spans = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")[warmup:]
    begin = spans[0][0] if spans else float("inf")
    kernels = [
        event for event in events if event["cat"] == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= begin
    ]
    own: Counter[tuple[str, str]] = Counter()
    calls: Counter[tuple[str, str]] = Counter()
    for event, microseconds in _own_times(kernels):
        key = event["name"].removesuffix(_KERNEL), event["args"]["op_name"]
        own[key] += microseconds
        calls[key] += 1
    runs, total = len(spans), sum(own.values())
    per_run, whole = 1e3 * max(1, runs), max(1, total)
    nodes = [NodeTime(*key, calls[key], time / per_run, time / whole) for key, time in own.most_common()]
    return OperatorProfile(
        model=model,
        threads=threads,
        batch_size=batch_size,
        runs=runs,
        run_milliseconds=sum(duration for _, duration in spans) / per_run,
        operator_milliseconds=total / per_run,
        operators=_by_operator(nodes),
        nodes=tuple(nodes),
    )


def _own_times(kernels: Iterable[Event]) -> list[tuple[Event, int]]:
    """Return each event with its duration less that of the events inside it (the nodes of a subgraph)."""
    ordered = sorted(kernels, key=lambda event: (event["tid"], event["ts"], -event["dur"]))
    own = [int(event["dur"]) for event in ordered]
    around: list[int] = []
    for index, event in enumerate(ordered):
        while around and not _is_inside(event, ordered[around[-1]]):
            around.pop()
        if around:
            own[around[-1]] -= int(event["dur"])
        around.append(index)
    return [(event, max(0, microseconds)) for event, microseconds in zip(ordered, own, strict=True)]


def _is_inside(event: Event, outer: Event) -> bool:
    return bool(event["tid"] == outer["tid"] and event["ts"] < outer["ts"] + outer["dur"])


def _by_operator(nodes: Sequence[NodeTime]) -> tuple[OperatorTime, ...]:
    grouped: dict[str, list[NodeTime]] = {}
    for node in nodes:
        grouped.setdefault(node.op_type, []).append(node)
    times = [
        OperatorTime(op_type, len(group), sum(node.milliseconds for node in group), sum(node.share for node in group))
        for op_type, group in grouped.items()
    ]
    return tuple(sorted(times, key=lambda time: -time.milliseconds))
