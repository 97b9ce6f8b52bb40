"""One maintainer at a time looks after a table: a courtesy, that work is not done twice.

A document ``<table>/_raylake/maintenance.json`` names who is at work. It counts while it is renewed
and its process, where that is on this machine, lives. Nothing relies on it: two that write the same
files anew find that out at their commits, and one of them has worked in vain.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from raylake.clock import Clock
from raylake.delta.leases import FOLDER
from raylake.errors import AlreadyRunning
from raylake.processes import living
from raylake.storage.place import Place, create_whole, make_folder, write_whole
from raylake.tables.space import unwritten

FILE: Final = "maintenance.json"
COUNTS_S: Final = 600.0
"""Of a process on another machine: this long after it was renewed."""
RENEW_S: Final = 30.0
_POLL_S: Final = 0.5


class MaintainedElsewhere(AlreadyRunning):
    """Another maintainer works on the table; nothing was begun."""

    code = "maintained_elsewhere"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who looks after a table.

    Attributes:
        name: The run.
        host: The machine.
        pid: The process.
        pid_created_s: When it started, seconds since the epoch.
        renewed_s: When it said last that it goes on.
        key: Tells this lease from any other.
    """

    name: str
    host: str
    pid: int
    pid_created_s: float
    renewed_s: float
    key: str

    def counts(self, now_s: float) -> bool:
        """Whether it is at work, as far as this machine can tell."""
        if self.host == socket.gethostname():
            return living(self.pid, self.pid_created_s) is not None
        return now_s - self.renewed_s < COUNTS_S


class MaintenanceLease:
    """The lease on one table.

    Args:
        root: The table.
        name: Who takes it, for others to read.
        clock: Time.
    """

    def __init__(self, root: Place, name: str, clock: Clock) -> None:
        self._root = root
        self._at = root / FOLDER / FILE
        self._clock = clock
        self._renewed_s = float("-inf")
        process = psutil.Process()
        self._mine = Holder(
            name,
            socket.gethostname(),
            os.getpid(),
            process.create_time(),
            clock.now(),
            secrets.token_hex(8),
        )

    def take(self, wait_s: float = 0.0) -> None:
        """Take it.

        Args:
            wait_s: How long another one is waited for, in seconds.

        Raises:
            MaintainedElsewhere: Another one has it; names it.
            Refused, ConfigError, NotEnoughSpace, DependencyUnreachable: It cannot be written.
        """
        until_s = self._clock.monotonic() + wait_s
        while (other := self._other()) is not None:
            left_s = until_s - self._clock.monotonic()
            if left_s <= 0:
                raise MaintainedElsewhere(
                    f"{self._root}: {other.name} looks after it already (process {other.pid} on "
                    f"{other.host}, {max(0.0, self._clock.now() - other.renewed_s):.0f} s ago)",
                    hint="nothing was begun; wait for it (--wait), or end it",
                    holder=other.name,
                )
            self._clock.sleep(min(_POLL_S, left_s))
        self._renewed_s = self._clock.monotonic()

    def renew(self) -> None:
        """Say that the work goes on; cheap where that was said just now."""
        if self._clock.monotonic() - self._renewed_s < RENEW_S:
            return
        self._renewed_s = self._clock.monotonic()
        now = Holder(**{**asdict(self._mine), "renewed_s": self._clock.now()})
        with suppress(OSError):
            # Whoever took it since is named by it from now on: the commits are safe either way.
            if self._read() == self._mine.key:
                write_whole(self._at, _text(now), scratch=f".{FILE}.{now.key}")

    def release(self) -> None:
        """Say that the work is done."""
        with suppress(OSError):
            if self._read() == self._mine.key:
                self._at.unlink(missing_ok=True)

    def _other(self) -> Holder | None:
        """Who has it; None: this one has, now."""
        try:
            make_folder(self._at.parent)
            for _ in range(2):
                if create_whole(self._at, _text(self._mine)):
                    return None
                found = _parsed(self._text())
                if found is not None and found.counts(self._clock.now()):
                    return found
                self._at.unlink(missing_ok=True)
        except OSError as error:
            what = "it cannot be said that this table is looked after"
            raise unwritten(self._at, error, what) from error
        return found

    def _read(self) -> str:
        found = _parsed(self._text())
        return "" if found is None else found.key

    def _text(self) -> str:
        try:
            return self._at.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""


def _text(holder: Holder) -> str:
    return json.dumps(asdict(holder))


def _parsed(text: str) -> Holder | None:
    """What a document says; one that says nothing counts for nobody."""
    try:
        told: dict[str, Any] = json.loads(text)
        return Holder(**told)
    except (ValueError, TypeError):
        return None
