"""What a silver or gold table would make of its source's newest rows; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from raylake.clock import Clock, SystemClock
from raylake.config import Pipeline
from raylake.delta.tables_there import is_table
from raylake.layers.asked_of_logs import OtherSources
from raylake.layers.build import definition
from raylake.layers.definition import Definition
from raylake.layers.derived import NEVER, Rejected, SourceRows, Span
from raylake.layers.graph import graph_of
from raylake.layers.screened import read_for
from raylake.layers.step import judged
from raylake.layers.step_look import StepLook, Target
from raylake.layers.table_ids import table_id
from raylake.storage.place import place
from raylake.tables.pins import schema_at
from raylake.tables.requests import Read
from raylake.tables.service import DirectTables
from raylake.tables.versions import Versions


@dataclass(frozen=True, slots=True)
class Preview:
    """What a table would make of some rows.

    Attributes:
        rows: Rows in the table's columns that its rules let pass.
        rejected: Rows of the source that would be quarantined: ``rule``, ``column``, ``value``,
            ``reason``, and the source's columns.
        results: What each rule found.
    """

    rows: pa.Table
    rejected: pa.Table
    results: Sequence[Mapping[str, Any]] = ()


def preview(config: Pipeline, table: str, rows: int = 1000, clock: Clock | None = None) -> Preview:
    """Try a table of a pipeline file on the newest rows of its source.

    An aggregate is of these rows alone.

    Args:
        config: The pipeline file.
        table: ``layer.name``.
        rows: So many rows of the source at most.
        clock: Time.

    Raises:
        UnknownSource: There is no such table.
        TableMissing: Its source is not there yet.
        RayLakeError: The definition does not fit the source's columns.
    """
    clock = clock or SystemClock()
    graph = graph_of(config)
    one = definition(config, graph, graph.node(table), clock)
    root = place(one.source_address)
    latest = Versions(root).latest
    schema = schema_at(root, latest)
    wanted = one.derivation.table(schema)
    span = Span(one.source, str(root), table_id(root), NEVER, latest)
    changes = _newest(one, span, schema, rows)
    look = _look(one, span, wanted.schema)
    made = judged(one, changes, look)
    if made.refused is not None:
        raise made.refused
    rejected = [_told(part) for part in made.rejected]
    return Preview(
        made.rows,
        pa.concat_tables(rejected, promote_options="default") if rejected else pa.table({}),
        [result.to_json() for result in made.results],
    )


def _newest(one: Definition, span: Span, schema: pa.Schema, rows: int) -> SourceRows:
    """The last rows of the source, from as many of its last versions as they need."""
    after = span.last - 1
    found = read_for(one.derivation, one.gate, replace(span, after=after), schema)
    while after > NEVER and found.came.num_rows < rows:
        after = max(NEVER, after - 10)
        found = read_for(one.derivation, one.gate, replace(span, after=after), schema)
    start = max(0, found.came.num_rows - rows)
    # As rows of a table that is made now.
    return replace(found, span=span, came=found.came.slice(start), left=found.left.slice(0, 0))


def _look(one: Definition, span: Span, schema: pa.Schema) -> StepLook:
    tables = DirectTables()
    if is_table(one.address):
        version = Versions(place(one.address)).latest
        target = Target(one.name, one.address, "", version, one.sides)
        return StepLook(tables, target, span, one.places, OtherSources())
    target = Target(one.name, one.address, "", NEVER, one.sides)
    return _Empty(tables, target, span, one.places, OtherSources()).with_columns(schema)


class _Empty(StepLook):
    """A look where the table is not there yet: it has its columns and no rows."""

    _columns: pa.Schema = pa.schema([])

    def with_columns(self, schema: pa.Schema) -> StepLook:
        """The look, for a table of these columns."""
        self._columns = schema
        return self

    def target(self, request: Read) -> pa.RecordBatchReader:
        """No rows."""
        names = request.columns or tuple(self._columns.names)
        return pa.RecordBatchReader.from_batches(
            pa.schema([self._columns.field(name) for name in names]), []
        )


def _told(one: Rejected) -> pa.Table:
    count = one.rows.num_rows
    head = {
        "rule": pa.repeat(one.rule, count),
        "column": pa.repeat(one.column, count),
        "value": one.values.cast(pa.string()),
        "reason": pa.repeat(one.reason, count),
    }
    found = pa.table(head)
    for name in one.rows.column_names:
        if name not in head:
            found = found.append_column(name, one.rows.column(name))
    return found
