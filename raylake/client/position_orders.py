"""What deliberate moves of a table's positions share, and ``skip`` (I12).

Each is one commit of an owner of its own, while the pipeline does not run; a dry run does all but
that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from raylake.client.foreign_positions import Ends
from raylake.client.quiet_tables import own_table, refuse_living_owner, refuse_living_run
from raylake.clock import Clock
from raylake.config import Loaded, Pipeline
from raylake.config.bronze import TopicPattern
from raylake.delta.ledger import states_of
from raylake.delta.log_reader import LogReader
from raylake.delta.moves import Skip, skipped
from raylake.delta.owned_table import OwnedTable
from raylake.delta.owner_moves import Order
from raylake.delta.spec import TableSpec
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError, OffsetsLost, RayLakeError, Refused, UnknownTopic
from raylake.ingest.plan import TablePlan, table_plans
from raylake.ingest.unit import PartitionState, SourcePartition
from raylake.kafka.client import Cluster
from raylake.storage import place as storage

States = dict[SourcePartition, PartitionState]


@dataclass(frozen=True, slots=True)
class PartitionMove:
    """What an order does to one partition.

    Attributes:
        source: The partition.
        was: Its state before; None when it was not admitted.
        now: Its state afterwards.
        note: What is special about it; empty for nothing.
    """

    source: SourcePartition
    was: PartitionState | None
    now: PartitionState
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--output json``."""
        return {
            **asdict(self.source),
            "was": None if self.was is None else self.was.next,
            "next": self.now.next,
            "origin": self.now.origin,
            "totals": asdict(self.now.totals),
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Done:
    """An order that was carried out, or would be.

    Attributes:
        order: ``adopt``, ``skip`` or ``rewind``.
        table: The table.
        partitions: What it does to each partition; empty when there was nothing to do.
        dry_run: Nothing was changed.
        version: The table's version afterwards; None when nothing was changed.
        note: What else there is to say of it; plain data.
        warnings: What could not be finished although it was carried out; a sentence each.
    """

    order: str
    table: str
    partitions: tuple[PartitionMove, ...]
    dry_run: bool
    version: int | None = None
    note: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--output json``."""
        return {
            "order": self.order,
            "table": self.table,
            "dry_run": self.dry_run,
            "version": self.version,
            "warnings": list(self.warnings),
            **self.note,
            "partitions": [one.to_dict() for one in self.partitions],
        }


@dataclass(frozen=True, slots=True)
class Carried:
    """An order that is in the table's log.

    Attributes:
        version: The table's version afterwards.
        left: What could not be finished then; a sentence each.
    """

    version: int | None = None
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """One table, as an order finds it.

    Attributes:
        loaded: The pipeline file.
        plan: The table with its partitions as they are now.
        cluster: Kafka.
        clock: Time.
        states: Every admitted partition of the table.
    """

    loaded: Loaded
    plan: TablePlan
    cluster: Cluster
    clock: Clock
    states: States

    @property
    def root(self) -> storage.Place:
        """The table's folder."""
        return storage.place(self.plan.path)

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self.loaded.config.pipeline

    def named(self, ends: Ends) -> dict[SourcePartition, int]:
        """Offsets by topic and partition, as those of this table's partitions.

        Raises:
            ConfigError: It has no such partition.
        """
        known = {(s.topic, s.partition): s for s in self.plan.sources}
        asked = {(topic, p): offset for topic, of in ends.items() for p, offset in of.items()}
        unknown = [f"{topic}[{p}]" for topic, p in sorted(set(asked) - set(known))]
        if unknown:
            raise ConfigError(
                f"{self.plan.name} takes no {', '.join(unknown)}",
                hint=f"its partitions are {', '.join(map(str, sorted(self.plan.sources)))}",
            )
        return {known[one]: offset for one, offset in asked.items()}

    def carry_out(self, order: Order, spec: TableSpec | None = None) -> Carried:
        """Commit an order under an epoch of this process.

        Args:
            order: The order.
            spec: How the table is created; None for one that is there.

        Raises:
            RayLakeError: Why it was not done; the positions are unchanged.
        """
        # What was looked at since may have taken minutes.
        refuse_living_run(self.loaded.config, self.clock)
        if is_table(str(self.root)):
            refuse_living_owner(self.root)
        owned = own_table(self.loaded.config, self.root, self.clock, spec)
        left: list[str] = []
        try:
            left += owned.move(order)
        finally:
            left += _released(owned)
        return Carried(owned.version, tuple(left))


def _released(owned: OwnedTable) -> list[str]:
    """Leave the table; that this fails changes nothing about the order."""
    try:
        owned.release()
    except (RayLakeError, OSError) as error:
        return [f"{owned.path} was not released, the next owner waits for its time-out: {error}"]
    return []


@contextmanager
def place(loaded: Loaded, table: str, clock: Clock) -> Iterator[Place]:
    """A table that nobody owns now.

    Args:
        loaded: The pipeline file.
        table: ``bronze.orders``.
        clock: Time.

    Raises:
        UnknownTopic: A topic that this table lists does not exist; what others list is not asked.
        ConfigError: The pipeline has no such table.
        AccessDenied: A topic of the pipeline may not be described.
        AlreadyRunning: A run of the pipeline or an owner of the table lives.
        Refused: The table belongs to another pipeline.
        NotOurTable: It is no table of RayLake's.
        DependencyUnreachable: No broker answers.
    """
    config = loaded.config
    refuse_living_run(config, clock)
    kafka = config.kafka
    with Cluster(kafka.bootstrap, kafka.security, kafka.connect_timeout_s) as cluster:
        plan = _plan_of(loaded, table, cluster)
        yield Place(
            loaded, plan, cluster, clock, _states(storage.place(plan.path), config.pipeline)
        )


def _plan_of(loaded: Loaded, table: str, cluster: Cluster) -> TablePlan:
    missing: dict[str, UnknownTopic] = {}
    plans = {plan.name: plan for plan in table_plans(loaded.config, cluster, missing)}
    # As at the start of a run, which names the topics that are near.
    cluster.topics(sorted(missing.keys() & _listed_topics(loaded.config, table)))
    if table not in plans:
        raise ConfigError(
            f"{loaded.path}: the pipeline has no table {table!r}",
            hint=f"it has {', '.join(sorted(plans)) or 'none as yet'}",
        )
    return plans[table]


def _listed_topics(config: Pipeline, table: str) -> set[str]:
    """The topics that the file lists for a table; not those of a pattern."""
    return {
        topic
        for key, section in config.bronze.items()
        if not isinstance(section.topics, TopicPattern)
        for topic in section.topics
        if f"bronze.{(section.table or key).replace('{topic}', topic)}" == table
    }


def _states(root: storage.Place, pipeline: str) -> States:
    if not is_table(str(root)):
        return {}
    found = states_of(LogReader(str(root)).snapshot().txns)
    others = sorted({name for name, _ in found} - {pipeline})
    if others:
        raise Refused(
            f"{root}: the table belongs to pipeline {others[0]!r}, not to {pipeline!r}",
            hint="give the order with that pipeline's file, or choose another table",
            pipeline=others[0],
        )
    refuse_living_owner(root)
    return {source: state for (_, source), state in found.items()}


def skip(
    loaded: Loaded, table: str, ends: Ends, clock: Clock, *, reason: str, dry_run: bool
) -> Done:
    """Leave out the offsets before ``ends`` that a table has not read, counted as dropped.

    Args:
        loaded: The pipeline file.
        table: ``bronze.orders``.
        ends: By topic and partition, where it is to go on.
        clock: Time.
        reason: Why, for the commit.
        dry_run: Only say what would be done.

    Raises:
        ConfigError: The table has no such partition, or it is not admitted.
        Refused: An offset before the new end is committed already.
        OffsetsLost: The new end lies beyond the end of the log.
        RayLakeError: Why it was not done; nothing was changed.
    """
    with place(loaded, table, clock) as at:
        wanted = at.named(ends)
        _refuse_beyond(wanted, at.cluster)
        infos = at.cluster.topics(sorted({s.topic for s in wanted}))
        epochs = {s: infos[s.topic].partitions.get(s.partition, -1) for s in wanted}
        order = Skip(at.pipeline, wanted, epochs, reason)
        found = skipped(order, at.states, str(at.root))
        moves = tuple(PartitionMove(s, at.states[s], now) for s, (_, now) in found.items())
        carried = Carried() if dry_run else at.carry_out(order)
        note = {"reason": reason}
        return Done("skip", table, moves, dry_run, carried.version, note, carried.left)


def _refuse_beyond(wanted: Mapping[SourcePartition, int], cluster: Cluster) -> None:
    ends = cluster.latest(list(wanted))
    for source, offset in sorted(wanted.items()):
        if offset > ends[source]:
            raise OffsetsLost(
                f"{source}: cannot go on at {offset}, its log ends at {ends[source]}",
                hint="give an offset up to its end",
                topic=source.topic,
                partition=source.partition,
                asked=offset,
                log_end=ends[source],
            )
