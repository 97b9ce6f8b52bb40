"""Which piece of work is next: pieces of several tables, so that none of them takes every slot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from raylake.errors import RayLakeError
from raylake.maintenance.actions import Action
from raylake.tables.aside import Aside, Written


@dataclass(slots=True, eq=False)
class Job:
    """An action of a plan, on its way.

    Attributes:
        table: The table's address.
        action: What is to be done.
        pieces: What is written aside for it, each by one process.
        written: What came of them so far.
        begun: How many pieces were begun.
        failure: Why one of them failed.
        began_s: When the first one was begun, on the monotonic clock.
    """

    table: str
    action: Action
    pieces: Sequence[Aside]
    written: list[Written] = field(default_factory=list)
    begun: int = 0
    ended: int = 0
    failure: RayLakeError | None = None
    began_s: float = 0.0

    @property
    def running(self) -> int:
        """Pieces under way."""
        return self.begun - self.ended

    @property
    def waiting(self) -> bool:
        """Whether a piece can be begun; not once one has failed."""
        return self.failure is None and self.begun < len(self.pieces)

    @property
    def complete(self) -> bool:
        """Whether nothing more comes."""
        return not self.running and not self.waiting


class Queue:
    """Jobs, and what of them runs.

    While several tables have work, one slot at least is left to the others.

    Args:
        jobs: All of them.
        slots: So many pieces run at once.
    """

    def __init__(self, jobs: Iterable[Job], slots: int) -> None:
        self._jobs = list(jobs)
        self._slots = slots

    @property
    def running(self) -> int:
        """Pieces under way."""
        return sum(one.running for one in self._jobs)

    @property
    def waiting(self) -> bool:
        """Whether there is a piece that was not begun."""
        return any(one.waiting for one in self._jobs)

    def next(self) -> Job | None:
        """The job whose next piece may begin; None: no slot is free, or nothing waits.

        The table with the fewest pieces under way comes first, and of those the one of which the
        least was read.
        """
        if self.running >= self._slots:
            return None
        busy: dict[str, int] = {}
        read: dict[str, int] = {}
        for one in self._jobs:
            busy[one.table] = busy.get(one.table, 0) + one.running
            done = sum(piece.size_bytes for piece in one.pieces[: one.begun])
            read[one.table] = read.get(one.table, 0) + done
        unfinished = {one.table for one in self._jobs if one.waiting or one.running}
        most = self._slots - 1 if len(unfinished) > 1 and self._slots > 1 else self._slots
        able = [one for one in self._jobs if one.waiting and busy[one.table] < most]
        return min(able, key=lambda one: (busy[one.table], read[one.table]), default=None)

    def drop_waiting(self) -> None:
        """Begin nothing more; jobs whose pieces were not all begun come to nothing."""
        for one in self._jobs:
            one.pieces = one.pieces[: one.begun]
