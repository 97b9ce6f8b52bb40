"""Checks across keys, made on the plain data so that they speak up beside all other problems."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from raylake.config.addresses import normalise_table_address
from raylake.config.columns import (
    METADATA_COLUMNS,
    PARTITION_METADATA,
    TIME_METADATA,
    TIMES,
    PartitionField,
    check_schema_name,
    parse_partition,
)
from raylake.config.derived_checks import derived_findings
from raylake.config.findings import Finding, Invalid, Loc, did_you_mean
from raylake.config.quality import rule_findings

READ_FORMATS: Final = ("json", "raw")


def cross_check(data: Mapping[str, Any]) -> list[Finding]:
    """What does not fit together in a pipeline's data (keys as in the file).

    Values of the wrong kind are passed over: the models report those.
    """
    found: list[Finding] = []
    for name, table in _tables(data, "bronze"):
        found += _bronze(("bronze", name), table)
    for layer in ("silver", "gold"):
        for name, table in _tables(data, layer):
            found += rule_findings((layer, name, "quality"), table.get("quality"))
    declared, open_ended = _declared(data)
    found += _references(data, declared, open_ended)
    found += derived_findings(data, declared, open_ended=open_ended)
    found += _places(data)
    found += _letter_topics(data)
    return found


def _tables(data: Mapping[str, Any], layer: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    section = data.get(layer)
    if isinstance(section, Mapping):
        for name, table in section.items():
            if isinstance(table, Mapping):
                yield str(name), table


def _bronze(at: Loc, table: Mapping[str, Any]) -> Iterator[Finding]:
    topics = table.get("topics")
    names = [t for t in topics if isinstance(t, str)] if isinstance(topics, list | tuple) else []
    for i, topic in enumerate(names):
        if topic in names[:i]:
            yield Finding((*at, "topics", i), f"{topic!r} is in this list twice")
    given = table.get("format")
    if given in ("avro", "protobuf", "csv", "debezium"):
        yield Finding(
            (*at, "format"),
            f"{given} is known, but this version does not read it yet",
            f"it reads {' and '.join(READ_FORMATS)}; raw keeps the bytes",
        )
    template, path = table.get("table"), table.get("path")
    fans_out = isinstance(template, str) and "{topic}" in template
    if fans_out and isinstance(path, str) and "{topic}" not in path:
        yield Finding(
            (*at, "path"), "one table a topic needs one path a topic", "put {topic} into the path"
        )
    if not fans_out and isinstance(path, str) and "{topic}" in path:
        yield Finding((*at, "path"), "{topic} in a path needs table: '{topic}' as well")
    start = table.get("start")
    offsets = start.get("offsets") if isinstance(start, Mapping) else None
    if (
        isinstance(offsets, Mapping)
        and names
        and any(isinstance(v, Mapping) for v in offsets.values())
    ):
        for topic in offsets:
            if topic not in names:
                hint = did_you_mean(topic, names)
                where = (*at, "start", "offsets", str(topic))
                yield Finding(where, f"{topic!r} is not among the topics", hint, on_key=True)
    yield from _columns(at, table)


def _columns(at: Loc, table: Mapping[str, Any]) -> Iterator[Finding]:
    given = table.get("schema")
    schema: dict[str, str] | None = None
    if isinstance(given, Mapping) and table.get("format", "json") != "raw":
        schema = {str(k): str(v) for k, v in given.items()}
        taken: dict[str, str] = {}
        for name in schema:
            why = check_schema_name(name, taken)
            if why:
                where = (*at, "schema", name)
                hint = "rename it in the producer, or leave it to unknown_fields"
                yield Finding(where, f"{name!r} cannot be a column: it {why}", hint, on_key=True)
            taken.setdefault(name.lower(), name)
    event = table.get("event_time")
    if isinstance(event, Mapping) and isinstance(event.get("column"), str):
        where = (*at, "event_time", "column")
        yield from _time_column(where, event["column"], schema)
    yield from _partitions(at, table, schema)


def _partitions(
    at: Loc, table: Mapping[str, Any], schema: Mapping[str, str] | None
) -> Iterator[Finding]:
    expressions = table.get("partition_by")
    seen: set[str] = set()
    for i, text in enumerate(expressions if isinstance(expressions, list | tuple) else ()):
        where = (*at, "partition_by", i)
        try:
            field = parse_partition(text) if isinstance(text, str) else None
        except Invalid:
            continue
        if field is None:
            continue
        if field.name in seen:
            yield Finding(where, f"{field.name!r} is in this list twice")
        seen.add(field.name)
        if field.transform == "column":
            yield from _value_column(where, field, schema)
        else:
            yield from _time_column(where, field.column, schema)
            if schema is not None and field.name in schema:
                yield Finding(where, f"the schema has a column {field.name!r} already")


def _time_column(where: Loc, column: str, schema: Mapping[str, str] | None) -> Iterator[Finding]:
    if column in TIME_METADATA:
        return
    if column in METADATA_COLUMNS:
        yield Finding(where, f"{column!r} is not a timestamp")
    elif schema is not None and column not in schema:
        hint = did_you_mean(column, [*schema, *TIME_METADATA])
        yield Finding(where, f"{column!r} is not a column of the schema", hint)
    elif schema is not None and schema[column].strip() not in TIMES:
        message = f"{column!r} is {schema[column]}, not a timestamp"
        yield Finding(where, message, "declare it as timestamp in the schema")


def _value_column(
    where: Loc, field: PartitionField, schema: Mapping[str, str] | None
) -> Iterator[Finding]:
    column = field.column
    if column in PARTITION_METADATA:
        return
    if column in TIME_METADATA:
        yield Finding(
            where, f"{column!r} would make a partition per moment", f"write date({column})"
        )
    elif column in METADATA_COLUMNS:
        yield Finding(where, f"{column!r} is not a column to partition by")
    elif schema is not None and column not in schema:
        hint = did_you_mean(column, [*schema, *PARTITION_METADATA])
        yield Finding(where, f"{column!r} is not a column of the schema", hint)
    elif schema is not None and re.match(r"array|map|struct|binary", schema[column].strip()):
        yield Finding(where, f"{column!r} is {schema[column]}: no partitions by that")


def _declared(data: Mapping[str, Any]) -> tuple[set[str], bool]:
    names: set[str] = set()
    open_ended = False
    for name, table in _tables(data, "bronze"):
        template, topics = table.get("table"), table.get("topics")
        if not isinstance(template, str):
            names.add(f"bronze.{name}")
        elif "{topic}" not in template:
            names.add(f"bronze.{template}")
            names.add(f"bronze.{name}")
        elif isinstance(topics, list | tuple):
            names |= {f"bronze.{template.replace('{topic}', str(t))}" for t in topics}
        else:
            open_ended = True
    for layer in ("silver", "gold"):
        section = data.get(layer)
        names |= {f"{layer}.{name}" for name in section} if isinstance(section, Mapping) else set()
    return names, open_ended


def _references(data: Mapping[str, Any], declared: set[str], open_ended: bool) -> Iterator[Finding]:
    upkeep = data.get("maintenance")
    zorder = upkeep.get("zorder") if isinstance(upkeep, Mapping) else None
    for name in zorder if isinstance(zorder, Mapping) else ():
        if name in declared or (open_ended and str(name).startswith("bronze.")):
            continue
        where = ("maintenance", "zorder", str(name))
        hint = did_you_mean(name, declared)
        yield Finding(where, f"{name!r} is not declared in this file", hint, on_key=True)


def _places(data: Mapping[str, Any]) -> Iterator[Finding]:
    lake, taken = data.get("lake"), dict[str, str]()
    for layer in ("bronze", "silver", "gold"):
        for name, table in _tables(data, layer):
            path, template = table.get("path"), table.get("table")
            key = template if layer == "bronze" and isinstance(template, str) else name
            where: Loc = (layer, name, *(("path",) if isinstance(path, str) else ()))
            address = path if isinstance(path, str) else f"{lake}/{layer}/{key}"
            yield from _taken(where, f"{layer}.{name}", address, taken)
    dead = data.get("dead_letters")
    if isinstance(dead, Mapping) and isinstance(dead.get("path"), str):
        yield from _taken(("dead_letters", "path"), "the dead letters", dead["path"], taken)
    also = dead.get("also") if isinstance(dead, Mapping) else None
    files = also.get("files") if isinstance(also, Mapping) else None
    if isinstance(files, Mapping) and isinstance(files.get("path"), str):
        where = ("dead_letters", "also", "files", "path")
        yield from _taken(where, "files of dead letters", files["path"], taken)


def _letter_topics(data: Mapping[str, Any]) -> Iterator[Finding]:
    """A topic that gets dead letters and is read again would never be empty."""
    found: Any = data.get("dead_letters")
    for name in ("also", "kafka", "topic"):
        found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, str):
        return
    for name, table in _tables(data, "bronze"):
        topics = table.get("topics")
        listed = topics if isinstance(topics, list | tuple) else ()
        pattern = topics.get("pattern") if isinstance(topics, Mapping) else None
        if found in listed or (isinstance(pattern, str) and _matches(pattern, found)):
            where: Loc = ("dead_letters", "also", "kafka", "topic")
            message = f"bronze.{name} reads topic {found!r}: its dead letters would come again"
            yield Finding(where, message, "choose a topic that this pipeline does not read")


def _matches(pattern: str, topic: str) -> bool:
    try:
        return re.fullmatch(pattern, topic) is not None
    except (re.error, RecursionError, OverflowError):
        return False


def _taken(where: Loc, what: str, address: str, taken: dict[str, str]) -> Iterator[Finding]:
    try:
        place = normalise_table_address(address)
    except Invalid:
        return
    for other, owner in taken.items():
        if place == other:
            yield Finding(where, f"{what} would lie where {owner} lies: {place}")
        elif f"{place}/".startswith(f"{other}/") or f"{other}/".startswith(f"{place}/"):
            yield Finding(where, f"{what} would lie inside {owner}, or around it: {place}")
    taken[place] = what
