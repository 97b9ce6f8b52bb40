"""Processes that were written down by pid: found again, and told apart from a later one."""

from __future__ import annotations

import psutil

CLOCK_SLACK_S = 1.0
"""The boot time that a creation time is computed from moves a little when the clock is set."""


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
