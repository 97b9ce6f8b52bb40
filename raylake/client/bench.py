"""What each stage of the hot path costs for a pipeline's own topics, in this process, without Ray.

The parts are those that a consumer and a table's owner are built of, one after the other in one
thread; the files go to a folder of their own that is removed again.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from raylake import kernels
from raylake.client.preview import payload_schema
from raylake.clock import Clock
from raylake.codecs.port import RESCUED, Decoded
from raylake.config import Loaded
from raylake.config.bronze import Earliest, Latest
from raylake.config.models import Pipeline
from raylake.delta.identity import OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.errors import ConfigError
from raylake.ingest.batcher import Batcher, BatchPolicy, Plan
from raylake.ingest.build_consumer import build_fetcher, build_maker
from raylake.ingest.build_owner import refuse_columns
from raylake.ingest.discovery import sample_by_source
from raylake.ingest.made import Made
from raylake.ingest.plan import RunPlan, TablePlan, table_plans
from raylake.ingest.ports import TableView
from raylake.ingest.start_positions import resolve
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit
from raylake.kafka.client import Cluster
from raylake.kafka.port import FetchedBatch, Fetcher, Position

STAGES = ("fetch", "decode", "assemble", "encode", "commit")
SAMPLE_RECORDS = 1000
WAIT_S = 0.5
PATIENCE_S = 20.0
"""So long without a record ends it, before the ends that were seen at the start."""


class NothingToMeasure(ConfigError):
    """The topics hold no record from the table's start on."""

    code = "nothing_to_measure"


@dataclass(slots=True)
class Stage:
    """One stage.

    Attributes:
        name: One of :data:`STAGES`.
        cpu_s: CPU time of the process while it ran, in seconds.
        wall_s: Seconds.
        bytes: What it was given: ``fetch`` keys, values and headers as they came out, ``decode``
            values, ``assemble`` and ``encode`` Arrow rows, ``commit`` Parquet files.
    """

    name: str
    cpu_s: float = 0.0
    wall_s: float = 0.0
    bytes: int = 0


@dataclass(slots=True)
class Kernels:
    """The compiled kernels.

    Attributes:
        loaded_s: Seconds until they were ready; not part of the measurement.
        compiled: How many were not in the cache.
    """

    loaded_s: float
    compiled: int


@dataclass(slots=True)
class TableBench:
    """What one table's path costs.

    Attributes:
        table: Its name.
        topics: Its topics.
        partitions: Partitions read.
        records: Records read.
        rows: How many became rows.
        dead: How many became dead letters.
        cpu_s: CPU time of the process, in seconds.
        wall_s: Seconds.
        stages: The stages, in order; what is left of ``cpu_s`` is between them.
        one_by_one: Records that were decoded one by one; None where nothing is decoded.
        reasons: Why, with how many.
        grown: How often columns were added; such a batch was decoded one by one before.
        files: Parquet files written.
        commits: Commits to the scratch table.
        kernels: How they were when it began.
    """

    table: str
    topics: list[str]
    partitions: int
    kernels: Kernels
    records: int = 0
    rows: int = 0
    dead: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    stages: list[Stage] = field(default_factory=lambda: [Stage(name) for name in STAGES])
    one_by_one: int | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    grown: int = 0
    files: int = 0
    commits: int = 0

    def stage(self, name: str) -> Stage:
        """The stage of this name."""
        return self.stages[STAGES.index(name)]

    @property
    def between_s(self) -> float:
        """CPU time outside the stages, in seconds."""
        return max(0.0, self.cpu_s - sum(stage.cpu_s for stage in self.stages))


def bench(loaded: Loaded, records: int, clock: Clock, only: str = "") -> list[TableBench]:
    """Take some records of each table through all stages.

    Nothing is written but in a temporary folder (``TMPDIR``), which is removed.

    Args:
        loaded: The pipeline file.
        records: Greatest number of records for a table.
        clock: Time.
        only: One table (``bronze.orders``) instead of all.

    Raises:
        ConfigError: There is no such table.
        SchemaConflict: As a run would be refused.
        NothingToMeasure: There is no record.
        UnknownTopic: A topic does not exist.
        DependencyUnreachable: No broker answers.
    """
    kafka = loaded.config.kafka
    with (
        Cluster(kafka.bootstrap, kafka.security, kafka.connect_timeout_s) as cluster,
        tempfile.TemporaryDirectory(prefix="raylake-bench-") as folder,
    ):
        run = RunPlan(_moved(loaded.config, folder), loaded.sha256, str(loaded.path), "bench")
        plans = _chosen(table_plans(loaded.config, cluster), only)
        return [_measure(run, plan, cluster, records, clock) for plan in plans]


