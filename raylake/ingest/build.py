"""From a plan to running parts: a table's owner, a consumer, the dead-letter queue."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from raylake.clock import Clock
from raylake.codecs.port import DecoderSpec
from raylake.config.models import DependencyName, Pipeline
from raylake.delta.files import WriteOptions
from raylake.delta.identity import Claim, OwnerIdentity
from raylake.delta.metadata import last_metadata
from raylake.delta.opening import open_or_create
from raylake.delta.owned_table import OwnedTable
from raylake.delta.schema import arrow_schema
from raylake.delta.spec import TableSpec
from raylake.delta.txn_listing import admitted_partitions
from raylake.errors import Refused, SchemaConflict
from raylake.ingest.backpressure import ByteBudget
from raylake.ingest.batcher import BatchPolicy
from raylake.ingest.breaker import Breaker, BreakerPolicy
from raylake.ingest.consumer import ConsumerLoop, LostLetters
from raylake.ingest.dead_letters import LetterHead, lost_letter
from raylake.ingest.earlier import Snapshots, restored
from raylake.ingest.feed import FeedNames, TableFeed
from raylake.ingest.moments import Moments
from raylake.ingest.owner_loop import OwnerLoop
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.poison import MIN_JUDGED_RECORDS, PoisonGate, PoisonPolicy
from raylake.ingest.ports import DeadLetterPort, OwnerPort
from raylake.ingest.retry import Dependency, Pace, RetryCounters, RetryPolicy
from raylake.ingest.switches import Switches
from raylake.ingest.unit import SourcePartition
from raylake.ingest.watermark import Watermark, WatermarkPolicy, is_event_time
from raylake.kafka.fetch import ColumnarFetcher, Connection, Fetcher, FetchSettings
from raylake.layers.bronze_maker import BronzeMaker, BronzePlaces, EventTimeRule

STORES: tuple[DependencyName, ...] = ("store", "dead_letters")
FETCH_MAX_RECORDS = 20_000
FETCH_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OwnerSetup:
    """What a table's owner needs to start.

    Attributes:
        run: The run.
        table: The table.
        spec: The table as it is created when it is not there.
        replaces: The run of the owner that is gone and is replaced; empty for a first one (I11).
    """

    run: RunPlan
    table: TablePlan
    spec: TableSpec
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class ConsumerSetup:
    """What a consumer needs to start.

    Attributes:
        run: The run.
        name: The consumer's name.
        tables: The tables that it feeds.
        breakers: Breakers that were not closed, of an earlier run or of a consumer that is gone.
        switches: Breakers that are held open by hand.
    """

    run: RunPlan
    name: str
    tables: tuple[TablePlan, ...]
    breakers: Snapshots = field(default_factory=dict)
    switches: Switches = field(default_factory=Switches)


def breaker_policy(config: Pipeline) -> BreakerPolicy:
    """The breakers' policy of a pipeline."""
    b = config.breaker
    return BreakerPolicy(b.failure_rate, b.calls, b.window_s, b.open_s, b.half_open_calls)


def retry_policy(config: Pipeline, of: DependencyName) -> RetryPolicy:
    """How a dependency's failed operations are tried again."""
    rule = config.retry.of(of)
    return RetryPolicy(rule.strategy, rule.attempts, rule.initial_s, rule.max_s)


def claim(run: RunPlan, replaces: str = "") -> Claim:
    """By what right a run takes a table, from an owner that is gone or from whoever has it."""
    return Claim(None if run.take_over else run.config.ingest.takeover_after_s, replaces)


def watermark_policy(table: TablePlan) -> WatermarkPolicy | None:
    """The watermark's policy of a table; None when it watches no event time."""
    rule = table.config.event_time
    if rule is None:
        return None
    return WatermarkPolicy(rule.lateness_s, rule.idle_timeout_s, rule.max_ahead_s, rule.late)


def poison_policy(config: Pipeline, table: TablePlan) -> PoisonPolicy:
    """When a partition of a table is stopped; ``on_failure: abort`` stops at the first record."""
    letters = config.dead_letters
    abort = table.config.on_failure == "abort"
    return PoisonPolicy(
        0.0 if abort else letters.stop_above,
        letters.window_records,
        min_records=1 if abort else min(MIN_JUDGED_RECORDS, letters.window_records),
        open_s=config.breaker.open_s,
    )


