"""Lakes whose runs are submitted: to this machine, to a cluster with a token, to several nodes."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import raylake
from raylake.client.run import Run
from raylake.errors import RayLakeError
from tests.harness.broker import LiveBroker
from tests.harness.cluster import ROOT
from tests.harness.jobs_cluster import JobsCluster, free_ports

GOOD = 300
POISON = 3
TOTAL = GOOD + POISON

_SEVERAL_NODES = """
import json, sys, time
from ray.cluster_utils import Cluster
port, agent, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
cluster = Cluster(
    initialize_head=True,
    head_node_args={
        "num_cpus": 4, "include_dashboard": True, "dashboard_host": "127.0.0.1",
        "dashboard_port": port, "dashboard_agent_listen_port": agent, "temp_dir": folder,
        "object_store_memory": 80_000_000,
    },
)
cluster.add_node(num_cpus=4, object_store_memory=80_000_000)
print(json.dumps({"address": cluster.address}), flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass
class Target:
    """Where runs go, and what a client needs for it."""

    kind: str
    address: str | None
    token: str | None


@pytest.fixture(scope="session")
def several_nodes() -> Iterator[Target]:
    """Two nodes by ``ray.cluster_utils``, with the Jobs API and a token."""
    dashboard, agent = free_ports(2)
    token = secrets.token_hex(32)
    folder = tempfile.mkdtemp(prefix="rn-")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_worker_niceness": "0",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with (Path(folder) / "head.log").open("wb") as log:
        head = subprocess.Popen(
            [sys.executable, "-c", _SEVERAL_NODES, str(dashboard), str(agent), folder],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert head.stdout is not None
    line = head.stdout.readline()
    assert line, (Path(folder) / "head.log").read_text()[-3000:]
    assert json.loads(line)["address"]
    yield Target("several nodes", f"http://127.0.0.1:{dashboard}", token)
    family = psutil.Process(head.pid).children(recursive=True)
    head.communicate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for one in alive:
        one.kill()


@pytest.fixture(params=["process", "token cluster", "several nodes"])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Each place in turn; this process knows the token."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "process":
        made = Target("process", None, None)
    elif request.param == "token cluster":
        cluster: JobsCluster = request.getfixturevalue("jobs_cluster")
        made = Target(request.param, cluster.url, cluster.live.token)
    else:
        made = request.getfixturevalue("several_nodes")
    if made.token is not None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", made.token)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
    return made


@pytest.fixture
def cluster_target(jobs_cluster: JobsCluster, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The cluster with a token."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", jobs_cluster.live.token)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    return Target("token cluster", jobs_cluster.url, jobs_cluster.live.token)


@pytest.fixture(scope="module")
def clicks(broker: LiveBroker) -> str:
    """Two partitions of good records, and some that cannot be decoded."""
    name = broker.create_topic("submitted", partitions=2)
    send(broker, name, GOOD)
    producer = broker.producer()
    for number in range(POISON):
        producer.send(name, value=b'{"id": <nope>', partition=number % 2)
    producer.flush()
    producer.close()
    return name


def send(broker: LiveBroker, topic: str, count: int) -> None:
    """Good records."""
    producer = broker.producer()
    for number in range(count):
        value = json.dumps({"id": number, "at": "2025-01-01T00:00:00Z"}).encode()
        producer.send(topic, key=str(number).encode(), value=value, partition=number % 2)
    producer.flush()
    producer.close()


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, broker: LiveBroker, clicks: str) -> Write:
    """Writes a pipeline file of the lake below ``tmp_path``."""

    def written(name: str, more: str = "ingest: {consumers: 1}\n", topic: str = clicks) -> Path:
        file = tmp_path / f"{name}.yaml"
        file.write_text(
            f"pipeline: {name}\nlake: {tmp_path}/lake\n"
            f"kafka: {{bootstrap: '{broker.bootstrap}'}}\n"
            f"bronze: {{clicks: {{topics: [{topic}], commit_interval: 500ms}}}}\n{more}"
        )
        return file

    return written


@dataclass
class Runs:
    """A lake, and what was started in it."""

    lake: raylake.Lake
    started: list[Run]

    def submit(self, *given: object, **more: object) -> Run:
        run = self.lake.submit(*given, **more)  # type: ignore[arg-type]
        self.started.append(run)
        return run


@pytest.fixture
def runs(tmp_path: Path, target: Target) -> Iterator[Runs]:
    """The lake with its cluster; what is still under way at the end is cut off."""
    yield from _runs(tmp_path, target)


@pytest.fixture
def cluster_runs(tmp_path: Path, cluster_target: Target) -> Iterator[Runs]:
    """The same, on the cluster with a token alone."""
    yield from _runs(tmp_path, cluster_target)


def _runs(tmp_path: Path, target: Target) -> Iterator[Runs]:
    made = Runs(raylake.connect(tmp_path / "lake", target.address), [])
    yield made
    for run in made.started:
        deadline = time.monotonic() + 30
        while not run.status().ended and time.monotonic() < deadline:
            try:
                run.place.end()
            except RayLakeError:
                break
            time.sleep(0.5)
