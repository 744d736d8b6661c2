"""Work on a Ray cluster: one call a core, results in the order of the items, lost ones computed again.

Ray (https://docs.ray.io) schedules, moves objects and retries; here it is decided how much is asked of it at a time, so
that memory does not grow with the number of items, and what its failures mean to a user. The only importer of ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pgc_graph.errors import OptionError, PgcGraphError, ProviderError
from pgc_graph.runtime.session import available_cores

__all__ = ["ClusterOptions", "cluster_cores", "connected", "map_in_order"]

logger = logging.getLogger(__name__)

RETRIES = 8
"""How often an item is computed again whose worker or node died."""

_QUEUED = 2  # items a core that are computed or wait for the core
_HELD = 4  # items a core in all, those included that wait for one before them
_POLL_SECONDS = 0.5
_RESOURCES_SECONDS = 2.0
_DIAL_SECONDS = 5.0

Common = TypeVar("Common")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster.

    Attributes:
        address: `HOST:PORT`, `ray://HOST:PORT` or `auto` (one that runs on this machine); None for one of this machine's
            cores that lasts as long as the work.
        cores: How many items are computed at once; 0 for as many as the cluster has cores.
    """

    address: str | None = None
    cores: int = 0

    def __post_init__(self) -> None:
        if self.cores < 0:
            raise OptionError(f"{self.cores} cores are impossible; expected at least 1, or 0 for all")


@contextlib.contextmanager
def connected(options: ClusterOptions) -> Iterator[None]:
    """Connect this process to a cluster, unless it already is, and disconnect it in the end.

    Raises:
        ProviderError: Ray is not installed, or the cluster cannot be reached.
        OptionError: The address is none.
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if options.address is None:
        # What is started here is private: it reports nothing to Ray's makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet |= {"num_cpus": options.cores or available_cores(), "include_dashboard": False}
    else:
        _dial(options.address)
    try:
        ray.init(address=options.address or "local", **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        place = options.address or "this machine"
        raise ProviderError(
            f"cannot use Ray at {place}: {' '.join(str(error).split())[:300]}; start a cluster by: ray start --head"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def cluster_cores() -> int:
    """Return how many cores the cluster that this process is connected to has at the moment."""
    return int(_ray().cluster_resources().get("CPU", 0))


def map_in_order(
    opener: Callable[[Common], Callable[[Item], Result]],
    common: Common,
    items: Iterable[Item],
    *,
    cores: int = 0,
    stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Compute something for every item on the cluster and yield the results in the order of the items, each once.

    Args:
        opener: Called once in every worker process, on `common`; what it returns is called on the items. Both are
            functions of a module that workers can import.
        common: What all items need; sent once a node.
        items: Taken as they are needed.
        cores: How many items are computed at once; 0 for as many as the cluster has cores.
        stop: Asked now and then; once it says True, what is done is yielded and the rest given up.

    Raises:
        PgcGraphError: As a worker raised it.
        ProviderError: An item was lost again and again, or workers cannot run this package.
    """
    ray = _ray()
    stopped = stop or (lambda: False)
    task = ray.remote(_work).options(num_cpus=1, max_retries=RETRIES)
    held = [ray.put(common)]
    room = _Room(cores)
    todo = enumerate(items)
    running: dict[Any, tuple[int, Item]] = {}
    done: dict[int, tuple[Item, Result]] = {}
    following = 0
    try:
        while not stopped():
            for index, item in _taken(todo, room, running, done):
                running[task.remote(opener, held, item)] = (index, item)
            if not running:
                break
            _gather(running, done, _POLL_SECONDS)
            while following in done:
                yield done.pop(following)
                following += 1
        else:
            _gather(running, done, 0)
        for index in sorted(done):
            yield done[index]
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


class _Room:
    """How much may be asked of the cluster; it follows the cluster's size, which is looked up now and then."""

    def __init__(self, cores: int) -> None:
        self._cores, self._found, self._looked = cores, 0, -_RESOURCES_SECONDS

    def computed(self) -> int:
        """Return how many items may be computed or wait for a core."""
        return self._cores or _QUEUED * self._available()

    def held(self) -> int:
        """Return how many items may be computed, or be done and wait for one before them."""
        return _HELD * (self._cores or self._available())

    def _available(self) -> int:
        if time.monotonic() - self._looked >= _RESOURCES_SECONDS:
            found = cluster_cores()
            if not found and self._found >= 0:
                logger.warning("the Ray cluster has no core; waiting for a node to join")
            self._found, self._looked = found or -1, time.monotonic()
        return max(self._found, 1)


def _taken(
    todo: Iterator[tuple[int, Item]], room: _Room, running: dict[Any, Any], done: dict[int, Any]
) -> Iterator[tuple[int, Item]]:
    """Yield the items that there is room for; the caller adds each to `running`."""
    while len(running) < room.computed() and len(running) + len(done) < room.held():
        following = next(todo, None)
        if following is None:
            return
        yield following


def _gather(running: dict[Any, tuple[int, Item]], done: dict[int, tuple[Item, Any]], seconds: float) -> None:
    """Move what has been computed from `running` to `done`; wait for one at most so many seconds."""
    ray = _ray()
    if not running:
        return
    ready, _ = ray.wait(list(running), num_returns=1, timeout=seconds)
    if ready:
        ready, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
    for reference in ready:
        index, item = running[reference]
        done[index] = (item, _result(reference))
        del running[reference]


def _result(reference: Any) -> Any:
    """Return what a worker returned, or raise what it raised as one of our errors."""
    ray = _ray()
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, PgcGraphError):
            raise type(cause)(str(cause)) from error
        if "No module named" in str(cause) or isinstance(cause, ImportError):
            reason = str(cause).strip().splitlines()[-1]
            raise ProviderError(
                f"a Ray worker cannot load pgc-graph ({reason}); install the same version on every node"
            ) from error
        raise
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ProviderError(
            f"a part of the work was lost {RETRIES + 1} times ({reason}); see the memory and the logs of the nodes"
        ) from error


_opened: dict[str, Callable[[Any], Any]] = {}
"""What the opener returned in this worker process; Ray keeps processes from task to task, and one study is enough."""


def _work(opener: Callable[[Any], Callable[[Any], Any]], held: list[Any], item: Any) -> Any:
    """Run on a worker: open what is common to all items once a process, and compute one item."""
    key = held[0].hex()
    if key not in _opened:
        _opened.clear()
        _opened[key] = opener(_ray().get(held[0]))
    return _opened[key](item)


def _dial(address: str) -> None:
    """Find out in seconds that nobody answers at an address, for which Ray takes minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise OptionError(f"Ray address {address!r} makes no sense; expected HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_DIAL_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ProviderError(
            f"no Ray cluster answers at {address} ({error}); start one by: ray start --head, or leave --address out"
        ) from error


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ProviderError("engine ray needs ray, which is missing; pip install 'pgc-graph[distributed]'") from error
    return ray
