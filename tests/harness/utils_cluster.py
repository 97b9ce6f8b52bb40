"""A cluster of ``ray.cluster_utils``: ``python -m tests.harness.utils_cluster FOLDER CPUS NODES``.

In a process of its own: Ray reads the token once a process, and the tests know other clusters.
Prints a line of JSON when it is up, and goes on until it is ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.harness.cluster import ROOT, kill_tree
from tests.harness.ray_node import OBJECT_STORE_BYTES

LOOPBACK = "127.0.0.1"


@contextmanager
def utils_cluster(
    folder: Path, environment: dict[str, str], *, cpus: int, nodes: int
) -> Iterator[dict[str, str]]:
    """A head and further nodes, each with so many CPUs; ended with the block.

    Yields:
        ``address`` of the GCS and ``url`` of the dashboard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "cluster.log"
    words = [sys.executable, "-m", __name__, str(folder), str(cpus), str(nodes)]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with log.open("wb") as out:
        began = subprocess.Popen(
            words,
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        )
    one = psutil.Process(began.pid)
    try:
        assert began.stdout is not None
        line = began.stdout.readline()
        if not line.startswith("{"):
            raise RuntimeError(f"no cluster: {line}{log.read_text()[-3000:]}")
        yield json.loads(line)
    finally:
        kill_tree(one)
        began.wait()


def main() -> None:
    from ray.cluster_utils import Cluster

    from tests.harness.jobs_cluster import free_ports

    folder, cpus, nodes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dashboard, agent, grpc, metrics = free_ports(4)
    common = {
        "num_cpus": cpus,
        "object_store_memory": OBJECT_STORE_BYTES,
        "node_ip_address": LOOPBACK,
        "include_log_monitor": False,
    }
    cluster = Cluster()
    cluster.add_node(
        **common,
        temp_dir=folder,
        include_dashboard=True,
        dashboard_host=LOOPBACK,
        dashboard_port=dashboard,
        dashboard_agent_listen_port=agent,
        metrics_agent_port=grpc,
        metrics_export_port=metrics,
    )
    for _ in range(nodes):
        cluster.add_node(**common)
    told = {"address": cluster.address, "url": f"http://{LOOPBACK}:{dashboard}"}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
