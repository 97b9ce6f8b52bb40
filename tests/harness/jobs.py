"""An ingest job as a process of its own, on the shared cluster or with one embedded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.harness.cluster import ROOT, LiveCluster

EXIT_TIMEOUT_S = 240.0


@dataclass
class Job:
    """A job under way, or ended."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, timeout_s: float = EXIT_TIMEOUT_S) -> int:
        """Its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the job does not end within {timeout_s:g} s: {self.said[-3000:]}")

    def ends_with(self, code: int, timeout_s: float = EXIT_TIMEOUT_S) -> Job:
        """Wait; it must end with this exit code."""
        ended = self.wait(timeout_s)
        assert ended == code, f"exit code {ended} instead of {code}: {self.said[-3000:]}"
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> Job:
        """SIGTERM: it drains and ends with 0."""
        self.signal(signal.SIGTERM)
        return self.ends_with(0)

    @property
    def said(self) -> str:
        """What it printed."""
        return self.log.read_text()


def pids_of(lake: Path, process: str) -> list[int]:
    """The live actors of a lake's runs: ``supervisor``, ``consumer``, ``transformer`` …

    Found by the log file that they hold open, so that no other test's are touched.
    """
    folder = str(lake / "_raylake" / "logs")
    found = []
    for one in psutil.process_iter(["name"]):
        if "ray::" not in (one.info["name"] or ""):
            continue
        try:
            opened = [f.path for f in one.open_files()]
        except psutil.Error:
            continue
        if any(p.startswith(folder) and Path(p).name.startswith(process) for p in opened):
            found.append(one.pid)
    return sorted(found)


def start_job(
    file: Path,
    log: Path,
    faults: Path,
    cluster: LiveCluster | None,
    arguments: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Job:
    """Start an ingest job in its pipeline file's folder.

    Args:
        file: The pipeline file.
        log: Takes what it prints.
        faults: The folder of its armed crash points.
        cluster: What it joins; None: it embeds one.
        arguments: More of them.
        environment: More variables.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    joined = {} if cluster is None else cluster.environment
    own = {"RAYLAKE_FAULTS": str(faults), "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "jobs.ingest", "--config", str(file), *arguments],
            env={**inherited, **joined, **own, **(environment or {})},
            cwd=file.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    return Job(process, log)