def prepare_table(setup: OwnerSetup, clock: Clock) -> str:
    """Open or create the table, without taking its epoch; the table's id names its owner.

    Raises:
        Refused: Another pipeline owns it, or what :func:`open_or_create` refuses.
        DependencyUnreachable: The store cannot be read or written.
    """
    pipeline = setup.run.config.pipeline
    identity = OwnerIdentity.of_this_process(pipeline, setup.run.run_id)
    refuse_columns(setup.table, setup.spec.schema)
    table = open_or_create(setup.spec, identity, clock)
    refuse_columns(setup.table, arrow_schema(table.schema()))
    holders = {name for name, _ in admitted_partitions(setup.spec.root)} - {pipeline}
    last = (last_metadata(setup.spec.root) or {}).get("identity", {}).get("pipeline", pipeline)
    if not holders and last != pipeline:
        holders = {last}
    if holders:
        raise Refused(
            f"{setup.table.name}: the table at {setup.spec.path} belongs to pipeline "
            f"{min(holders)!r}, not to {pipeline!r}",
            hint="one pipeline owns a table, any may read it: give this one another path",
            pipeline=min(holders),
        )
    return str(table.metadata().id)


def refuse_columns(table: TablePlan, schema: pa.Schema) -> None:
    """Refuse a table in which the event time or a day to partition by is none.

    An inferred schema, or the table itself, may have made something else of the column.

    Args:
        table: As the file says.
        schema: The whole schema; without a payload when only the table itself knows it.

    Raises:
        SchemaConflict: The column is of another type, or a column to partition by is not there.
    """
    _refuse_event_time(table, schema)
    if not len(table.shape.payload(schema)):
        return
    for one in table.shape.derived:
        kind = schema.field(one.column).type if one.column in schema.names else None
        if kind is None or not pa.types.is_temporal(kind):
            found = "is not a column" if kind is None else f"is a {kind}"
            raise SchemaConflict(
                f"{table.name}: partition_by {one.transform}({one.column}): {one.column!r} {found} "
                "of this table; days and hours are those of a timestamp or a date",
                hint=f"a table that is not there yet: give it a `schema` with `{one.column}: "
                "timestamp`; else partition by another column, or by `date(_timestamp)`",
            )


def _refuse_event_time(table: TablePlan, schema: pa.Schema) -> None:
    rule = table.config.event_time
    if rule is None or rule.column not in schema.names:
        return
    kind = schema.field(rule.column).type
    if not is_event_time(kind):
        raise SchemaConflict(
            f"{table.name}: event_time.column {rule.column!r} is a {kind} in this table; an event "
            "time is a timestamp, a date or a long (milliseconds since the epoch)",
            hint=f"a table that is not there yet: give it a `schema` with `{rule.column}: "
            "timestamp`; else choose another column, or leave event_time out",
        )


def attach_owner(setup: OwnerSetup, clock: Clock) -> OwnedTable:
    """Open or create the table and take its epoch; raises as :meth:`OwnedTable.attach`."""
    config = setup.run.config
    return OwnedTable.attach(
        setup.spec,
        OwnerIdentity.of_this_process(config.pipeline, setup.run.run_id),
        clock=clock,
        durability=config.ingest.durability,
        claim=claim(setup.run, setup.replaces),
        conflicts=retry_policy(config, "conflicts"),
    )


def build_owner_loop(
    setup: OwnerSetup,
    table: OwnedTable,
    dead_letters: DeadLetterPort,
    clock: Clock,
) -> OwnerLoop:
    """The owner's loop, with the dead letters that an earlier owner left undone queued (I5)."""
    watermark = Watermark(watermark_policy(setup.table) or WatermarkPolicy(), clock)
    watermark.restore(
        table.watermark_ms, {s: state.max_event_ms for s, state in table.states().items()}
    )
    loop = OwnerLoop(
        table,
        dead_letters,
        watermark,
        checkpointer=table.checkpointer(setup.run.config.ingest.checkpoint_interval_commits),
        stores=_stores(
            setup.run.config,
            clock,
            setup.run.earlier.owners.get(setup.table.name, {}),
            table.retries,
        ),
        clock=clock,
        moments=Moments(setup.table.name, setup.table.config.commit_interval_s),
    )
    stored = dead_letters.stored_version(table.table_id)
    loop.redo(stored, live_files=table.count_live_files())
    return loop


