"""Work on a real Ray cluster of several nodes on this machine, which lose workers and nodes in the middle of it."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cluster_work
from pgc_graph.errors import ModelError, OptionError, ProviderError
from pgc_graph.runtime.cluster import RETRIES, ClusterOptions, cluster_cores, connected, map_in_order
from ray_nodes import ray_nodes


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        pytest.param("127.0.0.1:1", ProviderError, "no Ray cluster answers at 127.0.0.1:1", id="nobody-there"),
        pytest.param("ray://127.0.0.1:1", ProviderError, "no Ray cluster answers at ray://", id="nobody-there-client"),
        pytest.param("nowhere.invalid:6379", ProviderError, "ray start --head", id="no-such-host"),
        pytest.param("127.0.0.1", OptionError, "expected HOST:PORT", id="no-port"),
    ],
)
def test_address_without_a_cluster_is_one_line_at_once(address: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised, connected(ClusterOptions(address)):
        raise AssertionError("connected to nobody")
    assert "\n" not in str(raised.value)


def test_missing_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ProviderError, match=r"pip install 'pgc-graph\[distributed\]'"),
        connected(ClusterOptions()),
    ):
        raise AssertionError("connected without ray")


def test_fewer_than_no_cores_are_refused() -> None:
    with pytest.raises(OptionError, match="-1 cores are impossible"):
        ClusterOptions(cores=-1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_nodes(2) as nodes:
        yield nodes


@pytest.mark.slow
class TestNodes:
    def test_results_come_in_order_each_once_and_are_opened_once_a_process(self, cluster: Any, tmp_path: Path) -> None:
        found = list(map_in_order(cluster_work.recorder, tmp_path, range(20)))
        assert [(item, result[0]) for item, result in found] == [(item, item**2) for item in range(20)]
        assert len({result[1] for _, result in found}) == 2
        opened = [path.name.split(".")[1] for path in cluster_work.attempts(tmp_path, "opened")]
        assert len(opened) == len(set(opened))
        assert {path.name.split(".")[1] for path in tmp_path.glob("item-*")} == set(opened)
        assert all(len(cluster_work.attempts(tmp_path, f"item-{item}")) == 1 for item in range(20))

    def test_no_more_is_taken_than_the_cluster_can_chew(self, cluster: Any, tmp_path: Path) -> None:
        taken = itertools.count()
        most, done = 0, 0
        for _ in map_in_order(cluster_work.recorder, tmp_path, (next(taken) for _ in range(40))):
            done += 1
            most = max(most, int(repr(taken).strip("count()")) - done)
        assert (done, cluster_cores()) == (40, 2)
        assert 2 <= most <= 8

    def test_fewer_cores_than_there_are(self, cluster: Any, tmp_path: Path) -> None:
        found = list(map_in_order(cluster_work.recorder, tmp_path, range(6), cores=1))
        assert [item for item, _ in found] == list(range(6))
        times = sorted(int(path.name.split(".")[2]) for path in tmp_path.glob("item-*"))
        assert all(after - before >= 0.2e9 for before, after in itertools.pairwise(times))

    def test_stop_gives_what_is_done_in_order(self, cluster: Any, tmp_path: Path) -> None:
        found: list[int] = []
        for item, _ in map_in_order(cluster_work.recorder, tmp_path, range(100), stop=lambda: len(found) >= 4):
            found.append(item)
        assert found[:4] == [0, 1, 2, 3]
        assert found == sorted(set(found))
        assert len(found) <= 12

    def test_error_of_a_worker_arrives_as_it_was_raised(self, cluster: Any, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"^the model broke$"):
            list(map_in_order(cluster_work.failing, tmp_path, range(8)))

    def test_worker_that_dies_is_replaced_and_nothing_is_counted_twice(self, cluster: Any, tmp_path: Path) -> None:
        found = list(map_in_order(cluster_work.dying_once, tmp_path, range(6)))
        assert [(item, result[0]) for item, result in found] == [(item, item**2) for item in range(6)]
        assert [len(cluster_work.attempts(tmp_path, f"item-{item}")) for item in (1, 3, 5)] == [2, 2, 2]

    def test_item_that_kills_every_worker_is_given_up(self, cluster: Any, tmp_path: Path) -> None:
        with pytest.raises(ProviderError, match=f"was lost {RETRIES + 1} times") as raised:
            list(map_in_order(cluster_work.dying, tmp_path, [0]))
        assert "\n" not in str(raised.value)
        assert len(cluster_work.attempts(tmp_path, "item-0")) == RETRIES + 1

    def test_node_that_dies_is_survived_and_a_new_one_taken(self, cluster: Any, tmp_path: Path) -> None:
        third = cluster.add_node(num_cpus=1)

        def is_at_work(node: Any) -> bool:
            begun, ended = (cluster_work.attempts(tmp_path, f"{what}-{node.node_id}") for what in ("begun", "ended"))
            return len(begun) > len(ended)

        found: list[tuple[int, int]] = []
        killed = False

        def items() -> Iterator[int]:
            # A node that joins on a busy machine takes its time: there is work until it has got some, and a little after.
            yield from itertools.takewhile(lambda item: not killed, range(3000))
            yield from range(3000, 3010)

        for item, (square, _) in map_in_order(cluster_work.lasting, tmp_path, items()):
            found.append((item, square))
            if not killed and is_at_work(third):
                cluster.remove_node(third, allow_graceful=False)
                time.sleep(2)  # a worker may outlive its node for long enough to hand in what it had begun:
                killed = is_at_work(third)  # then the next node is killed
                third = cluster.add_node(num_cpus=1)
        assert killed
        done = [item for item, _ in found]
        assert done == [*range(len(done) - 10), *range(3000, 3010)]
        assert found == [(item, item**2) for item in done]
        assert sum(len(cluster_work.attempts(tmp_path, f"item-{item}")) for item in done) > len(done)
