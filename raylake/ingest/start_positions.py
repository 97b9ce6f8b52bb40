"""Where a table begins to read a partition that it has not admitted yet (SPEC A7, I9).

The answer is an explicit offset, which the table commits as the partition's ``origin``; it is asked
for once in a partition's life.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from raylake.config.bronze import Earliest, FromGroup, FromOffsets, FromTimestamp, Latest
from raylake.errors import ConfigError, OffsetsLost
from raylake.ingest.unit import SourcePartition

Offsets = Mapping[SourcePartition, int]
SHOWN = 5


Start = Earliest | Latest | FromTimestamp | FromOffsets | FromGroup


class Lookups(Protocol):
    """What the broker is asked; ``raylake.kafka.client.Cluster`` answers.

    Partitions that an answer leaves out, or gives a negative offset, have none.
    """

    def earliest(self, sources: list[SourcePartition], /) -> Offsets:
        """The first offset that each partition still has."""
        ...

    def latest(self, sources: list[SourcePartition], /) -> Offsets:
        """The last stable offset of each partition."""
        ...

    def at_timestamp(self, sources: list[SourcePartition], timestamp_ms: int, /) -> Offsets:
        """The first offset at or after the time; partitions without such a record left out."""
        ...

    def group(self, sources: list[SourcePartition], group_id: str, /) -> Offsets:
        """The group's committed next offsets; partitions without one left out."""
        ...


@dataclass(frozen=True, slots=True)
class FixedLookups:
    """Lookups answered from memory, for simulations and tests.

    Attributes:
        first: Earliest offsets.
        last: Last stable offsets.
        timestamps: The first offset at or after a time, by a function.
        groups: Committed offsets by group.
    """

    first: Offsets
    last: Offsets
    timestamps: Callable[[SourcePartition, int], int | None] = lambda _source, _ms: None
    groups: Mapping[str, Offsets] = field(default_factory=dict)

    def earliest(self, sources: list[SourcePartition], /) -> Offsets:
        """The first offsets, as given."""
        return {s: self.first[s] for s in sources if s in self.first}

    def latest(self, sources: list[SourcePartition], /) -> Offsets:
        """The last offsets, as given."""
        return {s: self.last[s] for s in sources if s in self.last}

    def at_timestamp(self, sources: list[SourcePartition], timestamp_ms: int, /) -> Offsets:
        """What the function says."""
        found = {s: self.timestamps(s, timestamp_ms) for s in sources}
        return {s: offset for s, offset in found.items() if offset is not None}

    def group(self, sources: list[SourcePartition], group_id: str, /) -> Offsets:
        """The group's offsets, as given."""
        committed = self.groups.get(group_id, {})
        return {s: committed[s] for s in sources if s in committed}


def resolve(
    start: Start,
    sources: Collection[SourcePartition],
    lookups: Lookups,
    *,
    appeared_later: Collection[SourcePartition] = (),
    admitted: Collection[SourcePartition] = (),
) -> dict[SourcePartition, int]:
    """The offset at which each partition is admitted.

    Args:
        start: The table's start option.
        sources: The partitions to be admitted.
        lookups: Answers about the broker.
        appeared_later: Those of them that came into being after the pipeline first started: they
            start at 0 whatever ``start`` says, so that nothing of them is missed (I9). Where the
            broker has dropped offset 0 meanwhile, the first fetch says so (I6).
        admitted: Partitions that have their position already; ``start`` may name them too.

    Raises:
        ConfigError: A group's offset is missing for a partition, or an offset is given for a
            partition that is not there.
        OffsetsLost: An explicit or a group's offset is no longer, or not yet, in Kafka.
    """
    later = set(appeared_later)
    asked = sorted(set(sources) - later)
    resolved = dict.fromkeys(sorted(set(sources) & later), 0)
    if isinstance(start, FromOffsets):
        _check_named(start, {*sources, *later, *admitted})
    if asked:
        resolved.update(_resolve(start, asked, lookups))
    return resolved