def build_consumer(
    setup: ConsumerSetup, owners: Mapping[str, OwnerPort], clock: Clock
) -> ConsumerLoop:
    """A consumer's loop.

    Args:
        setup: The plan.
        owners: The owner of each table, by the table's name.
        clock: Time.
    """
    config = setup.run.config
    broker = restored(Breaker("broker", breaker_policy(config), clock), setup.breakers, "broker")
    feeds = {t.name: build_feed(setup, t, owners[t.name], clock) for t in setup.tables}
    loop = ConsumerLoop(
        setup.name,
        build_fetcher(config, setup.tables, setup.name),
        feeds,
        budget=ByteBudget(config.ingest.buffer_bytes, clock),
        broker=Dependency(broker, Pace(retry_policy(config, "broker"), clock)),
        clock=clock,
        lost_letter={t.name: lost_letters(setup.run, t, clock) for t in setup.tables},
    )
    loop.switch(setup.switches)
    return loop


def build_fetcher(config: Pipeline, tables: Sequence[TablePlan], name: str) -> Fetcher:
    """What reads these tables' partitions; ``name`` is shown in the broker's logs and quotas."""
    kafka = config.kafka
    return ColumnarFetcher(
        Connection(kafka.bootstrap, kafka.security, kafka.connect_timeout_s),
        FetchSettings(
            max_records=FETCH_MAX_RECORDS,
            max_bytes=min([FETCH_MAX_BYTES, *(t.config.max_batch_bytes for t in tables)]),
            fetch_max_bytes=kafka.fetch_max_bytes,
            client_id=f"raylake-{config.pipeline}-{name}",
            client=dict(kafka.client),
        ),
    )


@functools.cache
def encoder() -> Executor:
    """The thread of this process that writes files, beside fetching and decoding (DESIGN §5)."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode")


def build_maker(
    run: RunPlan, table: TablePlan, clock: Clock, writer: Executor | None = None
) -> BronzeMaker:
    """What makes a table's rows, dead letters and files; ``writer`` as in :class:`BronzeMaker`."""
    config = table.config
    event_time = watermark_policy(table)
    rule = (
        EventTimeRule(config.event_time.column, event_time)
        if config.event_time is not None and event_time is not None
        else None
    )
    options = WriteOptions(
        run.config.ingest.durability,
        target_file_bytes=config.target_file_bytes,
        stats_columns=table.stats_columns,
    )
    return BronzeMaker(
        LetterHead(run.config.pipeline, table.name),
        BronzePlaces(table.path, run.dead_letters, options),
        table.shape,
        DecoderSpec(
            format=config.format,
            unknown_fields=config.unknown_fields,
            max_columns=config.max_columns,
        ),
        rule,
        clock,
        writer,
    )


def build_feed(setup: ConsumerSetup, table: TablePlan, owner: OwnerPort, clock: Clock) -> TableFeed:
    """One table's side of a consumer."""
    config, run = table.config, setup.run
    mine = {name: setup.breakers.get(f"{table.name}/{name}", {}) for name in STORES}
    feed = TableFeed(
        FeedNames(run.config.pipeline, setup.name, table.name),
        owner,
        build_maker(run, table, clock, encoder()),
        BatchPolicy(
            config.max_batch_bytes, config.commit_interval_s, config.idle_commit_interval_s
        ),
        PoisonGate(poison_policy(run.config, table), clock, table=table.name),
        _stores(
            run.config, clock, {name: one for name, one in mine.items() if one}, RetryCounters()
        ),
        clock,
    )
    feed.earlier = setup.breakers
    return feed


def _stores(
    config: Pipeline, clock: Clock, earlier: Snapshots, counters: RetryCounters
) -> dict[str, Dependency]:
    found: dict[str, Dependency] = {}
    for name in STORES:
        breaker = restored(Breaker(name, breaker_policy(config), clock), earlier, name)
        pace = Pace(retry_policy(config, name), clock, counters.of(name))
        found[name] = Dependency(breaker, pace)
    return found


def lost_letters(run: RunPlan, table: TablePlan, clock: Clock) -> LostLetters | None:
    """Makes the dead letter of a lost range; None where a loss stops the partition."""
    if table.config.on_data_loss == "stop":
        return None
    head = LetterHead(run.config.pipeline, table.name)

    def letter(source: SourcePartition, start: int, end: int, reason: str) -> pa.Table:
        return lost_letter(head, source, start, f"[{start}, {end}): {reason}", clock.now())

    return letter
