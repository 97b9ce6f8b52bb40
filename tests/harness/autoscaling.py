"""A cluster of its own that grows and shrinks: Ray's autoscaler with its fake provider.

The nodes are raylets of this machine. ``ray.cluster_utils.AutoscalingCluster`` would end every
other cluster of the machine (``ray stop --force``), so the head is started as
:mod:`tests.harness.cluster` starts one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.harness.cluster import ROOT, LiveCluster, end, start
from tests.harness.ray_node import OBJECT_STORE_BYTES

NODE_TYPE = "ingest"
_COUNT = """
import json, ray
ray.init(logging_level="error")
print(json.dumps([one["NodeID"] for one in ray.nodes() if one["Alive"]]))
"""


@contextmanager
def growing_cluster(head_cpus: int, node_cpus: int, most: int) -> Iterator[LiveCluster]:
    """A head, to which nodes of one type are added for what waits and taken when they idle.

    Args:
        head_cpus: CPUs of the head.
        node_cpus: CPUs of each node.
        most: Nodes at most.
    """
    # Ray's sockets need a short path.
    folder = Path(tempfile.mkdtemp(prefix="rl-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = folder / "autoscaling.json"
    file.write_text(json.dumps(_configuration(f"127.0.0.1:{port}", head_cpus, node_cpus, most)))
    cluster = start(
        folder / "r",
        f"--port={port}",
        f"--num-cpus={head_cpus}",
        f"--autoscaling-config={file}",
        variables={"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"},
        monitor=True,
    )
    try:
        yield cluster
    finally:
        raylets = [p for p in psutil.process_iter(["cmdline"]) if _of(p, cluster.folder)]
        end(cluster)
        for process in raylets:
            if process.is_running():
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def nodes(cluster: LiveCluster) -> list[str]:
    """The ids of the nodes that live, the head's among them."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    told = subprocess.run(
        [sys.executable, "-c", _COUNT],
        env={**environment, **cluster.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: list[str] = json.loads(told.stdout.splitlines()[-1])
    return found


def _of(process: psutil.Process, folder: str) -> bool:
    return any(folder in part for part in process.info["cmdline"] or ())


def _configuration(address: str, head_cpus: int, node_cpus: int, most: int) -> dict[str, Any]:
    return {
        "cluster_name": "fake",
        "max_workers": most,
        "upscaling_speed": 10.0,
        # A new node idles until its first worker is up, which takes its time on a busy machine.
        "idle_timeout_minutes": 1.0,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            # All nodes have one address.
            "use_node_id_as_ip": True,
        },
        "available_node_types": {
            "ray.head.default": {
                "resources": {"CPU": head_cpus},
                "node_config": {},
                "max_workers": 0,
            },
            NODE_TYPE: {
                "resources": {"CPU": node_cpus, "object_store_memory": OBJECT_STORE_BYTES},
                "node_config": {},
                "min_workers": 0,
                "max_workers": most,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }
