"""Makes a bronze table's rows, dead letters and files (the ``Maker`` of a feed)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from raylake import faults
from raylake.clock import Clock
from raylake.codecs import make_decoder
from raylake.codecs.port import DeadRecord, Decoded, Decoder, DecoderSpec
from raylake.delta.dead_letters import DEAD_LETTER_PARTITION_BY, DEAD_LETTER_SCHEMA, STATS_COLUMNS
from raylake.delta.files import WriteOptions, write_data_files
from raylake.errors import RayLakeError
from raylake.ingest.dead_letters import LetterHead, dead_letters
from raylake.ingest.made import Made, at_once
from raylake.ingest.ports import TableView
from raylake.ingest.unit import DataFile
from raylake.ingest.watermark import EventTimes, WatermarkPolicy, classify
from raylake.kafka.port import FetchedBatch
from raylake.layers.bronze import BronzeShape, EventFlags, assemble, keep_null_texts

_KEPT_BYTES = 32 * 1024 * 1024
_KINDS = pa.array([None, "missing", "before_1970", "ahead"], pa.string())


@dataclass(frozen=True, slots=True)
class BronzePlaces:
    """Where files go.

    Attributes:
        table: The table's folder.
        dead_letters: The dead-letter table's folder.
        options: How the table's files are written.
    """

    table: str
    dead_letters: str
    options: WriteOptions


@dataclass(frozen=True, slots=True)
class EventTimeRule:
    """Which column is the event time and what is done with late records.

    Attributes:
        column: The column; a table that lacks it has no event times.
        policy: Lateness, ``max_ahead`` and what happens to late records.
    """

    column: str
    policy: WatermarkPolicy


class BronzeMaker:
    """Rows, dead letters and files of one bronze table.

    Args:
        head: Pipeline and table, for dead letters.
        places: Where files go.
        shape: The table's columns beside the payload.
        decoder: Format and policies; its schema is set by :meth:`fit`.
        event_time: The event time's rule, when the table has one.
        clock: Time.
        writer: Runs the writing of files; left out, that is done at once.
    """

    def __init__(
        self,
        head: LetterHead,
        places: BronzePlaces,
        shape: BronzeShape,
        decoder: DecoderSpec,
        event_time: EventTimeRule | None,
        clock: Clock,
        writer: Executor | None = None,
    ) -> None:
        self._writer = writer
        self._head = head
        self._places = places
        self._shape = shape
        self._spec = decoder
        self._event_time = event_time
        self._clock = clock
        self._schema: pa.Schema | None = None
        self._decoder: Decoder | None = None

    def fit(self, view: TableView) -> None:
        """Work with this schema from now on."""
        if self._schema is None or not view.schema.equals(self._schema):
            self._schema = view.schema
            payload = self._shape.payload(view.schema)
            self._decoder = make_decoder(replace(self._spec, schema=payload))

    def make(self, batch: FetchedBatch, watermark_ms: int | None) -> Made | pa.Schema:
        """Decode a batch; a schema means: the table needs these columns first."""
        decoded = self.decode(batch)
        if decoded.additions is not None:
            return decoded.additions
        return self.finish(batch, decoded, watermark_ms)

    def decode(self, batch: FetchedBatch) -> Decoded:
        """The first half of :meth:`make`: the payload's columns and what is dead."""
        decoder, _ = self._fitted()
        return decoder.decode(batch.records)

    def finish(self, batch: FetchedBatch, decoded: Decoded, watermark_ms: int | None) -> Made:
        """The second half of :meth:`make`: event times, metadata columns, dead letters."""
        _, schema = self._fitted()
        now_s = self._clock.now()
        dead = list(decoded.dead)
        flags, times = None, None
        if self._event_time is not None:
            times = self._classify(batch, decoded, watermark_ms, now_s)
            if self._event_time.policy.late == "dead_letter" and times.late.any():
                decoded, times, dead = _bury_late(decoded, times, dead)
            flags = _flags(times)
        decoded, as_null = keep_null_texts(decoded, self._shape)
        flagged = {} if times is None else times.counts()
        rows = assemble(
            batch,
            decoded,
            self._shape,
            schema,
            ingested_at_us=int(now_s * 1e6),
            flags=flags if self._shape.flags else None,
        )
        return Made(
            rows,
            dead_letters(self._head, batch, dead, now_s),
            [one.row for one in dead],
            None if times is None else times.max_event_ms,
            {**flagged, "partition_text_as_null": as_null} if as_null else flagged,
        )

    def submit(self, work: Callable[[], tuple[DataFile, ...]]) -> Future[tuple[DataFile, ...]]:
        """Let files be written by the writer's thread, or at once without one."""
        return at_once(work) if self._writer is None else self._writer.submit(work)

    def write_rows(self, rows: Sequence[pa.Table], schema: pa.Schema) -> tuple[DataFile, ...]:
        """Write data files into the table's folder, one per partition value.

        Raises:
            Retryable: The store did not take them; nothing refers to what was written.
        """
        whole = pa.concat_tables([_aligned(table, schema) for table in rows])
        faults.reach("consumer.writing", rows=whole.num_rows, table=self._head.table)
        files = write_data_files(
            self._places.table,
            whole,
            schema,
            self._shape.partition_names,
            self._places.options,
        )
        faults.reach("consumer.written", rows=whole.num_rows, table=self._head.table)
        return files

    def write_dead(self, dead: Sequence[pa.Table], unit_id: str) -> tuple[DataFile, ...]:
        """Write dead-letter files; not visible until the queue adds them."""
        whole = pa.concat_tables(dead)
        index = whole.schema.get_field_index("unit_id")
        ids = pa.repeat(pa.scalar(unit_id), whole.num_rows)
        whole = whole.set_column(index, DEAD_LETTER_SCHEMA.field("unit_id"), ids)
        files = write_data_files(
            self._places.dead_letters,
            whole,
            DEAD_LETTER_SCHEMA,
            DEAD_LETTER_PARTITION_BY,
            WriteOptions(self._places.options.durability, stats_columns=STATS_COLUMNS),
        )
        if whole.nbytes > _KEPT_BYTES:
            # Arrow's pool keeps what the pages of huge values took, four times their size.
            pa.default_memory_pool().release_unused()
        return files

    def _fitted(self) -> tuple[Decoder, pa.Schema]:
        if self._decoder is None or self._schema is None:
            raise RayLakeError("the table's schema is not known yet")
        return self._decoder, self._schema

    def _classify(
        self, batch: FetchedBatch, decoded: Decoded, watermark_ms: int | None, now_s: float
    ) -> EventTimes:
        rule = self._event_time
        if rule is None or rule.column not in decoded.payload.schema.names:
            times = pa.nulls(decoded.payload.num_rows, pa.timestamp("us", tz="UTC"))
        else:
            times = decoded.payload.column(rule.column)
        broker_ms = batch.records.column("timestamp_ms")
        if len(times) != len(broker_ms):
            broker_ms = broker_ms.take(pa.array(decoded.kept, pa.int64()))
        policy = rule.policy if rule is not None else WatermarkPolicy()
        return classify(times, broker_ms, watermark_ms, policy, now_ms=int(now_s * 1000))


