"""A source and an aggregate table that follows it step by step: Delta tables, or in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from raylake.layers.aggregates import Aggregates, AggregateSpec
from raylake.layers.derived import NEVER, SOURCE_VERSION, Deed, SourceRows, Span
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.expressions import Scope, condition
from raylake.tables.requests import (
    Changes,
    Create,
    Delete,
    Overwrite,
    Read,
    Update,
    Upsert,
    Write,
)

SOURCE = "silver.orders"
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("country", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("amount", pa.decimal128(18, 2)),
        ("qty", pa.int32()),
        ("price", pa.float64()),
        ("ok", pa.bool_()),
    ]
)
_BROUGHT = ("insert", "update_postimage")
_FEED = ("_change_type", "_commit_timestamp")


class CountingLook:
    """What a derivation reads, and how many rows that was."""

    def __init__(self, source: Path, target: Path, version: int) -> None:
        self._engine = DeltaRsEngine()
        self._source, self._target, self._version = source, target, version
        self.asked: list[Read] = []
        self.read = 0

    def source(self, request: Read) -> pa.RecordBatchReader:
        self.asked.append(request)
        pinned = dataclasses.replace(request, version=self._version)
        return self._counted(self._engine.read(str(self._source), pinned))

    def target(self, request: Read) -> pa.RecordBatchReader:
        return self._engine.read(str(self._target), request)

    def target_rows(self) -> int | None:
        return self.target(Read()).read_all().num_rows

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        return self._engine.read(str(self._source.parent / table), request)

    def _counted(self, reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
        def batches() -> Any:
            for batch in reader:
                self.read += batch.num_rows
                yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, batches())


class Followed:
    """A source with a change feed, and an aggregate table that follows it.

    Args:
        folder: Where both lie.
        spec: The aggregate table.
        schema: The source's columns.
        partition_by: The source's partition columns.
    """

    def __init__(
        self,
        folder: Path,
        spec: AggregateSpec,
        schema: pa.Schema = SCHEMA,
        partition_by: tuple[str, ...] = (),
    ) -> None:
        self.engine = DeltaRsEngine()
        self.source, self.target = folder / "source", folder / "target"
        self.derivation = Aggregates("gold.t", spec, [SOURCE, "silver.countries"])
        self.after = NEVER
        self.look: CountingLook | None = None
        feed = {"delta.enableChangeDataFeed": "true"}
        self.engine.execute(str(self.source), Create(schema, partition_by, feed))

    def do(self, operation: Write) -> int:
        """Change the source; its version afterwards."""
        return self.engine.execute(str(self.source), operation).version_after

    def upsert(self, rows: pa.Table) -> None:
        """Rows come, or take the place of others."""
        self.do(Upsert(rows, ("id",), schema="merge"))

    def delete(self, ids: Sequence[int]) -> None:
        """Rows leave."""
        self.do(Delete(f"id IN ({', '.join(map(str, ids))})"))

    def move(self, last: int, country: str) -> None:
        """Rows up to this one change their country."""
        self.do(Update({"country": f"'{country}'"}, f"id <= {last}"))

    def step(self) -> Deed:
        """Bring the aggregate table up to date."""
        last = self.engine.history(str(self.source), 1)[0].version
        if last == self.after:
            return Deed()
        changes = self._changes(last)
        self.look = CountingLook(self.source, self.target, last)
        if self.after == NEVER:
            self.engine.execute(str(self.target), self.derivation.table(self._columns()))
        shaped = self.derivation.shape(changes, self.look)
        assert len(shaped.origin) == shaped.rows.num_rows
        deed = self.derivation.deed(shaped.rows, changes, self.look)
        if deed.last is not None:
            self.engine.execute(str(self.target), deed.last)
        self.after = last
        return deed

    def rows(self, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The aggregate table's rows."""
        names = tuple(columns or self.derivation.query.outputs)
        return self.engine.read(str(self.target), Read(columns=names)).read_all().to_pylist()

    def source_rows(self) -> list[dict[str, Any]]:
        """The source's rows."""
        return self.engine.read(str(self.source), Read()).read_all().to_pylist()

    def _columns(self) -> pa.Schema:
        return self.engine.read(str(self.source), Read()).schema

    def _changes(self, last: int) -> SourceRows:
        span = Span(SOURCE, str(self.source), "source", self.after, last)
        names = self.derivation.columns(self._columns())
        if self.after == NEVER:
            empty = pa.schema([self._columns().field(name) for name in names]).empty_table()
            return SourceRows(span, empty, empty)
        request = Changes(from_version=self.after + 1, to_version=last)
        feed = self.engine.changes(str(self.source), request).read_all()
        came = pc.is_in(feed.column("_change_type"), value_set=pa.array(_BROUGHT))
        kept = feed.select([*names, SOURCE_VERSION])
        return SourceRows(span, kept.filter(came), kept.filter(pc.invert(came)))


