"""A job that failed for what may pass is started again, bounded and visibly (SPEC K1, I11)."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raylake
from tests.harness.broker import LiveBroker
from tests.harness.cluster import LiveCluster
from tests.harness.jobs import Job, start_job
from tests.harness.jobs_cluster import free_ports
from tests.integration.submitting.conftest import GOOD, Write

QUICK = {"RAYLAKE_RESTART_WAIT_S": "0.2"}
WAIT_S = 120.0


class Door:
    """An address behind which the broker is, once it is opened."""

    def __init__(self, broker: LiveBroker) -> None:
        host, _, port = broker.bootstrap.partition(":")
        self._broker = (host, int(port))
        self.port = free_ports(1)[0]
        self._listening: socket.socket | None = None

    def open(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        if self._listening is not None:
            self._listening.close()

    def _serve(self) -> None:
        assert self._listening is not None
        while True:
            try:
                came, _ = self._listening.accept()
                on = socket.create_connection(self._broker)
            except OSError:
                return
            for one, other in ((came, on), (on, came)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def door(broker: LiveBroker) -> Iterator[Door]:
    made = Door(broker)
    yield made
    made.close()


def document(tmp_path: Path, name: str) -> dict[str, Any]:
    path = tmp_path / "lake" / "_raylake" / "status" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def started(tmp_path: Path, file: Path, cluster: LiveCluster, *arguments: str) -> Job:
    faults = tmp_path / "faults"
    (faults / "armed").mkdir(parents=True, exist_ok=True)
    return start_job(file, tmp_path / "job.log", faults, cluster, arguments, QUICK)


@pytest.fixture
def behind(write: Write, door: Door, broker: LiveBroker) -> Path:
    """A pipeline whose broker is behind the door."""
    file = write("later")
    text = file.read_text().replace(broker.bootstrap, f"127.0.0.1:{door.port}")
    file.write_text(text.replace("'}\nbronze", "', connect_timeout: 1s}\nbronze"))
    return file


@pytest.mark.long
@pytest.mark.spec("K1")
@pytest.mark.timeout(300)
def test_a_broker_that_never_comes_is_not_waited_for_longer_than_was_said(
    tmp_path: Path, behind: Path, ray_cluster: LiveCluster
) -> None:
    never = started(tmp_path, behind, ray_cluster, "--available-now", "--restarts=1")
    never.ends_with(4)
    assert never.said.count("is started again in") == 1, never.said
    found = document(tmp_path, "later")
    assert found["state"] == "failed"
    assert (found["job"]["restarts"]["count"], found["job"]["restarts"]["limit"]) == (1, 1)


@pytest.mark.spec("K1")
@pytest.mark.timeout(300)
def test_a_broker_that_comes_later_is_waited_for(
    tmp_path: Path, behind: Path, ray_cluster: LiveCluster, door: Door
) -> None:
    job = started(tmp_path, behind, ray_cluster, "--available-now", "--restarts=50")
    deadline = time.monotonic() + WAIT_S
    while document(tmp_path, "later").get("state") != "restarting":
        assert time.monotonic() < deadline, job.said[-2000:]
        time.sleep(0.05)
    run = raylake.connect(tmp_path / "lake").run("later")
    door.open()
    job.ends_with(0)
    view = run.status()
    assert (view.state, view.rows) == ("done", GOOD)
    assert view.restarts >= 1
    assert any("started again" in note for note in view.notes())
    assert run.verify().ok


@pytest.mark.spec("K1")
@pytest.mark.timeout(300)
def test_what_would_fail_again_is_not_tried_again(
    tmp_path: Path, write: Write, ray_cluster: LiveCluster
) -> None:
    job = started(tmp_path, write("wrong", topic="nobody-made-it"), ray_cluster, "--restarts=5")
    job.ends_with(2)
    assert "started again" not in job.said
