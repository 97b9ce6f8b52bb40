"""Turns of rewriting a table that is ingested into meanwhile (DESIGN §6).

One request at a time may rewrite files that are there; appends go on beside it. A worker reads a
version and writes files, and only the owner commits them, so a worker that is lost, frozen or of
another owner's time leaves files that are of no table, and nothing else. Plain state over ports:
who waits is :class:`~raylake.delta.owner_slots.SlotQueue`.
"""

from __future__ import annotations

from typing import Protocol

from raylake.delta.owner_slots import Grant, SlotQueue, Verdict
from raylake.delta.rewritten import Rewritten
from raylake.errors import Refused


class TurnOver(Refused):
    """A rewrite came to an owner that has not granted its turn, or has ended it."""

    code = "turn_over"


class RewriteLog(Protocol):
    """A table's log as its owner sees it; ``raylake.delta.owner_rewrites`` has one."""

    @property
    def number(self) -> int:
        """The owner number of the newest commit of this owner."""
        ...

    @property
    def version(self) -> int:
        """The newest version that was read."""
        ...

    def refresh(self) -> None:
        """Read what is new, and check that the table is still this owner's.

        Raises:
            Fenced, LogDamaged: This owner stops for good.
            DependencyUnreachable: The log cannot be read now.
        """
        ...

    def rewrite(self, one: Rewritten) -> int:
        """Commit a rewrite; the version. Repeating it after an error commits it once.

        Raises:
            FilesChanged, RowsUnequal: It does not fit what is there; nothing was committed.
            Fenced, LogDamaged: This owner stops for good.
            RayLakeError: Whether it was committed is for :meth:`settle` to say.
        """
        ...

    def settle(self, request: str) -> int | None:
        """The version that a request's rewrite made; None: it made none, and never will.

        Raises:
            Fenced, LogDamaged: This owner stops for good.
            RayLakeError: It cannot be told yet.
        """
        ...


class RewriteTurns:
    """Grants turns and commits what they lead to. Not thread-safe.

    Args:
        log: The table's log.
        queue: Who waits.
    """

    def __init__(self, log: RewriteLog, queue: SlotQueue | None = None) -> None:
        self._log = log
        self._queue = SlotQueue() if queue is None else queue

    @property
    def idle(self) -> bool:
        """Whether nobody has a turn or waits for one."""
        return self._queue.open is None and not self._queue.waiting

    @property
    def open(self) -> Grant | None:
        """The turn that is open."""
        return self._queue.open

    @property
    def waiting(self) -> tuple[str, ...]:
        """Requests without a turn, in order."""
        return self._queue.waiting

    def ask(self, request: str) -> Grant | Verdict | None:
        """Ask for a turn; None: it waits. Asking again changes nothing.

        Raises:
            SlotsTaken: Too many wait.
            Fenced, LogDamaged: This owner stops for good.
            DependencyUnreachable: The log cannot be read now; ask again.
        """
        found = self._queue.ask(request)
        if found is not None or self._queue.next() != request:
            return found
        # What is read from now on is what the owner has checked.
        self._log.refresh()
        return self._queue.grant(self._log.number, self._log.version)

    def commit(self, one: Rewritten) -> Verdict:
        """Commit what a turn led to, and end the turn. Repeating it changes nothing.

        Raises:
            TurnOver: It is not this request's turn; nothing was committed.
            FilesChanged, RowsUnequal: It does not fit what is there; nothing was committed.
            Fenced, LogDamaged: This owner stops for good.
            RayLakeError: Whether it was committed is for :meth:`ended` to say.
        """
        known = self._queue.verdict(one.request)
        if known is not None and known.version is not None:
            return known
        if not self._queue.has_slot(one.request):
            raise TurnOver(
                f"the turn of request {one.request} is over, or was another owner's",
                hint="nothing was changed; run the operation again",
            )
        return self._queue.settle(self._log.rewrite(one))

    def ended(self, request: str) -> Verdict | None:
        """A request is given up, or its worker was lost; None: it was never asked for here.

        Raises:
            Fenced, LogDamaged: This owner stops for good.
            RayLakeError: What became of it cannot be told yet; ask again.
        """
        if self._queue.has_slot(request):
            return self._queue.settle(self._log.settle(request))
        return self._queue.ended(request, for_sure=True)
