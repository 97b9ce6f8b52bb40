"""What the retained commits tell of offsets without a row or a dead letter, from offsets on.

The ledger counts them and does not say where they lie; the commits do, as long as they are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from raylake.delta.log_reader import LogReader
from raylake.delta.metadata import range_from_json
from raylake.ingest.unit import Counts, SourcePartition

_LAST: Final = 2**63 - 2
"""No offset is greater."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A range of offsets, and its absent, lost and dropped offsets; None when not certain."""

    start: int
    end: int
    others: Counts | None

    def part(self, start: int, end: int) -> _Span:
        """The part of it within two offsets."""
        low, high = max(self.start, start), min(self.end, end)
        known = self.others
        if (low, high) != (self.start, self.end) and known is not None and known.total:
            of_one_kind = known.total == self.end - self.start and known.total in (
                known.absent,
                known.lost,
                known.dropped,
            )
            size = high - low
            known = (
                Counts(
                    absent=size * bool(known.absent),
                    lost=size * bool(known.lost),
                    dropped=size * bool(known.dropped),
                )
                if of_one_kind
                else None
            )
        return _Span(low, high, known)


@dataclass(slots=True)
class _Past:
    """What commits say of a partition, in their order.

    Attributes:
        ranges: What was ingested and skipped.
        deleted: Rows that rewrites took since, which are dropped offsets now.
    """

    ranges: list[_Span] = field(default_factory=list)
    deleted: list[_Span] = field(default_factory=list)

    def rewound(self, to: int) -> None:
        """Forget what lies from an offset on."""
        self.ranges = [one.part(one.start, to) for one in self.ranges if one.start < to]
        self.deleted = [one.part(one.start, to) for one in self.deleted if one.start < to]


@dataclass(frozen=True, slots=True)
class Told:
    """The absent, lost and dropped offsets from an end on, by the retained commits.

    Attributes:
        ingested: Without deleted rows. None where the commits do not reach back, or one of them
            holds both sides of the end and rows beside offsets without one.
        all: With deleted rows. None where a rewrite took rows on both sides besides, or does not
            say between which offsets.
    """

    ingested: Counts | None
    all: Counts | None


def others_told(
    reader: LogReader, version: int, ends: Mapping[SourcePartition, int]
) -> dict[SourcePartition, Told]:
    """What the retained commits say that they counted from offsets on.

    Args:
        reader: The table's log.
        version: The newest version to look at.
        ends: The first offset to count of each partition.
    """
    past = {source: _Past() for source in ends}
    for commit in reader.commits(reader.first_retained(), version):
        ours = commit.raylake or {}
        for data in ours.get("rewound") or ():
            if found := past.get(_source(data)):
                found.rewound(data["to"])
        for data in ours.get("ranges") or ():
            one = range_from_json(data)
            if one.source in past and one.end > one.start:
                counts = replace(one.counts, rows=0, dead=0)
                past[one.source].ranges.append(_Span(one.start, one.end, counts))
        for data in ours.get("taken") or ():
            if found := past.get(_source(data)):
                # Commits from before they were told do not have them.
                first, last = data.get("first", 0), data.get("last", _LAST)
                found.deleted.append(_Span(first, last + 1, Counts(dropped=data["rows"])))
    return {source: _from(ends[source], found) for source, found in past.items()}


def _source(data: Mapping[str, Any]) -> SourcePartition:
    return SourcePartition(data["topic"], data["topic_id"], int(data["partition"]))


def _from(end: int, past: _Past) -> Told:
    if not past.ranges or min(one.start for one in past.ranges) > end:
        return Told(None, None)
    ingested, deleted = _sum(end, past.ranges), _sum(end, past.deleted)
    if ingested is None or deleted is None:
        return Told(ingested, None)
    return Told(ingested, ingested + deleted)


def _sum(end: int, spans: list[_Span]) -> Counts | None:
    """The sum from an offset on; None when one is unsure."""
    total = Counts()
    for one in spans:
        if one.end > end:
            counts = one.part(end, one.end).others
            if counts is None:
                return None
            total = total + counts
    return total
