"""The owner's side of slots: what it grants, and what the log says became of it (DESIGN §6).

While a slot is open the owner commits nothing. A runner that was lost may still write: its slot is
closed by a commit of the slot's own number, which makes the runner's fail, or finds it there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raylake.delta.owner_slots import Grant, SlotQueue, Verdict
from raylake.errors import Fenced


class SlotLog(Protocol):
    """A table's log as its owner sees it; :class:`raylake.delta.slot_table.SlotTable` is one."""

    @property
    def number(self) -> int:
        """The owner number of the newest commit of this owner, or of its slots."""
        ...

    @property
    def version(self) -> int:
        """The newest version that was read."""
        ...

    def refresh(self) -> None:
        """Read what is new, and check that the table is still this owner's.

        Raises:
            Fenced: A newer owner has it.
            LogDamaged: Somebody restored, replaced or created the table again.
        """
        ...

    def landed(self, grant: Grant) -> int | None:
        """The version that a slot made, from the log as it is now; its number is then ours."""
        ...

    def close(self, grant: Grant) -> int | None:
        """Take a slot's number away from its runner: commit it, alone.

        Returns:
            The version that the slot made after all; None: it never will.

        Raises:
            Fenced: A newer owner has the table: nothing of this slot lands any more.
        """
        ...


class SlotOwner:
    """Grants slots and settles them. Not thread-safe; after an error it must not be used again.

    Args:
        log: The table's log.
        queue: Who waits.
    """

    def __init__(self, log: SlotLog, queue: SlotQueue | None = None) -> None:
        self._log = log
        self.queue = SlotQueue() if queue is None else queue

    def advance(self) -> Grant | None:
        """Settle what has ended and grant the next slot; returns it where one was granted.

        Raises:
            Fenced, LogDamaged: This owner stops for good; the open slot is settled as far as the
                log tells.
            RayLakeError: The log cannot be read or written now; call it again later.
        """
        if self.queue.ending:
            self._settle()
        if self.queue.next() is None:
            return None
        self._log.refresh()
        return self.queue.grant(self._log.number + 1, self._log.version)

    def between(self, commit: Callable[[], None]) -> bool:
        """Do something of the owner's own; says whether no slot was open, so that it was done."""
        if self.queue.open is not None:
            return False
        self._log.refresh()
        commit()
        return True

    def _settle(self) -> Verdict:
        grant = self.queue.open
        if grant is None:
            raise ValueError("no slot is open")
        version = self._log.landed(grant)
        if version is None and not self.queue.ended_for_sure:
            try:
                version = self._log.close(grant)
            except Fenced:
                # Another epoch is in the log now, which this runner's commit cannot pass.
                self.queue.settle(self._log.landed(grant))
                raise
        return self.queue.settle(version)
