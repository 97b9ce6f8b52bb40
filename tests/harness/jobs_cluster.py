"""A Ray cluster with token authentication and the Jobs API, one for all tests of a worker."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raylake.storage.dev import KEY as STORE_KEY
from tests.harness import cluster as harness


@dataclass
class JobsCluster:
    """A head node with its dashboard."""

    live: harness.LiveCluster
    url: str
    password: str
    faults: Path
    agent_url: str


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def jobs_cluster() -> Iterator[JobsCluster]:
    folder = Path(tempfile.mkdtemp(prefix="rj-"))
    armed = folder / "faults"
    (armed / "armed").mkdir(parents=True)
    password = secrets.token_hex(16)
    dashboard, agent, grpc, metrics = free_ports(4)
    options = [
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"),
        f"--metrics-export-port={metrics}",
    ]
    variables = {
        # The job's entry point is `python`, as in an image.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAYLAKE_FAULTS": str(armed),
        "PLANTED": password,
        "LAKE_KEY": STORE_KEY,
    }
    live = harness.start(folder / "r", *options, variables=variables, dashboard=True)
    urls = [f"http://127.0.0.1:{port}" for port in (dashboard, agent)]
    yield JobsCluster(live, urls[0], password, armed, urls[1])
    harness.end(live)
    shutil.rmtree(folder, ignore_errors=True)
