"""A table as a copy-on-write merge sees it: its files, and whether it may be merged into so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from raylake.delta import log_files
from raylake.delta.schema import arrow_schema, delta_schema
from raylake.delta.stats import columns_with_statistics
from raylake.storage.place import Place
from raylake.tables.cow_conditions import Conditions, inexact
from raylake.tables.cow_keys import SourceKeys
from raylake.tables.errors import BadRequest
from raylake.tables.expressions import Scope, condition
from raylake.tables.feeds import CHANGE_FEED, FEED_FIELDS
from raylake.tables.merging import Merge
from raylake.tables.subject import Subject

CONSTRAINT: Final = "delta.constraints."
_VECTORS: Final = "deletionVectors"
_NTZ: Final = "timestamp_ntz"


@dataclass(frozen=True, slots=True)
class TargetFile:
    """A live file.

    Attributes:
        path: As the log has it.
        size_bytes: By the log.
        values: Its partition values.
    """

    path: str
    size_bytes: int
    values: Mapping[str, pa.Scalar]


@dataclass(frozen=True, slots=True)
class Target:
    """A table at the version that is merged into.

    Attributes:
        root: The table.
        handle: Its handle.
        version: The version.
        schema: Its schema, with the columns that the merge adds.
        partition_by: Partition columns.
        configuration: Its properties.
        conditions: The merge's conditions.
        constraints: CHECK constraints, name to checked condition.
        stats_columns: Columns with statistics in the log; None: the first 32 leaves.
    """

    root: Place
    handle: DeltaTable
    version: int
    schema: pa.Schema
    partition_by: tuple[str, ...]
    configuration: Mapping[str, str]
    conditions: Conditions
    constraints: Mapping[str, str]
    stats_columns: tuple[str, ...] | None

    @property
    def stored(self) -> pa.Schema:
        """What its files hold: the schema without partition columns."""
        return pa.schema([one for one in self.schema if one.name not in self.partition_by])

    @property
    def feeds(self) -> bool:
        """Whether it records a change feed."""
        return _records(self.configuration)


class NotHere(Exception):
    """RayLake's own merge does not do this exactly; the text says why. Nothing was written."""


def target_of(subject: Subject, handle: DeltaTable, merge: Merge) -> Target:
    """The table, when the merge can be done here.

    Raises:
        NotHere: delta-rs is to do it.
    """
    root, configuration = subject.root, subject.configuration
    protocol = handle.protocol()
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    if _VECTORS in features:
        raise NotHere("the table may have deletion vectors")
    version = int(handle.version())
    if not log_files.commit_path(root, version).exists():
        raise NotHere("the newest version is in a checkpoint alone")
    new = [merge.rows.schema.field(name) for name in merge.adds]
    schema = pa.schema([*subject.schema, *new])
    partition_by = subject.partition_by
    _refuse_names(schema, configuration)
    _refuse_types(schema, partition_by, new, features)
    constraints = _constraints(root, configuration, schema)
    conditions = Conditions.of(merge)
    _refuse_conditions(subject, merge, conditions)
    return Target(
        root=root,
        handle=handle,
        version=version,
        schema=schema,
        partition_by=partition_by,
        configuration=configuration,
        conditions=conditions,
        constraints=constraints,
        stats_columns=columns_with_statistics(
            configuration, pa.schema([one for one in schema if one.name not in partition_by])
        ),
    )


def candidates(target: Target, merge: Merge, keys: SourceKeys) -> tuple[list[TargetFile], int]:
    """The files that may hold a key of the source, all of them where unmatched rows matter.

    Returns:
        These files, and how many the table has.

    Raises:
        NotHere: A file lies outside of the table's folder.
    """
    adds = pa.table(target.handle.get_add_actions(flatten=True))
    chosen = np.ones(adds.num_rows, dtype=bool)
    if merge.unmatched is None:
        for key in merge.keys:
            low, high = (
                (f"partition.{key}",) * 2
                if key in target.partition_by
                else (f"min.{key}", f"max.{key}")
            )
            if low in adds.schema.names and high in adds.schema.names:
                ends = [adds.column(name).combine_chunks() for name in (low, high)]
                chosen &= keys.within(key, *ends)
    rows = adds.filter(pa.array(chosen))
    files = []
    for at, (path, size) in enumerate(
        zip(rows.column("path").to_pylist(), rows.column("size_bytes").to_pylist(), strict=True)
    ):
        if path.startswith("/") or ":" in path.split("/", maxsplit=1)[0]:
            raise NotHere("a file of the table lies outside of its folder")
        values = {name: rows.column(f"partition.{name}")[at] for name in target.partition_by}
        files.append(TargetFile(path, size, values))
    return files, adds.num_rows