def _moved(config: Pipeline, folder: str) -> Pipeline:
    """The pipeline with every place of its own in this folder."""
    letters = config.dead_letters.model_copy(update={"path": None})
    return config.model_copy(update={"lake": folder, "dead_letters": letters})


def _chosen(plans: Sequence[TablePlan], only: str) -> list[TablePlan]:
    found = [plan for plan in plans if only in ("", plan.name)]
    if not found:
        names = ", ".join(sorted(plan.name for plan in plans)) or "none yet"
        raise ConfigError(f"no table {only!r} in this file", hint=f"its tables: {names}")
    return found


def _measure(
    run: RunPlan, plan: TablePlan, cluster: Cluster, records: int, clock: Clock
) -> TableBench:
    start = Earliest() if isinstance(plan.config.start, Latest) else plan.config.start
    ends = cluster.latest(list(plan.sources), committed=True) if plan.sources else {}
    starts = {s: at for s, at in resolve(start, plan.sources, cluster).items() if at < ends[s]}
    topics = sorted({source.topic for source in plan.sources})
    if not starts:
        raise NothingToMeasure(
            f"{plan.name}: {', '.join(topics) or 'no topic yet'} has no record to measure with",
            hint="produce some first, or let `start` be earlier",
        )
    sample = list(sample_by_source(run, plan, cluster, clock, SAMPLE_RECORDS))
    schema, _ = payload_schema(plan, sample)
    found = TableBench(plan.name, topics, len(starts), _kernels())
    # Only now: a table that exists has its schema at its own place.
    plan = replace(plan, path=str(Path(run.lake) / plan.name))
    spec = plan.spec(schema, run.config)
    refuse_columns(plan, spec.schema)
    table = OwnedTable.attach(
        spec,
        OwnerIdentity.of_this_process(run.config.pipeline, run.run_id),
        clock=clock,
        durability=run.config.ingest.durability,
    )
    fetcher = build_fetcher(run.config, [plan], "bench")
    try:
        table.admit(starts)
        table.set_generation(starts, 1)
        line = _Line(run, plan, table, fetcher, found, clock)
        line.go(starts, ends, records)
    finally:
        fetcher.close()
        table.release()
    return found


@functools.cache
def _kernels() -> Kernels:
    began = time.perf_counter()
    found = {id(one): one for name in kernels.NAMES for one in vars(kernels.load(name)).values()}
    stats = [one.stats for one in found.values() if hasattr(one, "stats")]
    # Functions that are compiled into kernels have no cache of their own.
    compiled = sum(sum(one.cache_misses.values()) for one in stats if one.cache_path is not None)
    return Kernels(time.perf_counter() - began, compiled)


