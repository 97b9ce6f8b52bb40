"""Rows in memory behind the port that rules look through."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from raylake.config.quality import Rule
from raylake.quality.duck import ask
from raylake.quality.rules import Checked, Context, RuleSet
from raylake.tables.errors import TableMissing, UnknownColumn
from raylake.tables.expressions import Scope, condition
from raylake.tables.requests import Read

NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
_RULE: TypeAdapter[Any] = TypeAdapter(Rule)


def rule(kind: str, **values: Any) -> Any:
    """A rule, as the pipeline file has it."""
    return _RULE.validate_python({"rule": kind, **values})


class Look:
    """A source, a table and others; each request is kept."""

    def __init__(
        self,
        target: pa.Table | None = None,
        source: pa.Table | None = None,
        **others: pa.Table,
    ) -> None:
        self._target = target
        self._source = source
        self._others = others
        self.asked: list[Read] = []

    def source(self, request: Read) -> pa.RecordBatchReader:
        return self._read(self._source, request)

    def target(self, request: Read) -> pa.RecordBatchReader:
        return self._read(self._target, request)

    def target_rows(self) -> int | None:
        return None

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        return self._read(self._others.get(table.replace(".", "_")), request)

    def _read(self, rows: pa.Table | None, request: Read) -> pa.RecordBatchReader:
        assert request.version is None
        self.asked.append(request)
        if rows is None:
            raise TableMissing("no such table")
        return read(rows, request)


def read(rows: pa.Table, request: Read) -> pa.RecordBatchReader:
    """As an engine reads them."""
    if request.where is not None:
        checked = condition(request.where, Scope({"": rows.schema}, "read"))
        rows = ask(f"SELECT * FROM rows WHERE {checked.sql('duckdb')}", rows=rows).cast(rows.schema)
    for name in request.columns or ():
        if name not in rows.schema.names:
            raise UnknownColumn(f"no column {name!r}")
    return rows.select(list(request.columns or rows.schema.names)).to_reader()


def check(
    rows: pa.Table, *rules: Any, keys: tuple[str, ...] = (), look: Look | None = None
) -> Checked:
    """The rules on rows; without a look the table has their columns and no rows."""
    empty = rows.schema.empty_table()
    return RuleSet.of(rules, keys).check(
        rows, Context(look or Look(target=empty, source=rows), NOW, "silver.orders")
    )


def failed(rows: pa.Table, *rules: Any, **given: Any) -> list[int]:
    """The places of the rows that a single rule, set to quarantine, rejects."""
    found = check(
        rows, *(one.model_copy(update={"on_failure": "quarantine"}) for one in rules), **given
    )
    places = sorted(place for one in found.rejected for place in one.places.to_pylist())
    assert [at for at, kept in enumerate(found.kept.to_pylist()) if not kept] == places
    return places
