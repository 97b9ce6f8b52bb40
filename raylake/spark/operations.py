"""What runs in a session, by table, so that a table's new owner can cancel what an old one runs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from raylake.clock import Clock, Deadline

CANCEL_AGAIN_S: Final = 0.1
"""An operation may be between two jobs, and begins the next one."""


class JobGroups(Protocol):
    """Jobs of a session, by the group that their thread was in."""

    def enter_group(self, group: str, what: str) -> None:
        """Jobs that this thread starts from now on belong to this group."""
        ...

    def cancel_group(self, group: str) -> None:
        """Cancel the group's jobs that run now."""
        ...


def job_group(table: str) -> str:
    """The group of Spark's jobs of the operations on a table."""
    return f"raylake:{table}"


@dataclass(slots=True)
class Running:
    """An operation that runs.

    Attributes:
        table: Its table.
        cancelled: Whether somebody wants it to end.
    """

    table: str
    cancelled: bool = False


class Operations:
    """The operations that run; safe to be used by several threads."""

    def __init__(self, jobs: JobGroups, clock: Clock) -> None:
        self._jobs = jobs
        self._clock = clock
        self._numbers = itertools.count(1)
        self._running: dict[int, Running] = {}
        self._change = threading.Condition()

    @contextmanager
    def entered(self, table: str, what: str) -> Iterator[Running]:
        """An operation of this thread, from here to the end of the block."""
        number, one = next(self._numbers), Running(table)
        with self._change:
            self._running[number] = one
        try:
            self._jobs.enter_group(job_group(table), f"{what} {table}")
            yield one
        finally:
            with self._change:
                del self._running[number]
                self._change.notify_all()

    def tables(self) -> list[str]:
        """The tables of the operations that run."""
        with self._change:
            return sorted(one.table for one in self._running.values())

    def cancel(self, table: str | None, timeout_s: float) -> int:
        """Cancel what runs on a table, and wait for its end.

        What is past its last job commits all the same: its number decides whether that counts.

        Args:
            table: The table; None: all.
            timeout_s: How long to wait.

        Returns:
            How many still run; 0 unless the time was too short.
        """
        deadline = Deadline.after(timeout_s, self._clock)
        while True:
            with self._change:
                left = [o for o in self._running.values() if table in (None, o.table)]
                for one in left:
                    one.cancelled = True
            if not left or deadline.expired():
                return len(left)
            for group in {job_group(one.table) for one in left}:
                self._jobs.cancel_group(group)
            with self._change:
                self._change.wait(min(CANCEL_AGAIN_S, deadline.left_s()))
