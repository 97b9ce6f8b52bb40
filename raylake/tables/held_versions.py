"""Versions of tables that are held in memory, within a limit: which are there, and which leave.

It knows what is held and how large it is, not how: the pieces that belong to a version are anything
(references to Ray's objects, :mod:`actors.hot_tables`). Not for several threads at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar

from raylake.clock import Clock
from raylake.tables.errors import TooLargeToHold
from raylake.tables.times import utc

Pieces = TypeVar("Pieces")


@dataclass(frozen=True, slots=True)
class HeldKey:
    """Which rows are held.

    Attributes:
        table_id: The table's id, of its log.
        version: The version.
        columns: The columns, in the table's order.
    """

    table_id: str
    version: int
    columns: tuple[str, ...]

    def covers(self, other: HeldKey) -> bool:
        """Whether this holds what the other one asks for."""
        same = (self.table_id, self.version) == (other.table_id, other.version)
        return same and set(other.columns) <= set(self.columns)


@dataclass(frozen=True, slots=True)
class HeldVersion:
    """A version that is held.

    Attributes:
        table: The table's name.
        key: Which rows.
        bytes: Their size in memory, as Arrow counts it.
        rows: How many.
        held_at: When they were read.
        last_used: When they were last read from memory, or held once more.
    """

    table: str
    key: HeldKey
    bytes: int
    rows: int
    held_at: datetime
    last_used: datetime

    @property
    def version(self) -> int:
        """The version."""
        return self.key.version

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns."""
        return self.key.columns


class HeldVersions(Generic[Pieces]):
    """What is held, the least recently used first. Together never larger than the limit.

    Args:
        limit_bytes: The limit.
        clock: For the times.
    """

    def __init__(self, limit_bytes: int, clock: Clock) -> None:
        self.limit_bytes = limit_bytes
        self._clock = clock
        self._held: dict[HeldKey, tuple[HeldVersion, Pieces]] = {}

    @property
    def bytes(self) -> int:
        """What is held, in bytes."""
        return sum(one.bytes for one, _ in self._held.values())

    def listed(self) -> list[HeldVersion]:
        """What is held, the least recently used first."""
        return [one for one, _ in self._held.values()]

    def use(self, asked: HeldKey) -> tuple[HeldVersion, Pieces] | None:
        """What holds the rows that are asked for, the smallest of them; None where nothing does."""
        found = [one for key, (one, _) in self._held.items() if key.covers(asked)]
        if not found:
            return None
        key = min(found, key=lambda one: one.bytes).key
        held, pieces = self._held.pop(key)
        used = (replace(held, last_used=self._now()), pieces)
        self._held[key] = used
        return used

    def limit(self, limit_bytes: int) -> None:
        """Another limit; what no longer fits leaves."""
        self.limit_bytes = limit_bytes
        self._leave(limit_bytes)

    def make_room(self, table: str, asked: HeldKey, size_bytes: int) -> None:
        """Let go of what the rows to come replace, then of the least recently used.

        Raises:
            TooLargeToHold: They are larger than the limit; nothing is let go of.
        """
        if size_bytes > self.limit_bytes:
            takes = f"takes {size_bytes} bytes, of which at most {self.limit_bytes} are held"
            raise too_large(table, asked, takes)
        for key in [one for one in self._held if asked.covers(one)]:
            del self._held[key]
        self._leave(self.limit_bytes - size_bytes)

    def add(self, table: str, key: HeldKey, size: tuple[int, int], pieces: Pieces) -> HeldVersion:
        """Hold rows.

        Args:
            table: The table's name.
            key: Which rows.
            size: Bytes and rows.
            pieces: What they are made of.

        Raises:
            TooLargeToHold: As :meth:`make_room`, which this does, too.
        """
        self.make_room(table, key, size[0])
        now = self._now()
        held = HeldVersion(table, key, *size, held_at=now, last_used=now)
        self._held[key] = (held, pieces)
        return held

    def release(self, table_id: str, version: int | None = None) -> list[HeldVersion]:
        """Let go of a table's versions, or of one; returns what was held of them."""
        gone = [
            one
            for key, (one, _) in self._held.items()
            if key.table_id == table_id and version in (None, key.version)
        ]
        self._drop(gone)
        return gone

    def _leave(self, room_bytes: int) -> None:
        for one in self.listed():
            if self.bytes <= room_bytes:
                return
            self._drop([one])

    def _drop(self, gone: Iterable[HeldVersion]) -> None:
        for one in gone:
            del self._held[one.key]

    def _now(self) -> datetime:
        return utc(int(self._clock.now() * 1000))


def too_large(table: str, asked: HeldKey, why: str) -> TooLargeToHold:
    """The error for a version that does not fit.

    Args:
        table: The table's name.
        asked: Which rows.
        why: What of them does not fit where, with both figures.
    """
    return TooLargeToHold(
        f"{table}: version {asked.version} {why}",
        hint="hold fewer columns, or choose another hot_bytes in connect()",
        version=asked.version,
    )
