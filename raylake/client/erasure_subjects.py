"""The tables that an erasure goes through, and how each is searched for the rows that leave."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from sqlglot import exp

from raylake.client.deletions import Deletions
from raylake.client.retention import bronze_tables
from raylake.config import Pipeline, dead_letter_path
from raylake.config.addresses import quarantine_path
from raylake.config.derived import AggregateTable, AppendTable
from raylake.delta.dead_letters import REPLAYED_SCHEMA
from raylake.delta.log_reader import LogReader
from raylake.delta.tables_there import is_table
from raylake.delta.verify_offsets import Mask
from raylake.layers.graph import graph_of
from raylake.storage.place import folders, place
from raylake.tables.cow_conditions import Judge
from raylake.tables.errors import UnknownColumn
from raylake.tables.expressions import Expression, Scope, condition, quoted
from raylake.tables.pins import schema_at
from raylake.tables.raw_search import RawSearch
from raylake.tables.requests import Read
from raylake.tables.service import DirectTables

COORDINATES: Final = ("_topic", "_partition", "_offset")
_TEXTS: Final = ("_rescued_data", "_value")
"""Columns of bronze, and of what follows from it, that hold copies of what Kafka had."""
_CHUNK: Final = 500
QUARANTINE: Final = "quarantine"
LETTERS: Final = "dead letters"


@dataclass(frozen=True, slots=True)
class Subject:
    """A table to search.

    Attributes:
        name: ``layer.name``, or what it is beside them.
        path: Its address.
        kind: ``bronze``, ``derived``, ``beside``, ``quarantine`` or ``dead letters``.
        schema: Its columns.
        by_columns: The condition on them; None: it lacks some of those that the condition names.
        texts: Columns that are searched as texts.
        told: How it is searched, or why it is not, in words.
        gap: Rows of the person may be in it that are not found.
    """

    name: str
    path: str
    kind: str
    schema: pa.Schema
    by_columns: Expression | None
    texts: tuple[str, ...]
    told: str
    gap: bool = False

    @property
    def columns(self) -> pa.Schema:
        """The columns that are looked at."""
        named = [] if self.by_columns is None else [name for _, name in self.by_columns.columns]
        wanted = sorted({*named, *self.texts})
        return pa.schema([self.schema.field(name) for name in wanted])

    def mask(self, rows: pa.Table, search: RawSearch, judge: Judge) -> Mask:
        """Which rows of :attr:`columns` hold the condition."""
        found: Mask = np.zeros(rows.num_rows, np.bool_)
        if self.by_columns is not None:
            sql = self.by_columns.sql("duckdb")
            found |= judge.holds(sql, rows.num_rows, {"": rows})
        if self.kind == QUARANTINE:
            return found | _quarantined(rows, search)
        for name in self.texts:
            found |= search.search(rows[name].to_pylist()).mask
        return found


def subjects(config: Pipeline, where: str) -> list[Subject]:
    """The tables of a pipeline, in the order in which rows leave them: sources first.

    Args:
        config: The pipeline.
        where: The condition.

    Raises:
        BadExpression: It is none.
    """
    graph, found = graph_of(config), []
    for name, path, section in bronze_tables(config):
        raw = ("value",) if section.format == "raw" else ()
        found.append(_subject((name, path, "bronze"), where, raw))
    for node in graph.derived:
        if not is_table(node.address):
            continue
        table = _subject((node.name, node.address, "derived"), where)
        if table.by_columns is None and not table.texts:
            told, gap = "no such column: its step takes away what came from erased rows", False
            if isinstance(node.table, AppendTable):
                told = "NOT searched: no such column, and it keeps the rows that it made"
                gap = True
            elif isinstance(node.table, AggregateTable):
                told = "no such column: its step computes the groups of erased rows again"
            table = _told(table, told, gap=gap)
        found.append(table)
        sides = folders(place(config.lake) / "_raylake" / "derived" / node.name)
        named = ((f"{node.name}/{side.name}", str(side), "beside") for side in sides)
        found += [_subject(one, where) for one in named if is_table(one[1])]
    path = quarantine_path(config)
    if is_table(path):
        schema = _schema(path)
        told = "as JSON: the rows and the values that were set aside"
        texts = ("column", "row", "value")
        found.append(Subject(QUARANTINE, path, QUARANTINE, schema, None, texts, told))
    return found


def dead_letters(config: Pipeline) -> Subject:
    """The dead letters of a pipeline, which are searched by their values."""
    path = dead_letter_path(config)
    told = "as JSON; others for the condition's values as words"
    return Subject(LETTERS, path, LETTERS, REPLAYED_SCHEMA, None, ("value",), told)


def columns_of(found: Sequence[Subject], where: str) -> pa.Schema:
    """The columns of the first table that has all that a condition names.

    Raises:
        UnknownColumn: No table has; names the nearest one of the first.
    """
    for one in found:
        if one.by_columns is not None:
            return one.schema
    if not found:
        raise UnknownColumn("there is no table yet", hint="has the pipeline run?", column="")
    scope = Scope({"": found[0].schema}, f"no table has all columns: {found[0].name}")
    condition(where, scope)
    raise AssertionError("unreachable")  # pragma: no cover


def count(one: Subject, search: RawSearch) -> int:
    """The rows of a table that hold the condition now."""
    return sum(int(mask.sum()) for _, mask in _masked(one, search, ()))


def delete(one: Subject, where: str, search: RawSearch, by: Deletions, said: str) -> None:
    """Delete the rows of a table that hold the condition; nothing where none does.

    Raises:
        RayLakeError: Why it was not done.
    """
    if one.kind == QUARANTINE:
        ids = _picked(one, search, ("quarantine_id",))
        for part in _chunks([row["quarantine_id"] for row in ids]):
            by.delete(one.path, f"{quoted('quarantine_id')} in ({texts(part)})", said)
        return
    if one.by_columns is not None and by.count(one.path, where):
        by.delete(one.path, where, said)
    if one.texts:
        for condition_ in _by_coordinates(_picked(one, search, COORDINATES)):
            by.delete(one.path, condition_, said)


def _subject(named: tuple[str, str, str], where: str, raw: tuple[str, ...] = ()) -> Subject:
    name, path, kind = named
    schema = _schema(path)
    expression: Expression | None
    try:
        expression = condition(where, Scope({"": schema}, f"{name}: where"))
        told = "by columns"
    except UnknownColumn as error:
        expression, told = None, f"no column {error.context.get('column', '')}".strip()
    placed = set(COORDINATES) <= set(schema.names)
    texts = tuple(t for t in (*_TEXTS, *raw) if t in schema.names) if placed else ()
    told += f"; {', '.join(texts)} as JSON" if texts else ""
    return Subject(name, path, kind, schema, expression, texts, told)


def _told(one: Subject, told: str, *, gap: bool) -> Subject:
    return Subject(one.name, one.path, one.kind, one.schema, None, (), told, gap)


def _schema(path: str) -> pa.Schema:
    return schema_at(place(path), LogReader(path).snapshot().version)


def _masked(
    one: Subject, search: RawSearch, more: Sequence[str]
) -> Iterator[tuple[pa.Table, Mask]]:
    columns = one.columns
    names = tuple(dict.fromkeys([*columns.names, *more]))
    if not columns.names:
        return
    with Judge() as judge:
        for batch in DirectTables().read(one.path, Read(None, names)):
            rows = pa.table(batch)
            looked = rows.select(columns.names).cast(columns)
            yield rows, one.mask(looked, search, judge)


def _picked(one: Subject, search: RawSearch, wanted: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for rows, mask in _masked(one, search, wanted):
        found += rows.filter(pa.array(mask)).select(list(wanted)).to_pylist()
    return found


def _by_coordinates(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    by: dict[tuple[str, int], list[int]] = {}
    for row in rows:
        by.setdefault((row["_topic"], row["_partition"]), []).append(int(row["_offset"]))
    topic_, partition_, offset_ = (quoted(name) for name in COORDINATES)
    for (topic, partition), offsets in sorted(by.items()):
        for part in _chunks(sorted(offsets)):
            listed = ", ".join(map(str, part))
            yield (
                f"{topic_} = {_text(topic)} and {partition_} = {int(partition)} "
                f"and {offset_} in ({listed})"
            )


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for at in range(0, len(values), _CHUNK):
        yield values[at : at + _CHUNK]


def texts(values: Sequence[str]) -> str:
    """Literals for ``in (…)``."""
    return ", ".join(_text(one) for one in values)


def _text(value: str) -> str:
    return str(exp.Literal.string(value).sql())


def _quarantined(rows: pa.Table, search: RawSearch) -> Mask:
    found = search.search(rows["row"].to_pylist()).mask
    pairs = zip(rows["column"].to_pylist(), rows["value"].to_pylist(), strict=True)
    alone = [json.dumps({column: value}) if column else None for column, value in pairs]
    return found | search.search(alone).mask
