"""Lakes whose runs are submitted: to this machine, and to a cluster with a token."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import raylake
from raylake.client.run import Run
from raylake.errors import RayLakeError
from tests.harness.broker import LiveBroker
from tests.harness.cluster import is_up, last_words
from tests.harness.jobs_cluster import JobsCluster
from tests.harness.utils_cluster import utils_cluster

GOOD = 300
POISON = 3
TOTAL = GOOD + POISON


@dataclass
class Target:
    """Where runs go, and what a client needs for it."""

    kind: str
    address: str | None
    token: str | None


@pytest.fixture(scope="module")
def two_nodes(jobs_cluster: JobsCluster) -> Iterator[Target]:
    """Two nodes of ``ray.cluster_utils``, beside a cluster that Ray takes for theirs.

    Its file names the latter as the cluster of this folder, as one that was started later does.
    """
    folder = Path(tempfile.mkdtemp(prefix="ru-"))
    token = secrets.token_hex(32)
    environment = {**jobs_cluster.live.environment, "RAY_AUTH_TOKEN": token}
    del environment["RAY_ADDRESS"]
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with utils_cluster(folder, environment, cpus=8, nodes=1) as told:
        (folder / "ray_current_cluster").write_text(jobs_cluster.live.address)
        yield Target("cluster_utils", told["url"], token)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["process", "token cluster", "cluster_utils"])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Each place in turn; this process knows the token."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "process":
        made = Target("process", None, None)
    elif request.param == "cluster_utils":
        made = request.getfixturevalue("two_nodes")
    else:
        cluster: JobsCluster = request.getfixturevalue("jobs_cluster")
        made = Target(request.param, cluster.url, cluster.live.token)
    if made.token is not None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", made.token)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
    return made


@pytest.fixture
def cluster_target(jobs_cluster: JobsCluster, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The cluster with a token."""
    assert is_up(jobs_cluster.live), f"the cluster has ended:\n{last_words(jobs_cluster.live)}"
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
