"""Processes that were written down by pid: found again, and told apart from a later one."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil

CLOCK_SLACK_S = 1.0
"""The boot time that a creation time is computed from moves a little when the clock is set."""

LOOK_AGAIN_S = 0.1


def living(pid: int, created_s: float) -> psutil.Process | None:
    """The process that got this pid at that time, while it runs; a zombie has ended.

    Args:
        pid: On this host.
        created_s: When it started, seconds since the epoch.
    """
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created_s) < CLOCK_SLACK_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def ended(process: psutil.Process, timeout_s: float) -> bool:
    """Whether it ends in time; another process's child is a zombie until its parent looks."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        zombie = False
        with suppress(psutil.NoSuchProcess):
            zombie = process.status() == psutil.STATUS_ZOMBIE
        try:
            process.wait(LOOK_AGAIN_S)
        except psutil.TimeoutExpired:
            if not zombie:
                continue
        return True
    return False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has taken of its machine.

    Attributes:
        pid: The process.
        cpu_s: CPU time of all its threads since it started, in user and system mode.
        memory_bytes: Its resident memory; pages that processes share count in each of them.
    """

    pid: int
    cpu_s: float
    memory_bytes: int

    @classmethod
    def of_this(cls) -> Self:
        """The calling process."""
        memory = psutil.Process().memory_info()
        return cls(os.getpid(), time.process_time(), int(memory.rss))