def _flags(times: EventTimes) -> EventFlags:
    late = pa.array(times.late)
    masks = (times.null, times.before_1970, times.ahead)
    if not any(mask.any() for mask in masks):
        return EventFlags(late, pa.nulls(len(late), pa.string()))
    which = np.zeros(len(late), np.int8)
    for number, mask in enumerate(masks, 1):
        which[mask] = number
    return EventFlags(late, _KINDS.take(pa.array(which)))


def _bury_late(
    decoded: Decoded, times: EventTimes, dead: list[DeadRecord]
) -> tuple[Decoded, EventTimes, list[DeadRecord]]:
    late = times.late
    letters = [
        DeadRecord(int(row), "late", "the event time is behind the watermark", "LateRecord")
        for row in decoded.kept[late]
    ]
    on_time = ~late
    kept = replace(
        decoded,
        payload=decoded.payload.filter(pa.array(on_time)),
        kept=decoded.kept[on_time],
    )
    remaining = EventTimes(
        times.null[on_time],
        times.before_1970[on_time],
        times.ahead[on_time],
        late[on_time],
        times.max_event_ms,
    )
    return kept, remaining, sorted([*dead, *letters], key=lambda one: one.row)


def _aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table
    arrays = []
    for field in schema:
        if field.name not in table.schema.names:
            arrays.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        arrays.append(column if column.type == field.type else _widened(column, field.type))
    return pa.table(arrays, schema=schema)


def _widened(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """A held column in the type that it was evolved to meanwhile; rare, so by value."""
    return pa.chunked_array([pa.array(column.to_pylist(), wanted)], type=wanted)
