"""Which consumer reads which partition, and how partitions change hands (I7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from raylake.ingest.unit import SourcePartition


@dataclass(frozen=True, slots=True)
class Assignment:
    """One generation of the assignment.

    Attributes:
        generation: Grows with every change, never falls.
        owners: The consumer of each partition; partitions are left out when there is no consumer.
    """

    generation: int = 0
    owners: Mapping[SourcePartition, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "owners", dict(self.owners))

    def of(self, consumer: str) -> tuple[SourcePartition, ...]:
        """The partitions of ``consumer``, in order."""
        return tuple(sorted(s for s, owner in self.owners.items() if owner == consumer))


def assign(
    partitions: Iterable[SourcePartition],
    consumers: Iterable[str],
    previous: Assignment | None = None,
) -> Assignment:
    """Spread partitions over consumers: balanced, sticky, and the same for the same input.

    Consumers differ by at most one partition, and as few partitions move as balance allows. An
    assignment without a change is returned as it was; any other one gets the next generation.

    Args:
        partitions: Those that exist now.
        consumers: Those that live now, by name.
        previous: The assignment so far.
    """
    before = Assignment() if previous is None else previous
    wanted = sorted(set(partitions))
    kept: dict[str, list[SourcePartition]] = {name: [] for name in sorted(set(consumers))}
    pool: list[SourcePartition] = []
    for source in wanted:
        kept.get(before.owners.get(source, ""), pool).append(source)
    owners: dict[SourcePartition, str] = {}
    if kept:
        least, over = divmod(len(wanted), len(kept))
        # the fullest keep the odd ones, so that as little as possible moves
        fullest_first = sorted(kept, key=lambda name: (-len(kept[name]), name))
        quota = {name: least + (rank < over) for rank, name in enumerate(fullest_first)}
        for name, held in kept.items():
            pool.extend(held[quota[name] :])
            del held[quota[name] :]
        for source in sorted(pool):
            room = [name for name in kept if len(kept[name]) < quota[name]]
            kept[min(room, key=lambda name: len(kept[name]))].append(source)
        owners = {source: name for name, held in kept.items() for source in held}
    if owners == before.owners:
        return before
    return Assignment(before.generation + 1, owners)


@dataclass(frozen=True, slots=True)
class ConsumerUp:
    """A consumer is ready; its name is never used again once it held something and went down."""

    consumer: str


@dataclass(frozen=True, slots=True)
class ConsumerDown:
    """A consumer is known to be dead, or is written off: what it held is free."""

    consumer: str


@dataclass(frozen=True, slots=True)
class ConsumerLeaves:
    """A consumer gets nothing more and is asked to release what it has."""

    consumer: str


@dataclass(frozen=True, slots=True)
class PartitionsChanged:
    """The partitions that exist now."""

    partitions: frozenset[SourcePartition]


@dataclass(frozen=True, slots=True)
class Released:
    """A consumer handed over or dropped what it held of these partitions and reads on no more."""

    consumer: str
    sources: frozenset[SourcePartition]


Event = ConsumerUp | ConsumerDown | ConsumerLeaves | PartitionsChanged | Released


@dataclass(frozen=True, slots=True)
class Revoke:
    """Ask ``consumer`` to release ``sources``."""

    consumer: str
    sources: tuple[SourcePartition, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """Tell ``consumer`` to read ``sources`` from now on.

    Attributes:
        consumer: The consumer.
        sources: The partitions that it gets in addition to those it has.
        generation: Newer than that of every grant before. The owner refuses units of these
            partitions that carry an older one; a consumer's units carry its newest grant's.
    """

    consumer: str
    sources: tuple[SourcePartition, ...]
    generation: int


Effect = Revoke | Grant


class AssignmentMachine:
    """The supervisor's side of the assignment: events in, revokes and grants out.

    A partition is granted only after its former holder released it or went down, so at most one
    consumer holds it; a consumer that was wrongly believed dead is kept out by the generation and
    by the ledger (I1). The same events give the same effects.

    Args:
        generation: The last generation of an earlier supervisor; grants carry greater ones.
    """

    def __init__(self, generation: int = 0) -> None:
        self.generation = generation
        self._consumers: set[str] = set()
        self._partitions: frozenset[SourcePartition] = frozenset()
        self._target = Assignment()
        self._holders: dict[SourcePartition, tuple[str, int]] = {}
        self._revoking: set[SourcePartition] = set()

    @property
    def consumers(self) -> frozenset[str]:
        """The consumers that are up."""
        return frozenset(self._consumers)

    @property
    def target(self) -> Assignment:
        """Where the partitions belong; what is held differs while they change hands."""
        return self._target

    @property
    def settled(self) -> bool:
        """Whether every partition is held where it belongs."""
        held = {source: holder for source, (holder, _) in self._holders.items()}
        return not self._revoking and held == self._target.owners

    def holder(self, source: SourcePartition) -> str | None:
        """The consumer that holds ``source``, None while nobody does."""
        held = self._holders.get(source)
        return None if held is None else held[0]

    def generation_of(self, source: SourcePartition) -> int | None:
        """The generation under which ``source`` was granted, None while nobody holds it."""
        held = self._holders.get(source)
        return None if held is None else held[1]

    def held_by(self, consumer: str) -> tuple[SourcePartition, ...]:
        """The partitions that ``consumer`` holds, in order, those being revoked included."""
        return tuple(sorted(s for s, (name, _) in self._holders.items() if name == consumer))

    def on(self, event: Event) -> list[Effect]:
        """Take one event; returns what to do, revokes first.

        A second ``ConsumerUp``, a ``ConsumerDown`` of an unknown consumer and a ``Released`` of
        partitions that the consumer does not hold have no effect.
        """
        match event:
            case ConsumerUp(consumer):
                self._consumers.add(consumer)
            case ConsumerDown(consumer):
                self._consumers.discard(consumer)
                self._free(consumer, self.held_by(consumer))
            case ConsumerLeaves(consumer):
                self._consumers.discard(consumer)
            case PartitionsChanged(partitions):
                self._partitions = partitions
            case _:
                self._free(event.consumer, event.sources)
        self._target = assign(self._partitions, self._consumers, self._target)
        return [*self._revoke(), *self._grant()]

    def _free(self, consumer: str, sources: Iterable[SourcePartition]) -> None:
        for source in sources:
            if self.holder(source) == consumer:
                del self._holders[source]
                self._revoking.discard(source)

    def _revoke(self) -> list[Effect]:
        asked: dict[str, list[SourcePartition]] = {}
        for source, (consumer, _) in sorted(self._holders.items()):
            if source not in self._revoking and self._target.owners.get(source) != consumer:
                self._revoking.add(source)
                asked.setdefault(consumer, []).append(source)
        return [Revoke(consumer, tuple(asked[consumer])) for consumer in sorted(asked)]

    def _grant(self) -> list[Effect]:
        given: dict[str, list[SourcePartition]] = {}
        for source, consumer in sorted(self._target.owners.items()):
            if source not in self._holders:
                given.setdefault(consumer, []).append(source)
        if not given:
            return []
        self.generation += 1
        for consumer, sources in given.items():
            self._holders.update(dict.fromkeys(sources, (consumer, self.generation)))
        return [Grant(name, tuple(given[name]), self.generation) for name in sorted(given)]
