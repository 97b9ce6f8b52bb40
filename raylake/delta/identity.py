"""Who owns a table: the identity in each commit, and whether that process still lives (I11)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil


@dataclass(frozen=True, slots=True)
class OwnerIdentity:
    """An owner process, told apart from any other one of any host and boot.

    Attributes:
        pipeline: The pipeline that started the owner.
        run_id: The run of that pipeline; a supervisor replaces only owners of its own run.
        host: Host name.
        pid: Process id.
        pid_created_s: When the process started, in seconds since the epoch; tells a reused pid.
        boot_id: The host's boot, empty when unknown.
        stands_in_for: What the newest commit of a pipeline's owner says of that one, where this
            owner only takes its place while it is away; None: it is an owner in its own right.
    """

    pipeline: str
    run_id: str
    host: str
    pid: int
    pid_created_s: float
    boot_id: str = ""
    stands_in_for: Mapping[str, Any] | None = field(default=None, compare=False)

    @classmethod
    def of_this_process(cls, pipeline: str, run_id: str) -> Self:
        """The identity of the calling process."""
        pid = os.getpid()
        created_s = float(psutil.Process(pid).create_time())
        return cls(pipeline, run_id, socket.gethostname(), pid, created_s, boot_id())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read an identity back from commit metadata."""
        return cls(
            pipeline=str(data.get("pipeline", "")),
            run_id=str(data.get("run_id", "")),
            host=str(data.get("host", "")),
            pid=int(data.get("pid", 0)),
            pid_created_s=float(data.get("pid_created_s", 0.0)),
            boot_id=str(data.get("boot_id", "")),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for commit metadata; holds no secret."""
        return {
            "pipeline": self.pipeline,
            "run_id": self.run_id,
            "host": self.host,
            "pid": self.pid,
            "pid_created_s": self.pid_created_s,
            "boot_id": self.boot_id,
        }

    def __str__(self) -> str:
        process = f"pid {self.pid} on {self.host}"
        return f"run {self.run_id} of pipeline {self.pipeline!r} ({process})"

    def provably_dead(self) -> bool:
        """Whether this process cannot be alive: same host, and gone, rebooted or a reused pid.

        A process of another host, or of another container with the same host name, is never
        provably dead.
        """
        if self.host != socket.gethostname() or self.pid <= 0:
            return False
        here = boot_id()
        if self.boot_id and here and self.boot_id != here:
            return True
        try:
            created_s = float(psutil.Process(self.pid).create_time())
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False
        return abs(created_s - self.pid_created_s) > 1.0


@dataclass(frozen=True, slots=True)
class Claim:
    """By what right an owner takes a table (I11).

    Attributes:
        after_s: Seconds of silence after which another run's owner counts as gone; None: whoever
            is there is taken over.
        replaces: The run whose owner is gone and is replaced: nobody else's may be. Empty: none.
    """

    after_s: float | None = 30.0
    replaces: str = ""


COURTEOUS = Claim()
TAKE_OVER = Claim(after_s=None)


def boot_id() -> str:
    """The id of this boot of the host; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