def _resolve(start: Start, asked: list[SourcePartition], lookups: Lookups) -> Offsets:
    match start:
        case Earliest():
            return _all_of(asked, lookups.earliest(asked), "the broker gave no first offset")
        case Latest():
            return _all_of(asked, lookups.latest(asked), "the broker gave no last offset")
        case FromTimestamp(timestamp_ms=timestamp_ms):
            latest = _all_of(asked, lookups.latest(asked), "the broker gave no last offset")
            return {**latest, **_present(asked, lookups.at_timestamp(asked, timestamp_ms))}
        case FromOffsets(offsets=offsets):
            found = _explicit(offsets, asked, lookups)
        case _:
            found = _of_group(start.group, asked, lookups)
    _check_within(found, lookups)
    return found


def _check_named(start: FromOffsets, there: Collection[SourcePartition]) -> None:
    named = {(topic, partition) for topic, of in start.offsets.items() for partition in of}
    unknown = sorted(named - {(s.topic, s.partition) for s in there})
    if unknown:
        raise ConfigError(
            f"start.offsets names {_listed([f'{t}[{p}]' for t, p in unknown])}, which "
            f"{'does' if len(unknown) == 1 else 'do'} not exist",
            hint=f"the partitions are {_listed([str(s) for s in sorted(there)])}",
            unknown=[[topic, partition] for topic, partition in unknown],
        )


def _explicit(
    offsets: Mapping[str, Mapping[int, int]], asked: list[SourcePartition], lookups: Lookups
) -> Offsets:
    named = {(topic, p): offset for topic, of in offsets.items() for p, offset in of.items()}
    found = {s: named[s.topic, s.partition] for s in asked if (s.topic, s.partition) in named}
    unnamed = [s for s in asked if s not in found]
    if unnamed:
        found.update(_resolve(Earliest(), unnamed, lookups))
    return found


def _of_group(group: str, asked: list[SourcePartition], lookups: Lookups) -> Offsets:
    found = _present(asked, lookups.group(asked, group))
    if not found:
        raise ConfigError(
            f"consumer group {group!r} has no committed offset for {_listed([*map(str, asked)])}",
            hint="is the group's name right? Groups lose their offsets when they are not used",
            group=group,
        )
    return _all_of(
        asked,
        found,
        f"consumer group {group!r} has no committed offset",
        hint="commit one there, or write all of them down under `start: {offsets: …}`",
    )


def _present(asked: Sequence[SourcePartition], found: Offsets) -> dict[SourcePartition, int]:
    return {s: found[s] for s in asked if found.get(s, -1) >= 0}


def _all_of(
    asked: Sequence[SourcePartition], found: Offsets, what: str, *, hint: str = ""
) -> Offsets:
    present = _present(asked, found)
    missing = [s for s in asked if s not in present]
    if missing:
        raise ConfigError(
            f"{what} for {_listed([str(s) for s in missing])}",
            hint=hint or "does the topic still exist?",
            missing=[[s.topic, s.partition] for s in missing],
        )
    return present


def _check_within(found: Offsets, lookups: Lookups) -> None:
    sources = sorted(found)
    first, last = lookups.earliest(sources), lookups.latest(sources)
    for source in sources:
        asked, begin, end = found[source], first.get(source, 0), last.get(source, found[source])
        if begin <= asked <= end:
            continue
        gone = asked < begin
        count = begin - asked if gone else asked - end
        trouble = f"{count} offsets are gone" if gone else f"it lies {count} beyond the end"
        raise OffsetsLost(
            f"{source}: cannot start at offset {asked}, the log holds [{begin}, {end}): {trouble}",
            hint="start at an offset that the log holds, or `earliest`",
            topic=source.topic,
            partition=source.partition,
            asked=asked,
            log_start=begin,
            log_end=end,
            count=count,
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
