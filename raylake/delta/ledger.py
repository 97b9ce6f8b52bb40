"""The ledger protocol as pure functions: app ids, the six relations, the fold (DESIGN §4).

Nothing here does I/O. The owner (:mod:`raylake.delta.owned_table`) holds the states that these
functions fold over, and the table's log holds them as ``txn`` actions.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raylake.ingest.unit import Counts, OffsetRange, PartitionState, SourcePartition, Unit

OWNER_APP = "raylake/owner"
LIFTED_APP = "raylake/append_only_lifted"
"""1 while a rewind has made an append-only table accept that rows leave, 0 afterwards."""

PREFIX = "raylake/"
EPOCH_BITS = 32

NAMES = (
    "next",
    "origin",
    "rows",
    "dead",
    "absent",
    "lost",
    "dropped",
    "epoch",
    "event_ms",
)
"""The last part of a partition's app ids."""


def owner_number(epoch: int, number: int) -> int:
    """The value of ``raylake/owner``: commit ``number`` of ``epoch``."""
    return (epoch << EPOCH_BITS) + number


def owner_epoch(value: int) -> int:
    """The epoch in a value of ``raylake/owner``."""
    return value >> EPOCH_BITS


def app_id(pipeline: str, source: SourcePartition, name: str) -> str:
    """The app id of one of :data:`NAMES` for one partition of one pipeline.

    Raises:
        ValueError: A part is empty or holds a slash, so that the id could not be read back.
    """
    for part in (pipeline, source.topic, source.topic_id):
        if not part or "/" in part:
            raise ValueError(f"{part!r} cannot be part of an app id")
    return f"{PREFIX}{pipeline}/{source.topic}/{source.topic_id}/{source.partition}/{name}"


@dataclass(frozen=True, slots=True)
class AppId:
    """A partition's app id, read back."""

    pipeline: str
    source: SourcePartition
    name: str


def parse_app_id(text: str) -> AppId | None:
    """The parts of a partition's app id; None for any other one (the owner's, a foreign one)."""
    parts = text.split("/")
    if len(parts) != 6 or parts[0] != "raylake" or parts[5] not in NAMES:
        return None
    if not parts[4].isdecimal():
        return None
    return AppId(parts[1], SourcePartition(parts[2], parts[3], int(parts[4])), parts[5])


def state_values(state: PartitionState) -> dict[str, int]:
    """A state as the values of its txns; what is not known has none."""
    totals = state.totals
    values = {
        "next": state.next,
        "origin": state.origin,
        "rows": totals.rows,
        "dead": totals.dead,
        "absent": totals.absent,
        "lost": totals.lost,
        "dropped": totals.dropped,
    }
    if state.leader_epoch >= 0:
        values["epoch"] = state.leader_epoch
    if state.max_event_ms is not None:
        values["event_ms"] = state.max_event_ms
    return values


def state_from_values(values: Mapping[str, int]) -> PartitionState | None:
    """The state that the txns of a partition describe; None when it was never admitted."""
    if "origin" not in values or "next" not in values:
        return None
    return PartitionState(
        origin=values["origin"],
        next=values["next"],
        totals=Counts(
            rows=values.get("rows", 0),
            dead=values.get("dead", 0),
            absent=values.get("absent", 0),
            lost=values.get("lost", 0),
            dropped=values.get("dropped", 0),
        ),
        leader_epoch=values.get("epoch", -1),
        max_event_ms=values.get("event_ms"),
    )


def states_of(txns: Mapping[str, int]) -> dict[tuple[str, SourcePartition], PartitionState]:
    """The state of every admitted partition in a table's txns, by pipeline and partition."""
    values: dict[tuple[str, SourcePartition], dict[str, int]] = {}
    for text, value in txns.items():
        if parsed := parse_app_id(text):
            values.setdefault((parsed.pipeline, parsed.source), {})[parsed.name] = value
    found = {key: state_from_values(one) for key, one in sorted(values.items())}
    return {key: state for key, state in found.items() if state is not None}


def admitted(origin: int) -> PartitionState:
    """The state of a partition that was just admitted at ``origin`` (I9)."""
    return PartitionState(origin=origin, next=origin, totals=Counts())


def changed_values(before: PartitionState | None, after: PartitionState) -> dict[str, int]:
    """The txns that lead from one state to the next: only what changed; both ends when new."""
    old = state_values(before) if before is not None else {}
    new = state_values(after)
    if before is None:
        return {k: v for k, v in new.items() if v or k in ("next", "origin")}
    return {k: v for k, v in new.items() if old.get(k) != v}


class Relation(enum.Enum):
    """How a range lies to what is committed; only ``NEW`` may be committed (I1)."""

    NEW = "new"
    SAME = "same"
    OVERLAP = "overlap"
    CONTAINED = "contained"
    BELOW = "below"
    BEYOND = "beyond"


def relation(start: int, end: int, last: tuple[int, int]) -> Relation:
    """The relation of ``[start, end)`` to the last committed range ``[last[0], last[1])``.

    Everything up to ``last[1]`` is committed, so ``SAME``, ``CONTAINED`` and ``BELOW`` are all
    done already. An empty range at the end is ``NEW``.
    """
    last_start, table_end = last
    if start == table_end:
        return Relation.NEW
    if start > table_end:
        return Relation.BEYOND
    if end > table_end:
        return Relation.OVERLAP
    if (start, end) == (last_start, table_end):
        return Relation.SAME
    if end <= last_start:
        return Relation.BELOW
    return Relation.CONTAINED