def new_metadata(target: Target, merge: Merge) -> dict[str, Any] | None:
    """The ``metaData`` action that adds the merge's columns; None when it adds none."""
    if not merge.adds:
        return None
    before = target.handle.metadata()
    fields = json.loads(target.handle.schema().to_json())["fields"]
    added = pa.schema([target.schema.field(name).with_nullable(True) for name in merge.adds])
    fields += json.loads(delta_schema(added).to_json())["fields"]
    return {
        "id": before.id,
        "name": before.name,
        "description": before.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}, separators=(",", ":")),
        "partitionColumns": list(before.partition_columns),
        "createdTime": before.created_time,
        "configuration": dict(before.configuration),
    }


def _refuse_names(schema: pa.Schema, configuration: Mapping[str, str]) -> None:
    reserved = {one.name for one in FEED_FIELDS} & {name.lower() for name in schema.names}
    if reserved and _records(configuration):
        raise NotHere(f"column {min(reserved)!r} has the name of one of the change feed's")


def _records(configuration: Mapping[str, str]) -> bool:
    return configuration.get(CHANGE_FEED, "").lower() == "true"


def _refuse_types(
    schema: pa.Schema, partition_by: Sequence[str], new: Iterable[pa.Field], features: set[str]
) -> None:
    for field in schema:
        if any(not inner.nullable for inner in _inner(field.type)):
            raise NotHere(f"column {field.name!r} has a part that is NOT NULL")
    for name in partition_by:
        kind = schema.field(name).type
        types = pa.types
        if not (types.is_string(kind) or types.is_integer(kind) or types.is_date(kind)):
            raise NotHere(f"the table is partitioned by {name!r}, which is {kind}")
    texts = arrow_schema(delta_schema(pa.schema(list(new))))
    if _NTZ in delta_schema(texts).to_json() and "timestampNtz" not in features:
        raise NotHere("a new column needs a table feature")


def _inner(kind: pa.DataType) -> list[pa.Field]:
    """The fields of structs in a type; keys of maps are never null and do not count."""
    if pa.types.is_struct(kind):
        return [found for one in kind for found in (one, *_inner(one.type))]
    if pa.types.is_map(kind):
        return [kind.item_field, *_inner(kind.item_type), *_inner(kind.key_type)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [kind.value_field, *_inner(kind.value_type)]
    return []


def _constraints(
    root: Place, configuration: Mapping[str, str], schema: pa.Schema
) -> dict[str, str]:
    found = {}
    for key, text in configuration.items():
        name = key.removeprefix(CONSTRAINT)
        if name == key:
            continue
        try:
            sql = condition(text, Scope({"": schema}, f"{root}: constraint {name}")).sql()
        except BadRequest:
            raise NotHere(f"constraint {name!r} is judged by delta-rs") from None
        if inexact(sql, {"": schema}):
            raise NotHere(f"constraint {name!r} is judged by delta-rs")
        found[name] = sql
    return found


def _refuse_conditions(subject: Subject, merge: Merge, conditions: Conditions) -> None:
    if merge.unmatched is not None and merge.unmatched.values is not None:
        raise NotHere("rows that the source lacks are updated by delta-rs")
    sides = {"source": merge.rows.schema, "target": subject.schema}
    found = (conditions.update, conditions.delete, conditions.insert, conditions.unmatched)
    for sql in found:
        reason = inexact(sql, sides) if sql is not None else ""
        if reason:
            raise NotHere(reason)
