"""``adopt``: let a table begin where somebody else's ingestion stands, in one commit (I12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from raylake.client.foreign_positions import (
    Ends,
    ForeignPositions,
    Origin,
    describe,
    foreign_positions,
)
from raylake.client.position_orders import Carried, Done, PartitionMove, Place, place
from raylake.clock import Clock
from raylake.config import Loaded
from raylake.config.bronze import FromOffsets
from raylake.delta.moves import Adopt, adopted
from raylake.errors import AlreadyRunning, ConfigError, Refused
from raylake.ingest.discovery import KafkaDiscovery
from raylake.ingest.plan import RunPlan, new_run_id
from raylake.ingest.start_positions import resolve
from raylake.ingest.unit import SourcePartition, partition_names

Offsets = dict[SourcePartition, int]
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Others:
    """What becomes of the table's partitions of which the other ingestion says nothing.

    Attributes:
        way: ``start``: they begin as the pipeline file's ``start:`` says now; ``later``: they get
            no position by this order; None: there must be none.
        ends: By topic and partition, where some of them begin.
    """

    way: Literal["start", "later"] | None = None
    ends: Ends = field(default_factory=dict)


NONE_LEFT: Final = Others()


def adopt(
    loaded: Loaded,
    table: str,
    origin: Origin,
    clock: Clock,
    *,
    others: Others = NONE_LEFT,
    dry_run: bool,
) -> Done:
    """Let a table begin where somebody else's ingestion stands, in one commit.

    Args:
        loaded: The pipeline file.
        table: ``bronze.orders``; it is created when it is not there.
        origin: Who has read its topics up to now, and must not do so any more.
        clock: Time.
        others: What becomes of the table's other partitions.
        dry_run: Only say what would be done.

    Raises:
        ConfigError: ``origin`` is not what it is said to be, or of other topics.
        Refused: Its position cannot be told, Kafka does not have it, a partition stands at another
            offset here already, or the table has partitions of which nobody says where they begin.
        AlreadyRunning: It still reads, or this pipeline runs.
        RayLakeError: Why it was not done; nothing was changed.
    """
    with place(loaded, table, clock) as at, _discovery(at) as discovery:
        found = foreign_positions(origin, at.plan.sources, at.cluster)
        left = _left(at, found)
        begun = _begun(at, others, found, left)
        order = _order(at, others, found, begun)
        fresh = adopted(order, at.states, str(at.root))
        unnamed = _unnamed(at, discovery, sorted(set(left) - set(begun)), order)
        if fresh and unnamed and others.way != "later":
            raise _incomplete(table, found, unnamed)
        carried = Carried()
        if fresh and not dry_run:
            spec = discovery.setup(at.plan).spec
            _refuse_moved(origin, at, found)
            carried = at.carry_out(order, spec)
        said = {"ignored_topics": list(found.ignored), "left": _plain(unnamed)}
        notes = dict.fromkeys(found.fresh, "not read before: from its start")
        notes |= dict.fromkeys(begun.keys() - at.named(others.ends).keys(), "by `start`")
        moves = tuple(PartitionMove(s, None, now, notes.get(s, "")) for s, now in fresh.items())
        note = {"adopted": dict(order.note), **said}
        return Done("adopt", table, moves, dry_run, carried.version, note, carried.left)


@contextmanager
def _discovery(at: Place) -> Iterator[KafkaDiscovery]:
    run = RunPlan(at.loaded.config, at.loaded.sha256, str(at.loaded.path), new_run_id())
    discovery = KafkaDiscovery(run, at.clock)
    try:
        yield discovery
    finally:
        discovery.close()


def _left(at: Place, found: ForeignPositions) -> list[SourcePartition]:
    """The partitions that have no position yet and of which nothing is said.

    Without those of a topic that was created again, where a run stops at them and says so.
    """
    ids, names = {s.topic_id for s in at.states}, {s.topic for s in at.states}
    stops = at.plan.config.on_topic_recreated != "start"
    return [
        s
        for s in at.plan.sources
        if s not in found.ends
        and s not in at.states
        and not (stops and s.topic in names and s.topic_id not in ids)
    ]


def _begun(
    at: Place, others: Others, found: ForeignPositions, left: Sequence[SourcePartition]
) -> Offsets:
    """Where the others begin that are given, or that ``start:`` decides about."""
    named = at.named(others.ends)
    told = sorted(set(named) & set(found.ends))
    if told:
        raise ConfigError(
            f"{', '.join(map(str, told))}: {describe(found.note)} says itself where to begin",
            hint="leave them out, or give all offsets with --from offsets",
        )
    begun = dict(named)
    if named:
        given = FromOffsets(offsets={t: dict(of) for t, of in others.ends.items()})
        fresh = [s for s in named if s not in at.states]
        begun |= resolve(given, fresh, at.cluster, admitted=at.plan.sources)
    if others.way == "start":
        rest = [s for s in left if s not in named]
        begun |= resolve(at.plan.config.start, rest, at.cluster, admitted=at.plan.sources)
    return begun


def _order(at: Place, others: Others, found: ForeignPositions, begun: Offsets) -> Adopt:
    # What it had not read yet may stand here already, wherever its log began then.
    ends = {s: end for s, end in found.ends.items() if s in found.told or s not in at.states}
    more = {"others": others.way or "given"} if begun else {}
    return Adopt(at.pipeline, {**ends, **begun}, {**found.note, **more})


def _unnamed(
    at: Place, discovery: KafkaDiscovery, unnamed: list[SourcePartition], order: Adopt
) -> Offsets:
    """Partitions without a position, and where a run that comes next would begin them."""
    if not unnamed:
        return {}
    return dict(discovery.origins(at.plan, unnamed, sorted({*at.states, *order.origins})))


def _incomplete(table: str, found: ForeignPositions, unnamed: Offsets) -> Refused:
    names = partition_names(unnamed)
    listed = [f"{names[s]} at {offset}" for s, offset in sorted(unnamed.items())]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return Refused(
        f"{table} takes partitions of which {describe(found.note)} says nothing; the next run "
        f"would begin {', '.join(listed[:_SHOWN])}{more}",
        hint=f"say where: --others '{min(unnamed)}=…', repeated; or --others start, as the "
        "pipeline file's `start:` says; or --others later, to adopt them by another order",
        left=_plain(unnamed),
    )


def _plain(unnamed: Mapping[SourcePartition, int]) -> list[dict[str, Any]]:
    return [
        {"topic": s.topic, "partition": s.partition, "begins": offset}
        for s, offset in sorted(unnamed.items())
    ]


def _refuse_moved(origin: Origin, at: Place, found: ForeignPositions) -> None:
    """Look once more, right before the commit: who still reads has moved on."""
    again = foreign_positions(origin, at.plan.sources, at.cluster).told
    told = found.told
    moved = [s for s in sorted({*told, *again}) if again.get(s) != told.get(s)]
    if moved:
        raise AlreadyRunning(
            f"{moved[0]}: {describe(found.note)} moved from {told.get(moved[0])} to "
            f"{again.get(moved[0])} meanwhile: it still reads",
            hint="stop it, then adopt; nothing was changed",
        )
