"""The Ray cluster of the tests: one for all workers and runs that are under way at once.

The first user starts it; the last one to leave ends it. Jobs join it by the environment of
:class:`LiveCluster`, which is faster than an embedded cluster for each of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pytest

from raylake.kafka.artifacts import cache_folder
from tests.harness.ray_node import OBJECT_STORE_BYTES, UP
from tests.harness.shared import shared

ROOT = Path(__file__).resolve().parents[2]
CPUS = 32
START_TIMEOUT_S = 240.0
_TAIL = 2_000
# Ray would start a worker for each of the many logical CPUs.
_QUIET = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_prestart_worker_first_driver": "0",
    # By default workers yield to all else, and on a busy machine do next to nothing.
    "RAY_worker_niceness": "0",
}


@dataclass(frozen=True)
class LiveCluster:
    """A cluster that runs."""

    address: str
    token: str
    pid: int
    folder: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to join."""
        return {**_QUIET, "RAY_ADDRESS": self.address, "RAY_AUTH_TOKEN": self.token}


def start(
    folder: Path,
    *more: str,
    variables: Mapping[str, str] | None = None,
    dashboard: bool = False,
    monitor: bool = False,
) -> LiveCluster:
    """Start a head node below ``folder`` (a short path); it ends with :func:`end`.

    Args:
        folder: For its logs and sockets.
        *more: Further options of ``ray start``.
        variables: Further variables of all its processes.
        dashboard: With the dashboard's server, which has the Jobs API.
        monitor: With Ray's autoscaler.
    """
    token = secrets.token_hex(32)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {**_QUIET, "RAY_AUTH_TOKEN": token, "PYTHONPATH": str(ROOT), **(variables or {})}
    command = [sys.executable, "-m", "tests.harness.ray_head", "start", "--head", "--block"]
    command += ["--port=0", "--node-ip-address=127.0.0.1", f"--num-cpus={CPUS}"]
    command += [
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--include-dashboard={str(dashboard).lower()}",
    ]
    command += ["--include-log-monitor=false", f"--temp-dir={folder}", *more]
    command += [] if monitor else ["--no-monitor"]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "head.log"
    with log.open("wb") as out:
        head = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    current = folder / "ray_current_cluster"
    deadline = time.monotonic() + START_TIMEOUT_S
    while "Ray runtime started" not in log.read_text() or not current.exists():
        if head.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no Ray cluster: {log.read_text()[-3000:]}")
        time.sleep(0.1)
    return LiveCluster(current.read_text().strip(), token, head.pid, str(folder))


@contextlib.contextmanager
def another_node(
    cluster: LiveCluster,
    cpus: int,
    *offers: str,
    variables: Mapping[str, str] | None = None,
    host: tuple[str, Path] | None = None,
) -> Iterator[psutil.Process]:
    """A further node of a cluster, which also offers one of each of these; ended with the block.

    It has these variables beside the cluster's. With a host's name and a folder it is as on another
    machine of that name, which does not have what lies in the folder.

    Yields its first process, whose children are the raylet and all that runs on the node.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {**cluster.environment, "PYTHONPATH": str(ROOT), **(variables or {})}
    command = [sys.executable, "-m", "tests.harness.ray_node", cluster.address, str(cpus), *offers]
    if host is not None:
        apart = f"hostname {host[0]} && mount -t tmpfs none {host[1]} && exec " + '"$@"'
        command = ["unshare", "--uts", "--mount", "sh", "-c", apart, "sh", *command]
    log = Path(cluster.folder) / "node.log"
    with log.open("wb") as out:
        began = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    node = psutil.Process(began.pid)
    deadline = time.monotonic() + START_TIMEOUT_S
    try:
        while UP not in log.read_text():
            if began.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no node: {log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield node
    finally:
        kill_tree(node)
        began.wait()


def kill_tree(node: psutil.Process) -> None:
    """SIGKILL to a process and all below it, at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [*node.children(recursive=True), node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def end(cluster: LiveCluster) -> None:
    """End a cluster and all that runs on it."""
    head = _process(cluster)
    if head is not None:
        family = [*head.children(recursive=True), head]
        head.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    shutil.rmtree(cluster.folder, ignore_errors=True)


def is_up(cluster: LiveCluster) -> bool:
    """Whether its head node's first process is there."""
    return _process(cluster) is not None


def last_words(cluster: LiveCluster) -> str:
    """The ends of what its head and Ray's processes have said."""
    folder = Path(cluster.folder)
    logs = [folder / "head.log"]
    for pattern in ("gcs_server.*", "raylet.*", "dashboard*.*", "ray_process_exit.log"):
        logs += sorted((folder / "session_latest" / "logs").glob(pattern))
    said = [(log, log.read_text(errors="replace")) for log in logs if log.is_file()]
    return "\n".join(f"== {log.name}\n{text[-_TAIL:]}" for log, text in said if text)


def _process(cluster: LiveCluster) -> psutil.Process | None:
    try:
        process = psutil.Process(cluster.pid)
        same = any(cluster.folder in part for part in process.cmdline())
    except psutil.NoSuchProcess:
        return None
    return process if same and process.status() != psutil.STATUS_ZOMBIE else None


def _recorded(state: Path) -> LiveCluster | None:
    try:
        found = LiveCluster(**json.loads(state.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if _process(found) is not None:
        return found
    shutil.rmtree(found.folder, ignore_errors=True)
    return None


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[LiveCluster]:
    """The cluster that all tests share."""
    state = cache_folder() / "dev" / "ray.json"

    def begin() -> LiveCluster:
        cluster = _recorded(state)
        if cluster is None:
            # Ray's sockets need a short path.
            cluster = start(Path(tempfile.mkdtemp(prefix="rl-")))
            state.write_text(json.dumps(asdict(cluster)))
        return cluster

    def last_leaves(cluster: LiveCluster) -> None:
        end(cluster)
        state.unlink(missing_ok=True)

    with shared("ray", begin, last_leaves) as cluster:
        yield cluster
        if not is_up(cluster):
            words = last_words(cluster)
            (cache_folder() / "dev" / "lost_cluster.log").write_text(words)
            pytest.fail(f"the tests' cluster ended by itself:\n{words}")
