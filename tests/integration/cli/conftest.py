"""The command line as a user has it: a process of its own, in a folder of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from raylake.cli.main import main
from tests.harness.broker import LiveBroker
from tests.harness.cluster import LiveCluster

ROOT = Path(__file__).resolve().parents[3]
GOOD = 1900
POISON = 20
TIMEOUT_S = 240.0


def until(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The condition's first true answer; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.1)
    pytest.fail(f"not within {timeout_s:g} s: {what}")


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """A folder in which commands are typed.

    Args:
        folder: The current one of the commands.
        joined: A Ray cluster that runs join; None: each embeds its own, which takes twice as long.
    """

    def __init__(self, folder: Path, joined: LiveCluster | None = None) -> None:
        self.folder = folder
        self._joined = {} if joined is None else joined.environment
        self._said = folder.with_name(f"{folder.name}-said")
        self._said.mkdir()
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command under way, in a process group of its own as a shell would have it."""
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        number = len(self._started)
        with (
            self._file(number, "out").open("wb") as out,
            self._file(number, "err").open("wb") as err,
        ):
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "raylake", *arguments],
                cwd=self.folder,
                env={**environment, **self._joined, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )
        self._started.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> Done:
        """Wait for a command."""
        process.wait(TIMEOUT_S)
        return Done(process.returncode, self.said(process, "out"), self.said(process, "err"))

    def said(self, process: subprocess.Popen[bytes], where: str = "err") -> str:
        """What a command has printed until now."""
        return self._file(self._started.index(process), where).read_text()

    def _file(self, number: int, where: str) -> Path:
        return self._said / f"{number}.{where}"

    def __call__(self, *arguments: str) -> Done:
        return self.end(self.start(*arguments))

    def here(self, *arguments: str) -> Done:
        """A command in this process, for what only reads and answers: no Python is started."""
        out, err = io.StringIO(), io.StringIO()
        with (
            unittest.mock.patch.dict(os.environ),  # what it sets is its own
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main(list(arguments))
        return Done(code, out.getvalue(), err.getvalue())

    def write(self, name: str, text: str) -> str:
        """A file in the folder; returns its name."""
        (self.folder / name).write_text(text)
        return name

    def status(self, pipeline: str) -> dict[str, Any]:
        """The status document; empty when there is none."""
        path = self.folder / "lake" / "_raylake" / "status" / f"{pipeline}.json"
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def until_committed(self, pipeline: str, records: int) -> dict[str, Any]:
        """The status document once the tables account for this many offsets."""

        def committed() -> dict[str, Any] | None:
            document = self.status(pipeline)
            tables = document.get("tables", {}).values()
            ends = [p for t in tables for p in t.get("partitions", {}).values()]
            done = sum(p["next"] - p["origin"] for p in ends)
            return document if document.get("state") == "running" and done >= records else None

        found: dict[str, Any] = until(committed, f"{records} offsets committed by {pipeline}")
        return found

    def close(self) -> None:
        """End what is still under way, the jobs with it."""
        for process in self._started:
            if process.poll() is None:
                children = psutil.Process(process.pid).children(recursive=True)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                for child in children:
                    if child.is_running():
                        child.kill()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


@pytest.fixture
def joined_shell(tmp_path: Path, ray_cluster: LiveCluster) -> Iterator[Shell]:
    """A shell whose runs join the cluster of the tests, for what does not depend on it."""
    made = Shell(tmp_path, ray_cluster)
    yield made
    made.close()


@pytest.fixture(scope="module")
def topic(broker: LiveBroker) -> str:
    """Two partitions of good records, and some that cannot be decoded."""
    name = broker.create_topic("cli", partitions=2)
    producer = broker.producer()
    for number in range(GOOD):
        value = json.dumps({"id": number, "at": "2025-01-01T00:00:00Z"}).encode()
        producer.send(name, key=str(number).encode(), value=value, partition=number % 2)
    for number in range(POISON):
        producer.send(name, value=b'{"id": \x1b[31m nope', partition=number % 2)
    producer.flush()
    producer.close()
    return name


def pipeline_text(broker: LiveBroker, topic: str, name: str = "clicks") -> str:
    """A pipeline file; the bootstrap stands in line 4, the topic in line 7."""
    return (
        f"pipeline: {name}\n"
        "lake: ./lake\n"
        "kafka:\n"
        f"  bootstrap: {broker.bootstrap}\n"
        "bronze:\n"
        "  clicks:\n"
        f"    topics: [{topic}]\n"
        "    commit_interval: 500ms\n"
        "ingest: {consumers: 1}\n"
    )
