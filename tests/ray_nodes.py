"""Ray clusters of several nodes on this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgc_graph.runtime.cluster import ClusterOptions, connected


@contextlib.contextmanager
def ray_nodes(count: int) -> Iterator[Any]:
    """Yield Ray's own cluster utility: a head without cores and some nodes of one core each, this process connected."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment.setenv("PYTHONPATH", os.pathsep.join(paths))  # workers import `cluster_work`
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(count):
                cluster.add_node(num_cpus=1)
            with connected(ClusterOptions(cluster.address)):
                yield cluster
        finally:
            cluster.shutdown()
