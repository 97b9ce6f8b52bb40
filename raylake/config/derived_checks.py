"""Checks of silver and gold tables on the plain data: sources, circles, columns, properties."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from raylake.config.addresses import is_local, normalise_table_address
from raylake.config.columns import METADATA_COLUMNS, parse_partition
from raylake.config.findings import Finding, Invalid, Loc, did_you_mean
from raylake.config.merge_checks import condition_columns, contradictions
from raylake.config.sql import columns_of, names_in, tables_of
from raylake.tables.table_properties import SPARK_ONLY

Tables = Mapping[str, Mapping[str, Any]]
LAYERS: Final = ("silver", "gold")
_LAYER: Final = re.compile(r"(bronze|silver|gold)\.")
_COLUMN_LISTS: Final = (
    *("keys", "sequence_by", "track", "not_null", "zorder_by"),
    *("update_columns", "insert_columns"),
)
_APPEND_ONLY: Final = "delta.appendOnly"
_AUTO_COMPACT: Final = "delta.autoOptimize.autoCompact"
_CHANGE_FEED: Final = "delta.enableChangeDataFeed"


def derived_findings(
    data: Mapping[str, Any], declared: Collection[str], *, open_ended: bool
) -> Iterator[Finding]:
    """What does not fit together in the sections of derived tables.

    Args:
        data: The file's data; values of the wrong kind are passed over.
        declared: The tables of the file.
        open_ended: Whether a topic pattern makes bronze tables that nobody knows yet.
    """
    tables = {
        f"{layer}.{name}": table
        for layer in LAYERS
        if isinstance(data.get(layer), Mapping)
        for name, table in data[layer].items()
        if isinstance(table, Mapping)
    }
    known = _Known(data, declared, open_ended=open_ended)
    reads = {name: _sources(table) for name, table in tables.items()}
    for name, table in tables.items():
        yield from _unknown(name, table, reads[name], known)
        yield from _lists(name, table)
        yield from contradictions(place_of(name), table)
        yield from _properties(name, table, data.get("engine"))
        yield from _after_write(name, table, data.get("maintenance"))
        yield from _columns(name, table, tables, data)
    yield from _feeds(tables, reads)
    yield from _circles(reads)


def place_of(name: str) -> Loc:
    """Where a derived table stands in the file."""
    layer, _, short = name.partition(".")
    return (layer, short)


def circles(reads: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """Circles of tables that read each other, each once; its first table stands at both ends.

    A table that reads itself is none of these.
    """
    left = {name: {one for one in sources if one != name} for name, sources in reads.items()}
    found = []
    while True:
        try:
            graphlib.TopologicalSorter(left).prepare()
        except graphlib.CycleError as error:
            # From a table to the one that it reads, beginning with the first of the file.
            ring = list(reversed(error.args[1]))[:-1]
            at = ring.index(min(ring, key=list(left).index))
            ring = ring[at:] + ring[:at]
            found.append((*ring, ring[0]))
            for name in ring:
                left.pop(name)
            left = {name: sources - set(ring) for name, sources in left.items()}
        else:
            return found


class _Known:
    """Which tables there are, as far as it can be told without asking anybody."""

    def __init__(
        self, data: Mapping[str, Any], declared: Collection[str], *, open_ended: bool
    ) -> None:
        self.declared = declared
        self._open_ended = open_ended
        self._lake = data.get("lake")

    def __call__(self, name: str) -> bool:
        if name in self.declared or (self._open_ended and name.startswith("bronze.")):
            return True
        layer, _, short = name.partition(".")
        try:
            lake = normalise_table_address(self._lake) if isinstance(self._lake, str) else ""
        except Invalid:
            return False
        if not lake:
            return False
        # A store is asked when the pipeline starts.
        return not is_local(lake) or Path(lake, layer, short, "_delta_log").is_dir()


def _sources(table: Mapping[str, Any]) -> tuple[str, ...]:
    source, sql = table.get("from"), table.get("sql")
    if isinstance(sql, str) and table.get("mode") == "aggregate":
        try:
            return tables_of(sql)
        except Invalid:
            return ()
    return (source,) if isinstance(source, str) else ()


def _unknown(
    name: str, table: Mapping[str, Any], sources: Iterable[str], known: _Known
) -> Iterator[Finding]:
    """Sources that nobody writes; what a foreign key refers to is looked for when it is needed."""
    where = (*place_of(name), "sql" if table.get("mode") == "aggregate" else "from")
    for source in sources:
        if source == name:
            yield Finding(where, "a table cannot be made from itself")
        elif _LAYER.match(source) and not known(source):
            message = f"{source!r} is neither declared in this file nor a table of the lake"
            yield Finding(where, message, did_you_mean(source, known.declared))


def _lists(name: str, table: Mapping[str, Any]) -> Iterator[Finding]:
    """Columns and partitions that are there twice, or cannot be both."""
    at, made = place_of(name), set[str]()
    for i, text in enumerate(_texts(table.get("partition_by"))):
        try:
            column = parse_partition(text).name
        except Invalid:
            continue
        if column in made:
            yield Finding((*at, "partition_by", i), f"{column!r} is in this list twice")
        made.add(column)
    for key in _COLUMN_LISTS:
        names = _texts(table.get(key))
        for i, column in enumerate(names):
            if column in names[:i]:
                yield Finding((*at, key, i), f"{column!r} is in this list twice")
            elif key == "zorder_by" and column in made:
                yield Finding((*at, key, i), f"{column!r} is a partition column already")


def _properties(name: str, table: Mapping[str, Any], engine: object) -> Iterator[Finding]:
    properties = table.get("properties")
    at = (*place_of(name), "properties")
    for key in properties if isinstance(properties, Mapping) else ():
        if key in SPARK_ONLY and engine != "spark":
            message = f"{key} ({SPARK_ONLY[key]}) is honoured by Spark alone"
            other = "write optimize_after_write: compact, or " if key == _AUTO_COMPACT else "write "
            yield Finding((*at, str(key)), message, f"{other}engine: spark", on_key=True)
    if _is(table, _APPEND_ONLY, "true") and table.get("mode") not in ("append", None):
        message = f"mode {table['mode']} changes rows, and an append-only table's may not change"
        yield Finding((*at, _APPEND_ONLY), message)


def _after_write(name: str, table: Mapping[str, Any], upkeep: object) -> Iterator[Finding]:
    if table.get("optimize_after_write") != "zorder" or table.get("zorder_by"):
        return
    zorder = upkeep.get("zorder") if isinstance(upkeep, Mapping) else None
    if not isinstance(zorder, Mapping) or name not in zorder:
        message = "nothing says by which columns"
        yield Finding(
            (*place_of(name), "optimize_after_write"), message, "write zorder_by: [COLUMN]"
        )


def _feeds(tables: Tables, reads: Mapping[str, Iterable[str]]) -> Iterator[Finding]:
    for name, table in tables.items():
        reader = next((one for one, sources in reads.items() if name in sources), None)
        off = _is(table, _CHANGE_FEED, "false")
        if off and reader is not None and table.get("mode") != "append":
            message = f"{reader} reads the changes of {name}, so the change feed must be on"
            yield Finding((*place_of(name), "properties", _CHANGE_FEED), message)


def _is(table: Mapping[str, Any], key: str, wanted: str) -> bool:
    properties = table.get("properties")
    given = properties.get(key) if isinstance(properties, Mapping) else None
    return str(given).lower() == wanted


def _circles(reads: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    for ring in circles(reads):
        message = f"these tables read each other in a circle: {' reads '.join(ring)}"
        yield Finding(place_of(ring[0]), message, on_key=True)


def _columns(
    name: str, table: Mapping[str, Any], tables: Tables, data: Mapping[str, Any]
) -> Iterator[Finding]:
    """Columns that a table names and that it cannot have."""
    source = table.get("from")
    at = place_of(name)
    if table.get("mode") == "aggregate":
        yield from _query_columns(at, table)
        return
    came = known_columns(source, tables, data) if isinstance(source, str) else None
    if came is None:
        return
    renamed = table.get("columns")
    old = list(renamed.values() if isinstance(renamed, Mapping) else _texts(renamed))
    keys = list(renamed) if isinstance(renamed, Mapping) else range(len(old))
    for key, column in zip(keys, old, strict=True):
        if isinstance(column, str) and column not in came:
            yield _absent((*at, "columns", key), column, came)
    yield from _condition_columns((*at, "where"), table.get("where"), came)
    made = _made(table, came)
    yield from condition_columns(at, table, made)
    for where, column in _named(at, table):
        # A rule before the transformation speaks of the source's columns.
        if column not in made and column not in came:
            yield _absent(where, column, made)


def _query_columns(at: Loc, table: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        made = columns_of(str(table.get("sql")))
    except Invalid:
        return
    for where, column in _named(at, table):
        if column not in made and column not in _partitions(table):
            yield _absent(where, column, made)


def _named(at: Loc, table: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    for key in _COLUMN_LISTS:
        names = table.get(key)
        if isinstance(names, str):
            yield (*at, key), names
        for i, one in enumerate(_texts(names)):
            yield (*at, key, i), one
    types = table.get("types")
    for one in types if isinstance(types, Mapping) else ():
        yield (*at, "types", str(one)), str(one)
    for i, text in enumerate(_texts(table.get("partition_by"))):
        try:
            yield (*at, "partition_by", i), parse_partition(text).column
        except Invalid:
            continue
    for i, rule in _rules(table):
        here = (*at, "quality", i)
        if isinstance(rule.get("column"), str):
            yield (*here, "column"), rule["column"]
        for j, one in enumerate(_texts(rule.get("columns"))):
            yield (*here, "columns", j), one


def _condition_columns(where: Loc, text: object, known: Collection[str]) -> Iterator[Finding]:
    if not isinstance(text, str):
        return
    folded = {one.lower() for one in known}
    try:
        for parts in names_in(text):
            if parts[0].lower() not in folded:
                yield _absent(where, parts[0], known)
    except Invalid:
        return


def known_columns(name: str, tables: Tables, data: Mapping[str, Any]) -> frozenset[str] | None:
    """The columns that a table can have; None: that is not known before it is read.

    It is known where all begins with a bronze table of a given schema that takes no new fields.
    """
    seen: list[str] = []
    while name in tables:
        if name in seen:
            return None
        seen.append(name)
        name = str(tables[name].get("from"))
    came = _bronze_columns(name, data)
    for one in reversed(seen):
        table = tables[one]
        if came is None or table.get("mode") == "aggregate" or table.get("mode") == "scd2":
            return None
        came = None if table.get("envelope") == "debezium" else _made(table, came)
    return came


def _bronze_columns(name: str, data: Mapping[str, Any]) -> frozenset[str] | None:
    layer, _, short = name.partition(".")
    section = data.get("bronze")
    table = section.get(short) if layer == "bronze" and isinstance(section, Mapping) else None
    if not isinstance(table, Mapping):
        return None
    schema = table.get("schema")
    if table.get("unknown_fields", "evolve") == "evolve" or not isinstance(schema, Mapping):
        return None
    if table.get("format", "json") != "json":
        return None
    return frozenset(map(str, schema)) | set(METADATA_COLUMNS) | _partitions(table)


def _made(table: Mapping[str, Any], came: Collection[str]) -> frozenset[str]:
    """A row-wise table's own columns; those by which ties are told stay whatever it takes."""
    renamed = table.get("columns")
    if isinstance(renamed, Mapping) and renamed:
        own = set(map(str, renamed))
    else:
        own = set(_texts(renamed)) or set(came)
    return frozenset(own | set(METADATA_COLUMNS) | _partitions(table))


def _partitions(table: Mapping[str, Any]) -> set[str]:
    """The columns that are made for partitions alone: of days and hours."""
    found = set()
    for text in _texts(table.get("partition_by")):
        try:
            one = parse_partition(text)
        except Invalid:
            continue
        found |= {one.name} if one.transform != "column" else set()
    return found


def _absent(where: Loc, column: str, known: Collection[str]) -> Finding:
    hint = did_you_mean(column, [one for one in known if one not in METADATA_COLUMNS])
    return Finding(where, f"{column!r} cannot be a column of it", hint)


def _rules(table: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rules = table.get("quality")
    for i, rule in enumerate(rules if isinstance(rules, list | tuple) else ()):
        if isinstance(rule, Mapping):
            yield i, rule


def _texts(value: object) -> list[str]:
    if not isinstance(value, list | tuple):
        return []
    return [one for one in value if isinstance(one, str)]
