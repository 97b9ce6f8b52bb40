"""What a run has to know of Kafka: its topics, where to begin, and what a schema looks like."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import pyarrow as pa

from raylake.clock import Clock, Deadline
from raylake.codecs import infer_schema, schema_text
from raylake.config.bronze import Earliest, FromOffsets
from raylake.delta import log_files
from raylake.delta.reading import readable
from raylake.errors import ConfigError, RayLakeError, UnknownTopic
from raylake.ingest.fleet import Seen
from raylake.ingest.plan import NothingToInfer, RunPlan, TablePlan, table_plans
from raylake.ingest.policies import retry_policy
from raylake.ingest.retry import RetryCounters
from raylake.ingest.setups import OwnerSetup
from raylake.ingest.start_positions import resolve
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster
from raylake.kafka.fetch import Connection, Fetcher, FetchSettings, PollFetcher, Position
from raylake.storage.place import place

log = logging.getLogger(__name__)

SAMPLE_RECORDS = 1000
SAMPLE_BUDGET_S = 15.0


class KafkaDiscovery:
    """Asks the brokers of one run.

    Args:
        run: The run.
        clock: Time.
    """

    def __init__(self, run: RunPlan, clock: Clock) -> None:
        kafka = run.config.kafka
        self._run = run
        self._clock = clock
        self._cluster = Cluster(
            kafka.bootstrap,
            kafka.security,
            kafka.connect_timeout_s,
            retry_policy(run.config, "broker"),
        )
        self._setups: dict[str, OwnerSetup] = {}

    def tables(self) -> list[TablePlan]:
        """The tables with the partitions that exist now; raises as :func:`table_plans`."""
        return table_plans(self._run.config, self._cluster)

    def look(self) -> Seen:
        """The tables as they are now; a listed topic that is missing stops none of the others."""
        missing: dict[str, UnknownTopic] = {}
        return Seen(table_plans(self._run.config, self._cluster, missing), missing)

    def setup(self, table: TablePlan) -> OwnerSetup:
        """How the table is created when it is not there.

        A schema that the file does not give is inferred once, from a bounded sample; afterwards
        the table itself has it.

        Raises:
            ConfigError: Nothing could be inferred: the topic is empty or holds no JSON objects.
        """
        if table.name not in self._setups:
            payload = table.configured_payload
            if payload is None and not _exists(table):
                payload = self._infer(table)
            spec = table.spec(payload, self._run.config)
            self._setups[table.name] = OwnerSetup(self._run, table, spec)
        return self._setups[table.name]

    def origins(
        self,
        table: TablePlan,
        missing: list[SourcePartition],
        admitted: list[SourcePartition],
    ) -> Mapping[SourcePartition, int]:
        """The first offset of partitions that the table has not admitted (I9).

        A partition that a known topic got later begins at 0. A topic that the table got later, or
        that was created again, begins at the first offset that Kafka has, unless the file gives
        the offsets of this topic.

        Args:
            table: The table.
            missing: The partitions to be admitted.
            admitted: Those that the table has, of each incarnation of its topics.
        """
        start, lookups = table.config.start, self._cluster
        known, names = {s.topic_id for s in admitted}, {s.topic for s in admitted}
        later = [s for s in missing if s.topic_id in known]
        again = [s for s in missing if s.topic_id not in known and s.topic in names]
        fresh = [s for s in missing if s.topic not in names]
        found = resolve(Earliest(), later, lookups, appeared_later=later)
        found |= resolve(Earliest(), again, lookups)
        if fresh:
            given = start if not admitted or isinstance(start, FromOffsets) else Earliest()
            found |= resolve(given, fresh, lookups, admitted=[*admitted, *later, *again])
        return found

    def stable_ends(self, sources: list[SourcePartition]) -> Mapping[SourcePartition, int]:
        """The last stable offsets now."""
        return self._cluster.latest(sources, committed=True) if sources else {}

    def high_ends(self, sources: list[SourcePartition]) -> Mapping[SourcePartition, int]:
        """The high watermarks now; beyond the stable end while a transaction is open."""
        return self._cluster.latest(sources, committed=False) if sources else {}

    def publish(self, offsets: Mapping[SourcePartition, int]) -> None:
        """Commit offsets of the group ``raylake-<pipeline>``; never read back (I2)."""
        group = f"raylake-{self._run.config.pipeline}"
        try:
            self._cluster.commit_group(group, offsets)
        except RayLakeError as error:
            log.warning("the offsets of group %s were not committed: %s", group, error.message)

    def sample(self, table: TablePlan, records: int = SAMPLE_RECORDS) -> Iterator[bytes | None]:
        """Values from the beginning of each partition, bounded in number and time."""
        for batch in sample_batches(self._run, table, self._cluster, self._clock, records):
            yield from batch.column("value").to_pylist()

    @property
    def retries(self) -> RetryCounters:
        """Counts questions that were asked again."""
        return self._cluster.retries

    def close(self) -> None:
        """Close connections."""
        self._cluster.close()

    def _infer(self, table: TablePlan) -> pa.Schema:
        values = list(self.sample(table))
        payload = infer_schema(values, max_columns=table.config.max_columns)
        if not len(payload):
            topics = ", ".join(sorted({s.topic for s in table.sources})) or "no topic yet"
            kind = ConfigError if values else NothingToInfer
            seen = f"of {len(values)} records none is an object" if values else "there is no record"
            raise kind(
                f"{table.name}: no schema is given and none can be inferred from {topics}: {seen}",
                hint="give `schema:`, produce some JSON objects first, or use `format: raw`",
            )
        log.info("%s: inferred schema %s", table.name, schema_text(payload))
        return payload


def sample_batches(
    run: RunPlan, table: TablePlan, cluster: Cluster, clock: Clock, records: int
) -> Iterator[pa.RecordBatch]:
    """Records from the beginning of each partition of a table, at most ``records`` in all."""
    for _, batch in sample_by_source(run, table, cluster, clock, records):
        yield batch


def sample_by_source(
    run: RunPlan, table: TablePlan, cluster: Cluster, clock: Clock, records: int
) -> Iterator[tuple[SourcePartition, pa.RecordBatch]]:
    """As :func:`sample_batches`, each batch with the partition that it is from."""
    if not table.sources:
        return
    kafka = run.config.kafka
    first = cluster.earliest(list(table.sources))
    last = cluster.latest(list(table.sources), committed=True)
    wanted = {s: Position(first[s]) for s in table.sources if last[s] > first[s]}
    if not wanted:
        return
    fetcher: Fetcher = PollFetcher(
        Connection(kafka.bootstrap, kafka.security, kafka.connect_timeout_s),
        FetchSettings(
            max_records=max(1, records), client_id=f"raylake-{run.config.pipeline}-sample"
        ),
    )
    deadline = Deadline.after(SAMPLE_BUDGET_S, clock)
    left = records
    try:
        fetcher.assign(wanted)
        while left > 0 and not deadline.expired():
            batches = fetcher.fetch(0.5)
            for batch in batches:
                part = batch.records.slice(0, left)
                left -= part.num_rows
                yield batch.source, part
            at = fetcher.positions()
            if all(at[source].offset >= last[source] for source in wanted):
                return
    finally:
        fetcher.close()


def _exists(table: TablePlan) -> bool:
    root = place(table.path)
    with readable(root):
        return bool(log_files.commit_versions(root) or log_files.checkpoint_versions(root))
