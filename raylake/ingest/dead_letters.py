"""Rows of the dead-letter table (SPEC A4, B3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raylake.codecs.port import DeadRecord
from raylake.delta.dead_letters import DEAD_LETTER_SCHEMA
from raylake.ingest.record_times import moments
from raylake.ingest.unit import SourcePartition
from raylake.kafka.port import FetchedBatch


@dataclass(frozen=True, slots=True)
class LetterHead:
    """What every dead letter of a feed has in common.

    Attributes:
        pipeline: The pipeline.
        table: The table that it was meant for.
    """

    pipeline: str
    table: str


def dead_letters(
    head: LetterHead, batch: FetchedBatch, dead: Sequence[DeadRecord], failed_at_s: float
) -> pa.Table | None:
    """Dead-letter rows for records of a batch, with coordinates and raw bytes.

    Args:
        head: Pipeline and table.
        batch: What was fetched.
        dead: Which records, at which stage and why.
        failed_at_s: Now, seconds since the epoch.

    Returns:
        Rows in the dead-letter table's schema (``unit_id`` is filled in when the file is written);
        None when there are none.
    """
    if not dead:
        return None
    records = batch.records
    # A record beyond the fetch's bound comes alone, and may be of any size.
    if records.num_rows > 1:
        records = records.take(pa.array([one.row for one in dead], pa.int64()))
    columns = {
        "offset": records.column("offset"),
        "timestamp": moments(records.column("timestamp_ms")),
        "key": records.column("key"),
        "value": records.column("value"),
        "headers": records.column("headers"),
        "stage": pa.array([one.stage for one in dead], pa.string()),
        "reason": pa.array([one.reason for one in dead], pa.string()),
        "error_class": pa.array([one.error_class for one in dead], pa.string()),
    }
    return _rows(head, batch.source, columns, len(dead), failed_at_s)


def lost_letter(
    head: LetterHead, source: SourcePartition, first: int, reason: str, failed_at_s: float
) -> pa.Table:
    """The one row that stands for a range of lost offsets (I6): stage ``lost``, no value.

    Args:
        head: Pipeline and table.
        source: The partition.
        first: The first offset lost.
        reason: Names the range and the count.
        failed_at_s: Now, seconds since the epoch.
    """
    columns = {
        "offset": pa.array([first], pa.int64()),
        "stage": pa.array(["lost"]),
        "reason": pa.array([reason]),
        "error_class": pa.array(["OffsetsLost"]),
    }
    return _rows(head, source, columns, 1, failed_at_s)


def _rows(
    head: LetterHead,
    source: SourcePartition,
    columns: dict[str, pa.Array],
    length: int,
    failed_at_s: float,
) -> pa.Table:
    failed_at = dt.datetime.fromtimestamp(failed_at_s, tz=dt.UTC)
    constants = {
        "pipeline": head.pipeline,
        "table": head.table,
        "topic": source.topic,
        "topic_id": source.topic_id,
        "partition": source.partition,
        "failed_at": failed_at,
        "date": failed_at.date(),
        "hour": failed_at.hour,
        "unit_id": "",
    }
    arrays = []
    for field in DEAD_LETTER_SCHEMA:
        if field.name in columns:
            column = columns[field.name]
            arrays.append(column if column.type == field.type else pc.cast(column, field.type))
        elif field.name in constants:
            arrays.append(pa.repeat(pa.scalar(constants[field.name], field.type), length))
        else:
            arrays.append(pa.nulls(length, field.type))
    return pa.table(arrays, schema=DEAD_LETTER_SCHEMA)