class _Line:
    """The stages of one table, one after the other."""

    def __init__(
        self,
        run: RunPlan,
        plan: TablePlan,
        table: OwnedTable,
        fetcher: Fetcher,
        found: TableBench,
        clock: Clock,
    ) -> None:
        config = plan.config
        policy = BatchPolicy(
            config.max_batch_bytes, config.commit_interval_s, config.idle_commit_interval_s
        )
        self._pipeline = run.config.pipeline
        self._table = table
        self._fetcher = fetcher
        self._found = found
        self._maker = build_maker(run, plan, clock)
        self._batcher: Batcher[Made] = Batcher(plan.name, policy, clock)
        self._aside_s = 0.0
        self._fit()

    def go(
        self,
        starts: Mapping[SourcePartition, int],
        ends: Mapping[SourcePartition, int],
        records: int,
    ) -> None:
        """Read, decode, write and commit so many records, or up to ``ends``."""
        for source, start in starts.items():
            self._batcher.begin(source, start)
        self._fetcher.assign({source: Position(start) for source, start in starts.items()})
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        last_s = began_s
        while self._found.records < records and time.perf_counter() - last_s < PATIENCE_S:
            for batch in self._fetch():
                last_s = time.perf_counter()
                if left := records - self._found.records:
                    self._take(_cut(batch, left))
            if (due := self._batcher.flush()) is not None:
                self._hand_over(due)
            at = self._fetcher.positions()
            if all(at[source].offset >= ends[source] for source in starts):
                break
        if (rest := self._batcher.flush(drain=True)) is not None:
            self._hand_over(rest)
        self._found.wall_s = time.perf_counter() - began_s
        self._found.cpu_s = time.process_time() - cpu_began_s - self._aside_s

    @contextmanager
    def _timed(self, name: str) -> Iterator[Stage]:
        stage = self._found.stage(name)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        try:
            yield stage
        finally:
            stage.wall_s += time.perf_counter() - wall_s
            stage.cpu_s += time.process_time() - cpu_s

    def _fetch(self) -> list[FetchedBatch]:
        with self._timed("fetch") as stage:
            batches = self._fetcher.fetch(WAIT_S)
        stage.bytes += sum(batch.nbytes for batch in batches)
        return batches

    def _take(self, batch: FetchedBatch) -> None:
        with self._timed("decode") as stage:
            decoded = self._maker.decode(batch)
            while decoded.additions is not None:
                self._table.evolve(decoded.additions)
                self._found.grown += 1
                self._fit()
                decoded = self._maker.decode(batch)
        began_s = time.process_time()
        stage.bytes += int(batch.records.column("value").nbytes)
        self._look(decoded)
        self._aside_s += time.process_time() - began_s
        with self._timed("assemble") as stage:
            made = self._maker.finish(batch, decoded, None)
        stage.bytes += made.nbytes
        rows, dead = made.rows.num_rows, len(made.dead_rows)
        counts = Counts(rows=rows, dead=dead, absent=batch.end - batch.start - rows - dead)
        span = OffsetRange(
            batch.source, batch.start, batch.end, counts, batch.leader_epoch, made.max_event_ms
        )
        self._batcher.add(span, made, made.nbytes)
        self._found.records += rows + dead
        self._found.rows += rows
        self._found.dead += dead

    def _hand_over(self, plan: Plan[Made]) -> None:
        made = [held.item for held in plan.batches]
        unit = Unit(self._pipeline, "bench", 1, self._table.fingerprint, plan.ranges)
        with self._timed("encode") as stage:
            rows = [one.rows for one in made if one.rows.num_rows]
            dead = [one.dead for one in made if one.dead is not None]
            files = self._maker.write_rows(rows, self._table.schema) if rows else ()
            letters = self._maker.write_dead(dead, unit.unit_id) if dead else ()
        stage.bytes += plan.nbytes
        with self._timed("commit") as stage:
            self._table.commit([unit.replace(files=files, dead_letter_files=letters)])
        stage.bytes += sum(one.size_bytes for one in (*files, *letters))
        self._found.files += len(files) + len(letters)
        self._found.commits += 1

    def _fit(self) -> None:
        table = self._table
        self._maker.fit(TableView(table.table_id, table.schema, table.fingerprint))

    def _look(self, decoded: Decoded) -> None:
        """Count what was decoded one by one, and why."""
        if decoded.by_row is None:
            return
        found = self._found
        found.one_by_one = (found.one_by_one or 0) + len(decoded.by_row)
        reasons = Counter(f"dead letter: {one.error_class}" for one in decoded.dead)
        kept = 0
        if RESCUED in decoded.payload.schema.names:
            texts = decoded.payload.column(RESCUED)
            kept = len(texts) - texts.null_count
        reasons["a row with _rescued_data"] = kept
        reasons["a row, spelled in a rare way"] = len(decoded.by_row) - reasons.total()
        for reason, count in reasons.items():
            if count:
                found.reasons[reason] = found.reasons.get(reason, 0) + count


def _cut(batch: FetchedBatch, limit: int) -> FetchedBatch:
    """The first records of a batch."""
    if batch.records.num_rows <= limit:
        return batch
    records: pa.RecordBatch = batch.records.slice(0, limit)
    end = records.column("offset")[limit - 1].as_py() + 1
    return replace(batch, records=records, end=end, nbytes=int(records.nbytes))
