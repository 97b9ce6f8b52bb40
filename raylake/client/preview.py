"""What a pipeline would make of the first records of its topics; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from deltalake import Schema

from raylake.clock import Clock
from raylake.codecs import (
    Decoded,
    DecoderSpec,
    infer_schema,
    make_decoder,
    merge_schema,
    schema_text,
)
from raylake.config import Loaded
from raylake.delta.log_reader import LogReader
from raylake.delta.schema import arrow_schema
from raylake.delta.tables_there import is_table
from raylake.ingest.discovery import sample_by_source
from raylake.ingest.plan import RunPlan, TablePlan, table_plans
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster

Sample = list[tuple[SourcePartition, pa.RecordBatch]]


@dataclass(slots=True)
class TablePreview:
    """What one table would get.

    Attributes:
        table: Its name.
        path: Its folder.
        topics: Its topics.
        schema: Column to type, the payload's alone.
        schema_from: ``file``, ``table`` (it exists) or ``inferred``.
        added: Columns that the sample would add to it.
        records: Records sampled.
        rows: How many would be rows.
        dead: How many would be dead letters.
        shown: The first rows, with their coordinates.
        dead_letters: The first dead letters, with coordinates, stage, reason and value.
    """

    table: str
    path: str
    topics: list[str]
    schema: dict[str, str]
    schema_from: str
    added: dict[str, str] = field(default_factory=dict)
    records: int = 0
    rows: int = 0
    dead: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)


def preview(loaded: Loaded, records: int, shown: int, clock: Clock) -> list[TablePreview]:
    """Read some records of each table's topics and decode them as a run would.

    Args:
        loaded: The pipeline file.
        records: Greatest number of records read for a table.
        shown: Greatest number of rows, and of dead letters, kept for a table.
        clock: Time.

    Raises:
        UnknownTopic: A topic does not exist.
        DependencyUnreachable: No broker answers.
    """
    config = loaded.config
    run = RunPlan(config, loaded.sha256, str(loaded.path), "preview")
    kafka = config.kafka
    with Cluster(kafka.bootstrap, kafka.security, kafka.connect_timeout_s) as cluster:
        return [
            _of_table(plan, list(sample_by_source(run, plan, cluster, clock, records)), shown)
            for plan in table_plans(config, cluster)
        ]


def _of_table(plan: TablePlan, sample: Sample, shown: int) -> TablePreview:
    schema, origin = payload_schema(plan, sample)
    made = TablePreview(
        plan.name,
        plan.path,
        sorted({source.topic for source in plan.sources}),
        schema_text(schema),
        origin,
    )
    for source, batch in sample:
        decoded, schema = _decode(plan, schema, batch)
        made.records += batch.num_rows
        made.rows += decoded.payload.num_rows
        made.dead += len(decoded.dead)
        _show(made, source, batch, decoded, shown)
    now = schema_text(schema)
    made.added = {name: kind for name, kind in now.items() if made.schema.get(name) != kind}
    return made


def payload_schema(plan: TablePlan, sample: Sample) -> tuple[pa.Schema, str]:
    """A table's payload columns, and where they are from: ``file``, ``table`` or ``inferred``."""
    configured = plan.configured_payload
    if configured is not None:
        return configured, "file"
    if is_table(plan.path):
        text = LogReader(plan.path).snapshot().metadata.schema_json
        return plan.shape.payload(arrow_schema(Schema.from_json(text))), "table"
    return infer_schema(values_of(batch for _, batch in sample)), "inferred"


def values_of(batches: Any) -> Any:
    """The values of some batches, one by one."""
    for batch in batches:
        yield from batch.column("value").to_pylist()


def _decode(plan: TablePlan, schema: pa.Schema, batch: pa.RecordBatch) -> tuple[Decoded, pa.Schema]:
    config = plan.config
    while True:
        spec = DecoderSpec(
            format=config.format,
            schema=schema,
            unknown_fields=config.unknown_fields,
            max_columns=config.max_columns,
        )
        decoded = make_decoder(spec).decode(batch)
        if decoded.additions is None:
            return decoded, schema
        schema = merge_schema(schema, decoded.additions)


def _show(
    made: TablePreview,
    source: SourcePartition,
    batch: pa.RecordBatch,
    decoded: Decoded,
    shown: int,
) -> None:
    offsets: Sequence[int] = batch.column("offset").to_pylist()
    rows = decoded.payload.slice(0, max(0, shown - len(made.shown))).to_pylist()
    for row, place in zip(rows, decoded.kept.tolist(), strict=False):
        at = {"_topic": source.topic, "_partition": source.partition, "_offset": offsets[place]}
        made.shown.append({**row, **at})
    values = batch.column("value")
    for dead in decoded.dead[: max(0, shown - len(made.dead_letters))]:
        made.dead_letters.append(
            {
                "topic": source.topic,
                "partition": source.partition,
                "offset": offsets[dead.row],
                "stage": dead.stage,
                "error_class": dead.error_class,
                "reason": dead.reason,
                "value": values[dead.row].as_py(),
            }
        )
