"""A consumer, put together from a run's plan."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import pyarrow as pa

from raylake import kernels
from raylake.clock import Clock
from raylake.codecs.port import DecoderSpec
from raylake.config.models import Pipeline
from raylake.delta.files import WriteOptions
from raylake.ingest.backpressure import ByteBudget
from raylake.ingest.batcher import BatchPolicy
from raylake.ingest.breaker import Breaker
from raylake.ingest.consumer import ConsumerLoop, LostLetters
from raylake.ingest.dead_letters import LetterHead, lost_letter
from raylake.ingest.earlier import restored
from raylake.ingest.feed import FeedNames, TableFeed
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.poison import PoisonGate
from raylake.ingest.policies import (
    STORES,
    breaker_policy,
    poison_policy,
    retry_policy,
    stores,
    watermark_policy,
)
from raylake.ingest.ports import OwnerPort
from raylake.ingest.retry import Dependency, Pace, RetryCounters
from raylake.ingest.setups import ConsumerSetup
from raylake.ingest.unit import SourcePartition
from raylake.kafka.fetch import ColumnarFetcher, Connection, Fetcher, FetchSettings
from raylake.layers.bronze_maker import BronzeMaker, BronzePlaces, EventTimeRule

FETCH_MAX_RECORDS = 20_000
FETCH_MAX_BYTES = 16 * 1024 * 1024


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
            held_bytes=config.ingest.buffer_bytes,
            client_id=f"raylake-{config.pipeline}-{name}",
            client=dict(kafka.client),
        ),
    )


def load_kernels(config: Pipeline) -> None:
    """Load the compiled kernels that consumers of this pipeline need (about a second)."""
    formats = {table.format for table in config.bronze.values()}
    for name in kernels.NAMES if "json" in formats else kernels.NAMES[:1]:
        kernels.load(name)


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
        stores(
            run.config, clock, {name: one for name, one in mine.items() if one}, RetryCounters()
        ),
        clock,
    )
    feed.earlier = setup.breakers
    return feed


def lost_letters(run: RunPlan, table: TablePlan, clock: Clock) -> LostLetters | None:
    """Makes the dead letter of a lost range; None where a loss stops the partition."""
    if table.config.on_data_loss == "stop":
        return None
    head = LetterHead(run.config.pipeline, table.name)

    def letter(source: SourcePartition, start: int, end: int, reason: str) -> pa.Table:
        return lost_letter(head, source, start, f"[{start}, {end}): {reason}", clock.now())

    return letter