DONE = frozenset({Relation.SAME, Relation.CONTAINED, Relation.BELOW})


class Verdict(enum.Enum):
    """What the fold decides on a unit."""

    ACCEPT = "accept"
    ALREADY = "already"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    """The fold's answer to one unit.

    Attributes:
        unit: The unit.
        verdict: Accept, already done, or refuse.
        reason: Why it is refused, else empty.
    """

    unit: Unit
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the table says, and what the owner was told; the ground of a fold.

    Attributes:
        states: State of every admitted partition.
        pipelines: The pipeline that a partition was admitted for.
        generations: Generation under which a partition was granted last, when known (I7).
        fingerprint: Fingerprint of the table's schema.
    """

    states: Mapping[SourcePartition, PartitionState]
    pipelines: Mapping[SourcePartition, str]
    generations: Mapping[SourcePartition, int]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Fold:
    """The result of folding units over a ledger.

    Attributes:
        decisions: One per unit, in order of arrival.
        states: States of the partitions that moved, after the fold.
    """

    decisions: tuple[Decision, ...]
    states: Mapping[SourcePartition, PartitionState]

    def accepted(self) -> list[Unit]:
        """The units to commit, in order of arrival."""
        return [d.unit for d in self.decisions if d.verdict is Verdict.ACCEPT]


def fold(units: Iterable[Unit], ledger: Ledger, bad: Mapping[str, str] | None = None) -> Fold:
    """Fold waiting units over the table's ends, in order of arrival (commit rule, step 3).

    A refused unit changes nothing and holds up nobody: the next one is judged on its own.

    Args:
        units: Units in order of arrival.
        ledger: What the table holds.
        bad: Reasons by unit id, for units whose files failed their check (step 4).
    """
    moved: dict[SourcePartition, PartitionState] = {}
    decisions = []
    seen: set[str] = set()
    for unit in units:
        states = {r.source: moved.get(r.source) or ledger.states.get(r.source) for r in unit.ranges}
        decision = _decide(unit, states, ledger, bad or {})
        if decision.verdict is Verdict.ACCEPT and unit.unit_id in seen:
            decision = Decision(unit, Verdict.REFUSE, "unit id used twice")
        if decision.verdict is Verdict.ACCEPT:
            seen.add(unit.unit_id)
            for one in unit.ranges:
                state = states[one.source]
                if state is not None and one.end > one.start:
                    moved[one.source] = advance(state, one)
        decisions.append(decision)
    return Fold(tuple(decisions), moved)


def _decide(
    unit: Unit,
    states: Mapping[SourcePartition, PartitionState | None],
    ledger: Ledger,
    bad: Mapping[str, str],
) -> Decision:
    relations: set[Relation] = set()
    for one in unit.ranges:
        state = states[one.source]
        if state is None or ledger.pipelines.get(one.source) != unit.pipeline:
            return Decision(unit, Verdict.REFUSE, "not_admitted")
        found = relation(one.start, one.end, (state.origin, state.next))
        if found is not Relation.NEW or one.end > one.start:
            relations.add(found)
    if relations <= DONE and not (unit.files and not unit.ranges):
        return Decision(unit, Verdict.ALREADY)
    reason = _refusal(unit, relations, ledger) or bad.get(unit.unit_id, "")
    return Decision(unit, Verdict.REFUSE if reason else Verdict.ACCEPT, reason)


def _refusal(unit: Unit, relations: set[Relation], ledger: Ledger) -> str:
    if any(unit.generation < ledger.generations.get(r.source, 0) for r in unit.ranges):
        return "generation"
    if Relation.OVERLAP in relations:
        return "overlap"
    if Relation.BEYOND in relations:
        return "gap"
    if relations & DONE:
        return "mixed"
    if unit.schema_fingerprint != ledger.fingerprint:
        return "schema"
    return "" if unit.ranges else "file: no range covers the files"


def advance(state: PartitionState, one: OffsetRange) -> PartitionState:
    """The state after a range that starts at its end.

    Raises:
        ValueError: The range does not start there (I1).
    """
    if one.start != state.next:
        raise ValueError(f"{one.source}: [{one.start}, {one.end}) does not start at {state.next}")
    events = [ms for ms in (state.max_event_ms, one.max_event_ms) if ms is not None]
    return PartitionState(
        origin=state.origin,
        next=one.end,
        totals=state.totals + one.counts,
        leader_epoch=one.leader_epoch if one.leader_epoch >= 0 else state.leader_epoch,
        max_event_ms=max(events) if events else None,
    )


def merged_ranges(units: Sequence[Unit]) -> list[OffsetRange]:
    """The ranges of accepted units, one per partition, in order of topic and partition."""
    merged: dict[SourcePartition, OffsetRange] = {}
    for unit in units:
        for one in unit.ranges:
            earlier = merged.get(one.source)
            merged[one.source] = earlier.then(one) if earlier is not None else one
    return [merged[source] for source in sorted(merged)]
