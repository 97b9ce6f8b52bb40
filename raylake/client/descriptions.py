"""What a table is now, and what a restore would do to it, from its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from raylake.client.rows import Source
from raylake.delta.ledger import OWNER_APP
from raylake.delta.log_reader import LogReader
from raylake.layers.ownership import OWNER
from raylake.tables.fencing import refuse_accounted
from raylake.tables.pins import schema_at
from raylake.tables.requests import Restore
from raylake.tables.versions import Versions


@dataclass(frozen=True, slots=True)
class TableDescription:
    """What a table is now.

    Attributes:
        table: ``layer.name``.
        address: Where it lies.
        id: Delta's id of it.
        version: The newest version.
        made_at: When that was made.
        columns: Column to type, in order.
        partition_by: The partition columns.
        properties: Its Delta properties.
        files: Live data files.
        bytes: Their size.
        rows: Rows of them; None where the log does not tell.
    """

    table: str
    address: str
    id: str
    version: int
    made_at: datetime
    columns: Mapping[str, str]
    partition_by: tuple[str, ...]
    properties: Mapping[str, str]
    files: int
    bytes: int
    rows: int | None


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do.

    Attributes:
        version: The newest version now.
        restored_version: The version that the table would be again.
        files_added: Data files that would come back.
        files_removed: Data files that would leave; they stay in older versions until vacuum.
        note: What follows from it; empty: nothing.
    """

    version: int
    restored_version: int
    files_added: int
    files_removed: int
    note: str = ""


def described(source: Source) -> TableDescription:
    """What a table is now.

    Raises:
        TableMissing: There is no such table.
    """
    versions = Versions(source.root)
    snapshot = LogReader(source.address).snapshot(versions.latest)
    rows = snapshot.files.column("num_records")
    gone = sum(snapshot.files.column("deleted_records").to_pylist())
    schema = schema_at(source.root, versions.latest)
    return TableDescription(
        table=source.name,
        address=source.address,
        id=snapshot.metadata.id,
        version=versions.latest,
        made_at=versions.made_at(versions.latest),
        columns={field.name: str(field.type) for field in schema},
        partition_by=snapshot.metadata.partition_columns,
        properties=dict(snapshot.metadata.configuration),
        files=snapshot.files.num_rows,
        bytes=sum(snapshot.files.column("size").to_pylist()),
        rows=None if rows.null_count else sum(rows.to_pylist()) - gone,
    )


def restore_plan(source: Source, version: int | None, at: datetime | str | None) -> RestorePlan:
    """What a restore to a version or a time would do; nothing is changed.

    Raises:
        OwnerOnly: A pipeline feeds the table: it is rewound instead.
        TableError: There is no such version, or it is gone.
    """
    versions = Versions(source.root)
    wanted = versions.resolve(version, at)
    reader = LogReader(source.address)
    newest = reader.snapshot(versions.latest)
    if OWNER_APP in newest.txns:
        refuse_accounted(source.root, newest.metadata.configuration, Restore(wanted))
    now = set(newest.files.column("path").to_pylist())
    then = set(reader.snapshot(wanted).files.column("path").to_pylist())
    versions.require_files(then - now, wanted)
    note = after_restore(source, newest.metadata.configuration)
    return RestorePlan(versions.latest, wanted, len(then - now), len(now - then), note)


def after_restore(source: Source, configuration: Mapping[str, str]) -> str:
    """What a restore means for a table that a pipeline's steps write; empty for others.

    Args:
        source: The table.
        configuration: Its properties.
    """
    pipeline = configuration.get(OWNER)
    if pipeline is None:
        return ""
    return (
        f"pipeline {pipeline!r} makes this table, and its progress is not taken back: its next "
        f"step refuses to go on until `raylake transform run FILE --full-refresh {source.name}` "
        "makes the table anew of its source"
    )
