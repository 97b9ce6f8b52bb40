"""Slots of a table's owner: who may commit to the table in its place, one at a time (DESIGN §6).

Plain data and choices; :mod:`raylake.delta.slot_owner` reads and writes the log. A slot is asked
for, granted with a number, and ends when its runner reports or is lost. How it ended is never
believed: it is settled by what the log holds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from raylake.errors import Retryable

MAX_WAITING = 32
KEPT_VERDICTS = 256


class SlotsTaken(Retryable):
    """Too many operations wait for a table already; nothing was done."""

    code = "slots_taken"


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to make one commit.

    Attributes:
        request: Who has it.
        number: What the commit must carry as ``raylake/owner``.
        base_version: The version of the table when it was granted.
    """

    request: str
    number: int
    base_version: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a request, for good.

    Attributes:
        request: The request.
        version: The version that it made; None: it made none, and never will.
    """

    request: str
    version: int | None


class SlotQueue:
    """Requests in order of arrival, the slot that is open, and what became of the earlier ones.

    Args:
        max_waiting: So many may wait.
        kept: So many verdicts are remembered.
    """

    def __init__(self, *, max_waiting: int = MAX_WAITING, kept: int = KEPT_VERDICTS) -> None:
        self._max_waiting = max_waiting
        self._kept = kept
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._verdicts: OrderedDict[str, Verdict] = OrderedDict()
        self._ended_for_sure: bool | None = None
        self.open: Grant | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Requests without a slot, in order."""
        return tuple(self._waiting)

    @property
    def ending(self) -> bool:
        """Whether the open slot's runner has ended, so that it must be settled."""
        return self._ended_for_sure is not None

    @property
    def ended_for_sure(self) -> bool:
        """Whether that runner certainly writes nothing any more."""
        return bool(self._ended_for_sure)

    def ask(self, request: str) -> Grant | Verdict | None:
        """Ask for a slot; None: it waits. Asking again changes nothing.

        Raises:
            SlotsTaken: Too many wait.
        """
        if request in self._verdicts:
            return self._verdicts[request]
        if self.open is not None and self.has_slot(request):
            return self.open
        if request not in self._waiting:
            if len(self._waiting) >= self._max_waiting:
                raise SlotsTaken(
                    f"{len(self._waiting)} operations wait for this table already",
                    hint="nothing was done; try again later, or put several changes in one merge",
                )
            self._waiting[request] = None
        return None

    def has_slot(self, request: str) -> bool:
        """Whether the open slot is this request's."""
        return self.open is not None and self.open.request == request

    def knows(self, request: str) -> bool:
        """Whether this request was asked for here, and is not forgotten."""
        return self.has_slot(request) or request in self._waiting or request in self._verdicts

    def next(self) -> str | None:
        """Whose turn it is; None while a slot is open or nobody waits."""
        return next(iter(self._waiting), None) if self.open is None else None

    def grant(self, number: int, base_version: int) -> Grant:
        """Open the slot of whose turn it is.

        Raises:
            ValueError: A slot is open, or nobody waits.
        """
        request = self.next()
        if request is None:
            raise ValueError("a slot is open, or nobody waits for one")
        # In this order: who looks from another thread finds it in one of the two.
        self.open = Grant(request, number, base_version)
        del self._waiting[request]
        self._ended_for_sure = None
        return self.open

    def ended(self, request: str, *, for_sure: bool) -> Verdict | None:
        """A runner reports that it is done, or was lost. Repeating it changes nothing.

        Args:
            request: Its request.
            for_sure: Whether it certainly writes nothing any more: it said so itself.

        Returns:
            Its verdict where there is one; None: the slot is to be settled, or is not known.
        """
        if self.has_slot(request):
            self._ended_for_sure = for_sure or self.ended_for_sure
            return None
        if request in self._waiting:
            del self._waiting[request]
            return self._decide(Verdict(request, None))
        return self._verdicts.get(request)

    def settle(self, version: int | None) -> Verdict:
        """The open slot is over; the log decided.

        Args:
            version: The version that it made; None for none.

        Raises:
            ValueError: No slot is open.
        """
        if self.open is None:
            raise ValueError("no slot is open")
        verdict = Verdict(self.open.request, version)
        self.open = None
        self._ended_for_sure = None
        return self._decide(verdict)

    def verdict(self, request: str) -> Verdict | None:
        """What became of a request; None while that is open, or not known any more."""
        return self._verdicts.get(request)

    def _decide(self, verdict: Verdict) -> Verdict:
        self._verdicts[verdict.request] = verdict
        while len(self._verdicts) > self._kept:
            self._verdicts.popitem(last=False)
        return verdict
