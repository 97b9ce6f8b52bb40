"""The end of a run: how long a drain may be taken back, and what is said when it fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raylake.clock import Clock, Deadline
from raylake.errors import DependencyUnreachable, RayLakeError, Refused, Terminal
from raylake.ingest.breaker import BreakerState
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.unit import SourcePartition

MAX_NAMED = 5


class LeftOver(DependencyUnreachable):
    """A run has drained and left something, because Kafka or a store did not answer."""

    code = "left_over"


@dataclass(frozen=True, slots=True)
class Behind:
    """A table that lacks something that was aimed at.

    Attributes:
        table: The table.
        source: The partition.
        next: The table's end there.
        target: The end that was aimed at.
    """

    table: str
    source: SourcePartition
    next: int
    target: int

    def __str__(self) -> str:
        return f"{self.table} stands at {self.next} of {self.target} of {self.source}"


class TakeBacks:
    """Bounds how long a drain is taken back: ``budget_s`` without any table getting on.

    Args:
        budget_s: Seconds.
        clock: Time.
    """

    def __init__(self, budget_s: float, clock: Clock) -> None:
        self._budget_s = budget_s
        self._clock = clock
        self._behind: list[Behind] = []
        self._deadline: Deadline | None = None

    def exhausted(self, behind: list[Behind]) -> bool:
        """Whether nothing is behind, or it has stood still for too long to be tried again."""
        if self._deadline is None or behind != self._behind:
            self._behind = behind
            self._deadline = Deadline.after(self._budget_s, self._clock)
        return not behind or self._deadline.expired()


class LettersHeldUp:
    """How long a drain waits for dead letters that their table does not take.

    An open breaker may only tell of a queue that died and is there again: it is waited for until a
    probe after that failed too. One that was tripped by hand is not waited for.
    """

    def __init__(self) -> None:
        self._opened: dict[str, int] = {}

    def may_be_stored(self, table: str, owner: OwnerState) -> bool:
        """Whether letters wait, and are taken or may yet be.

        Args:
            table: The table.
            owner: How its owner stands.
        """
        if not owner.pending_dead_letters:
            return False
        breaker = owner.breakers["dead_letters"]
        if breaker["state"] == BreakerState.CLOSED.value:
            self._opened.pop(table, None)
            return True
        opened = self._opened.setdefault(table, breaker["opened_total"])
        return not breaker["by_hand"] and breaker["opened_total"] <= opened


def kept_refusing(behind: list[Behind], owners: Mapping[str, Any]) -> RayLakeError | None:
    """The error of a run whose table goes on refusing what it is offered; None when none does.

    Args:
        behind: What the tables lack.
        owners: The last report of each table's owner.
    """
    if not behind:
        return None
    said = _named(str(one) for one in behind)
    owner = owners.get(behind[0].table)
    reason = owner.state.last_refusal if owner is not None else ""
    message = f"the tables do not get on, however often they are offered the rest: {said}"
    if not reason:
        return Terminal(message, hint="look at `raylake logs`")
    return Refused(
        f"{message}; the last refusal: {reason}",
        hint="nothing was lost or doubled; look at `raylake logs`, and at `raylake verify`",
    )


def left_over(
    unchecked: Mapping[SourcePartition, int], owners: Mapping[str, Any]
) -> LeftOver | None:
    """The error of a run that leaves something to the next one; None when it leaves nothing.

    Args:
        unchecked: Offsets that were read and not handed over, by partition.
        owners: The last report of each table's owner.
    """
    said = []
    if unchecked:
        said.append(
            f"no broker answered, so {sum(unchecked.values()):,} offsets that were read of "
            f"{_named(str(source) for source in sorted(unchecked))} were not handed over: "
            "the next start reads them again"
        )
    pending = {name: owner.state.pending_dead_letters for name, owner in sorted(owners.items())}
    waiting = [f"{name} ({commits} commits)" for name, commits in pending.items() if commits]
    if waiting:
        said.append(
            f"the dead-letter table did not take the dead letters of {_named(waiting)}: "
            "the tables' logs name them, and the next start stores them"
        )
    if not said:
        return None
    return LeftOver(
        f"drained, but not everything is stored: {'; '.join(said)}",
        hint="nothing is lost and what was committed stays; start the pipeline again when "
        f"{'the brokers answer' if unchecked else 'the dead-letter table can be written'}",
    )


def drained_too_long(
    consumers: Iterable[str], reports: Mapping[str, ConsumerReport], owners: Mapping[str, Any]
) -> Terminal:
    """The error of a run whose drain took longer than ``drain_timeout``.

    Args:
        consumers: The consumers.
        reports: What they reported since the drain began.
        owners: The last report of each table's owner.
    """
    waiting = []
    for name in sorted(consumers):
        report = reports.get(name)
        if report is None:
            waiting.append(f"{name} does not answer")
        elif report.state != "drained":
            held = [table for table, counters in report.tables.items() if counters["held_bytes"]]
            partitions = _named(str(source) for source in report.sources)
            why = [report.error, *(owners[t].state.error for t in held if t in owners)]
            said = next((f": {text}" for text in why if text), "")
            waiting.append(f"{', '.join(held) or 'nothing'} of {partitions} in {name}{said}")
    still = f" Still waiting: {'; '.join(waiting)}." if waiting else ""
    return Terminal(
        f"the drain took longer than drain_timeout; what was not committed is read again.{still}",
        hint="raise ingest.drain_timeout, or look at `raylake logs`",
    )


def _named(texts: Iterable[str]) -> str:
    found = list(texts)
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return ", ".join(found[:MAX_NAMED]) + more