class InMemory:
    """As :class:`Followed`, with plain rows in the place of tables."""

    def __init__(self, spec: AggregateSpec, schema: pa.Schema = SCHEMA) -> None:
        self.derivation = Aggregates("gold.t", spec, [SOURCE])
        self._spec = spec
        self._schema = schema
        self._source: dict[int, dict[str, Any]] = {}
        self._before: dict[int, dict[str, Any]] | None = None
        self._target: list[dict[str, Any]] = []
        self._columns = pa.schema([])

    def upsert(self, rows: pa.Table) -> None:
        """Rows come, or take the place of others."""
        for row in rows.to_pylist():
            self._source[row["id"]] = row

    def delete(self, ids: Sequence[int]) -> None:
        """Rows leave."""
        self._source = {one: row for one, row in self._source.items() if one not in ids}

    def move(self, last: int, country: str) -> None:
        """Rows up to this one change their country."""
        for one, row in self._source.items():
            if one <= last:
                self._source[one] = row | {"country": country}

    def source_rows(self) -> list[dict[str, Any]]:
        """The source's rows."""
        return list(self._source.values())

    def rows(self) -> list[dict[str, Any]]:
        """The aggregate table's rows."""
        names = self.derivation.query.outputs
        return [{name: row[name] for name in names} for row in self._target]

    def whole_rows(self) -> list[dict[str, Any]]:
        """The aggregate table's rows with what it keeps beside them."""
        return self._target

    def at_once(self) -> InMemory:
        """The same source, followed in one step."""
        found = InMemory(self._spec, self._schema)
        found.upsert(pa.Table.from_pylist(self.source_rows(), schema=self._schema))
        found.step()
        return found

    def step(self) -> Deed:
        """Bring the aggregate table up to date."""
        before = self._before
        if before is None:
            self._columns = self.derivation.table(self._schema).schema
        after = NEVER if before is None else 0
        names = self.derivation.columns(self._schema)
        schema = pa.schema([self._schema.field(name) for name in names])
        changed = [
            one
            for one in {*self._source, *(before or {})}
            if self._source.get(one) != (before or {}).get(one)
        ]
        came, left = (
            pa.Table.from_pylist([side[one] for one in changed if one in side], schema=schema)
            for side in (self._source, before or {})
        )
        changes = SourceRows(Span(SOURCE, "", "", after, 1), came, left)
        shaped = self.derivation.shape(changes, self)
        deed = self.derivation.deed(shaped.rows, changes, self)
        self._apply(deed.last)
        self._before = {one: dict(row) for one, row in self._source.items()}
        return deed

    def source(self, request: Read) -> pa.RecordBatchReader:
        """Rows of the source."""
        return _read(pa.Table.from_pylist(self.source_rows(), schema=self._schema), request)

    def target(self, request: Read) -> pa.RecordBatchReader:
        """Rows of the aggregate table."""
        return _read(pa.Table.from_pylist(self._target, schema=self._columns), request)

    def target_rows(self) -> int | None:
        """How many groups there are."""
        return len(self._target)

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        """There is none."""
        raise NotImplementedError(f"{table}: {request}")

    def _apply(self, write: Write | None) -> None:
        if isinstance(write, Overwrite):
            assert write.where is None
            self._target = write.rows.to_pylist()
        elif isinstance(write, Upsert):
            rows = {row["_group"]: row for row in self._target}
            for row in write.rows.to_pylist():
                if write.delete_when is not None and row.pop("raylake_gone"):
                    rows.pop(row["_group"], None)
                else:
                    rows[row["_group"]] = row
            self._target = list(rows.values())
        else:
            assert write is None


_FILTER = duckdb.connect()
_FILTER.execute("SET GLOBAL TimeZone = 'UTC'")


def _read(rows: pa.Table, request: Read) -> pa.RecordBatchReader:
    if request.where is not None:
        where = condition(request.where, Scope({"": rows.schema}, "where")).sql("duckdb")
        with _FILTER.cursor() as connection:
            connection.register("rows", rows)
            rows = connection.sql(f"SELECT * FROM rows WHERE {where}").to_arrow_table()
    return rows.select(list(request.columns or rows.schema.names)).to_reader()
