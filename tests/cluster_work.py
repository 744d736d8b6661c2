"""What tests have Ray workers do; a module of its own, since workers import it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from pgc_graph.errors import ModelError

Work = Callable[[int], tuple[int, str]]


def recorder(folder: Path) -> Work:
    """Leave a file for every time that the study is opened and every attempt at an item, and take a little time."""
    leave(folder, "opened")

    def work(item: int) -> tuple[int, str]:
        leave(folder, f"item-{item}")
        time.sleep(0.2)
        return item * item, node()

    return work


def lasting(folder: Path) -> Work:
    """Take a second for each item, and leave files that say on which node that begins and ends."""

    def work(item: int) -> tuple[int, str]:
        leave(folder, f"item-{item}")
        leave(folder, f"begun-{node()}")
        time.sleep(1)
        leave(folder, f"ended-{node()}")
        return item * item, node()

    return work


def dying_once(folder: Path) -> Work:
    """Kill the process at every first attempt at an odd item."""

    def work(item: int) -> tuple[int, str]:
        if item % 2 and leave(folder, f"item-{item}") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item, node()

    return work


def dying(folder: Path) -> Work:
    """Kill the process at every attempt."""

    def work(item: int) -> tuple[int, str]:
        leave(folder, f"item-{item}")
        os.kill(os.getpid(), signal.SIGKILL)
        return item, node()

    return work


def failing(folder: Path) -> Work:
    """Raise one of our errors for item 3."""

    def work(item: int) -> tuple[int, str]:
        leave(folder, f"item-{item}")
        if item == 3:
            raise ModelError("the model broke")
        return item * item, node()

    return work


def leave(folder: Path, name: str) -> int:
    """Leave a file that says so, and return how many of that name there are."""
    (folder / f"{name}.{os.getpid()}.{time.monotonic_ns()}").touch()
    return len(attempts(folder, name))


def attempts(folder: Path, name: str) -> list[Path]:
    return list(folder.glob(f"{name}.*"))


def node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
