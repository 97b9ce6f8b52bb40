"""A gate for poison: a partition that is nearly all dead letters stops (DESIGN §7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from raylake.clock import Clock
from raylake.ingest.breaker import Breaker, BreakerPolicy, BreakerState
from raylake.ingest.switches import Switches, poison_name
from raylake.ingest.unit import SourcePartition

MIN_JUDGED_RECORDS = 100


@dataclass(frozen=True, slots=True)
class PoisonPolicy:
    """When a partition holds too much poison to go on.

    Attributes:
        stop_above: The share of dead letters that still passes, 0 to 1 (1 never stops).
        window_records: The records over which the share is taken.
        min_records: Below this many records seen the share means nothing.
        open_s: Time until the partition's next batch is judged again.
    """

    stop_above: float = 0.2
    window_records: int = 10_000
    min_records: int = MIN_JUDGED_RECORDS
    open_s: float = 30.0

    @property
    def limit(self) -> str:
        """The limit, for people."""
        abort = self.stop_above == 0.0 and self.min_records == 1
        return "on_failure is abort" if abort else f"stop_above is {self.stop_above:.0%}"

    def __post_init__(self) -> None:
        if not 0.0 <= self.stop_above <= 1.0:
            raise ValueError(f"stop_above {self.stop_above} is not in [0, 1]")
        if not 1 <= self.min_records <= self.window_records:
            raise ValueError("1 <= min_records <= window_records")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says about one batch.

    Attributes:
        allowed: False: commit nothing of the batch, neither rows nor dead letters; hold the
            partition at the batch's start.
        seen: Records over which the share was taken.
        dead: Dead letters among them.
        reason: Why not, for people; empty when allowed.
        by_hand: Whether somebody tripped it.
    """

    allowed: bool
    seen: int
    dead: int
    reason: str = ""
    by_hand: bool = False


@dataclass(slots=True)
class _Judged:
    breaker: Breaker
    offsets: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    dead: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    unjudged: int = 0


class PoisonGate:
    """Stops a partition that is nearly all poison before its dead letters are committed.

    One for a table. Ask :meth:`judge` about every decoded batch before it goes into a unit. The
    share is taken over the last ``window_records`` records of the partition, the batch included: at
    the batch's end (once ``min_records`` were seen), and inside it wherever a full window ends. A
    topic with fewer than ``min_records`` records never stops: its poison becomes dead letters.

    A stopped batch is not counted and must not be committed: the ledger stays at its start and a
    restart reads it again, so nothing is doubled. Records read again replace what the window holds
    from their first offset on. Restored as stopped, it judges from the first record on, so restarts
    let no poison through. ``accept`` is the operator's "these are dead letters indeed".
    """

    def __init__(self, policy: PoisonPolicy, clock: Clock, *, table: str = "") -> None:
        self.policy = policy
        self._table = table
        self._switches = Switches()
        self._clock = clock
        self._breaker_policy = BreakerPolicy(open_s=policy.open_s, half_open_calls=1)
        self._partitions: dict[SourcePartition, _Judged] = {}

    def judge(
        self, source: SourcePartition, offsets: npt.NDArray[np.int64], dead_rows: Sequence[int]
    ) -> Verdict:
        """Decide on one batch.

        Args:
            source: The partition.
            offsets: The offset of each record of the batch, ascending; gaps are not records.
            dead_rows: Positions in ``offsets`` of the records that would become dead letters.
        """
        judged = self._judged(source)
        if not len(offsets):
            return Verdict(True, len(judged.dead), int(judged.dead.sum()))
        probing = judged.breaker.state is not BreakerState.CLOSED
        if not judged.breaker.allow():
            return Verdict(False, 0, 0, judged.breaker.reason, judged.breaker.by_hand)
        kept = int(np.searchsorted(judged.offsets, offsets[0]))
        fresh = np.zeros(len(offsets), np.bool_)
        fresh[np.asarray(dead_rows, np.intp)] = True
        dead = np.concatenate([judged.dead[:kept], fresh])
        verdict = self._verdict(source, dead, 1 if probing else self.policy.min_records)
        if judged.unjudged:
            judged.unjudged = max(0, judged.unjudged - len(offsets))
            verdict = Verdict(True, verdict.seen, verdict.dead)
        if verdict.allowed:
            window = self.policy.window_records
            judged.dead = dead[-window:]
            judged.offsets = np.concatenate([judged.offsets[:kept], offsets])[-window:]
            judged.breaker.success()
        else:
            judged.breaker.trip(verdict.reason, for_s=self.policy.open_s)
        return verdict

    def breaker(self, source: SourcePartition) -> Breaker:
        """The partition's breaker: its state, when it is judged again."""
        return self._judged(source).breaker

    def switch(self, switches: Switches) -> None:
        """Stop partitions by hand, those that come later too, and let partitions go on."""
        self._switches = Switches(switches.held)
        for source, judged in self._partitions.items():
            switches.apply(self._name(source), judged.breaker)

    def accept(self, source: SourcePartition) -> None:
        """Close it, and let the next ``window_records`` records pass whatever they are."""
        self.forget(source)
        self._judged(source).unjudged = self.policy.window_records

    def forget(self, source: SourcePartition) -> None:
        """Drop what is known of a partition that was given away."""
        self._partitions.pop(source, None)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """The breakers that are not closed, by name, for the status document."""
        found = (judged.breaker.snapshot() for judged in self._partitions.values())
        return {s["name"]: s for s in found if s["state"] != BreakerState.CLOSED.value}

    def restore(
        self, snapshot: Mapping[str, Mapping[str, Any]], sources: Sequence[SourcePartition]
    ) -> None:
        """Start from a snapshot; of it, only what concerns ``sources`` is taken."""
        for source in sources:
            stopped = snapshot.get(self._name(source))
            if stopped is not None:
                breaker = self._judged(source).breaker
                breaker.restore(stopped)
                self._switches.apply(self._name(source), breaker)

    def _name(self, source: SourcePartition) -> str:
        return poison_name(self._table, source)

    def _judged(self, source: SourcePartition) -> _Judged:
        if source not in self._partitions:
            name = self._name(source)
            breaker = Breaker(name, self._breaker_policy, self._clock)
            self._switches.apply(name, breaker)
            self._partitions[source] = _Judged(breaker)
        return self._partitions[source]

    def _verdict(
        self, source: SourcePartition, dead: npt.NDArray[np.bool_], at_least: int
    ) -> Verdict:
        window = self.policy.window_records
        total = np.concatenate([[0], np.cumsum(dead)])
        seen = min(len(dead), window)
        found = int(total[-1] - total[len(dead) - seen])
        if len(dead) > window:
            worst = int((total[window:] - total[:-window]).max())
            if worst > self.policy.stop_above * window:
                seen, found = window, worst
        if seen < at_least or found <= self.policy.stop_above * seen:
            return Verdict(True, seen, found)
        reason = f"{source}: {found} of {seen} records cannot be read ({self.policy.limit})"
        return Verdict(False, seen, found, f"{reason}: is `format` right?")
