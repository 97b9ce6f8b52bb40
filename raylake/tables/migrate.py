"""Moving folders of Parquet files over to Delta tables beside them, table by table.

Each table is copied, then compared with its source, and only when all of them agree do they become
visible, each by its first commit. The sources are only read. What has been done is written down
after each step in a journal, so that a migration that was interrupted anywhere can go on, or be
rolled back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from raylake import faults
from raylake.delta import log_files
from raylake.delta.log_commit import LogCommit, add_line, new_metadata_line
from raylake.delta.log_store import files_of
from raylake.delta.protocols import new_protocol
from raylake.delta.schema import delta_schema
from raylake.storage.place import Place, delete_tree, make_folder, place
from raylake.tables.clone import MARK, filling, first_commit, refuse_taken
from raylake.tables.copying import copied, copied_sums, source_sums
from raylake.tables.errors import (
    BadRequest,
    FilesRefused,
    MigrationDiffers,
    UnknownColumn,
    WriteConflict,
)
from raylake.tables.migration_journal import (
    JOURNAL,
    Entry,
    Migrate,
    Migrated,
    read_journal,
    request_json,
    write_journal,
)
from raylake.tables.parquet_folder import ParquetFolder, parquet_folder
from raylake.tables.space import require_space
from raylake.tables.table_properties import check_properties

OPERATION: Final = "MIGRATE"
_AGAIN: Final = "nothing is visible yet; roll the migration back and begin again"


def migrate(
    tables: Sequence[Migrate],
    journal: str,
    *,
    switch: bool = True,
    told: Callable[[Migrated], None] = lambda _one: None,
) -> list[Migrated]:
    """Move tables over, or go on with a migration that was interrupted.

    Args:
        tables: What is moved; of a migration that goes on, the same as before, or nothing.
        journal: A folder for what has been done.
        switch: Whether the tables become visible once all of them are validated; a later call with
            ``switch`` goes on from there.
        told: Called with each table after each of its steps.

    Returns:
        How far each table is.

    Raises:
        BadRequest: The journal is another migration's, or a target is named twice.
        TableExists, FilesRefused, SchemaMismatch, NotEnoughSpace: Nothing was written.
        MigrationDiffers: A copy is not what its source is; nothing is visible.
        DependencyUnreachable: A file could not be read or written; it can go on.
    """
    folder = place(journal)
    entries = _begun(tables, folder)
    for entry in entries:
        if entry.now.state == "planned":
            _copy(entry)
            _record(entries, folder, entry, told)
    for entry in entries:
        if entry.now.state == "copied":
            _validate(entry)
            _record(entries, folder, entry, told)
    for entry in entries if switch else ():
        if entry.now.state == "validated":
            _switch(entry)
            _record(entries, folder, entry, told)
    return [entry.now for entry in entries]


def roll_back(
    journal: str, *, told: Callable[[Migrated], None] = lambda _one: None
) -> list[Migrated]:
    """Take away what a migration made; the sources are as they were.

    Raises:
        BadRequest: There is no such migration.
        WriteConflict: A table has been written to since; nothing was taken away.
    """
    folder = place(journal)
    entries = read_journal(folder)
    for entry in entries:
        _refuse_used(entry)
    for entry in reversed(entries):
        if entry.now.state == "rolled_back":
            continue
        # The deletions before it took a while.
        _refuse_used(entry)
        target = place(entry.now.target)
        if log_files.commit_versions(target):
            # First what makes it a table.
            log_files.commit_path(target, 0).unlink()
        delete_tree(target)
        entry.now = replace(entry.now, state="rolled_back")
        _record(entries, folder, entry, told)
    return [entry.now for entry in entries]


def migration(journal: str) -> list[Migrated]:
    """How far a migration is.

    Raises:
        BadRequest: There is no such migration.
    """
    return [entry.now for entry in read_journal(place(journal))]


def _begun(tables: Sequence[Migrate], folder: Place) -> list[Entry]:
    if (folder / JOURNAL).exists():
        entries = read_journal(folder)
        if tables and [request_json(one.request) for one in entries] != [
            request_json(one) for one in tables
        ]:
            raise BadRequest(
                f"{folder}: the journal is that of another migration",
                hint="name another folder, or roll that one back",
            )
        if any(one.now.state == "rolled_back" for one in entries):
            raise BadRequest(
                f"{folder}: this migration was rolled back", hint="name another folder"
            )
        return entries
    if not tables:
        raise BadRequest(f"{folder}: there is no migration to go on with")
    targets = [one.target.rstrip("/") for one in tables]
    twice = sorted({one for one in targets if targets.count(one) > 1})
    if twice:
        raise BadRequest(f"{folder}: {twice[0]} is named twice as a target")
    entries = [_planned(one) for one in tables]
    for entry in entries:
        need = sum(entry.source_files.values())
        same = [one for one in entries if _parent(one) == _parent(entry)]
        total = max(need, sum(sum(one.source_files.values()) for one in same))
        require_space(place(entry.now.target), total, f"{entry.now.target}: migrate")
    make_folder(folder)
    write_journal(entries, folder)
    return entries


def _planned(request: Migrate) -> Entry:
    where = f"{request.target}: migrate"
    source, target = place(request.source), place(request.target)
    refuse_taken(target)
    check_properties(request.properties, where)
    found = parquet_folder(source, None, cast=True)
    for name in request.partition_by or ():
        if name not in found.schema.names:
            raise UnknownColumn(f"{where}: there is no column {name!r} to partition by")
    schema_json = delta_schema(found.schema).to_json()
    now = Migrated(request.source, request.target)
    return Entry(request, now, found.fingerprint(), schema_json, [])


def _copy(entry: Entry) -> None:
    target = place(entry.now.target)
    refuse_taken(target)
    found = _source(entry)
    # It stays unfinished until it is switched: whatever is in it is nobody's yet.
    with filling(target, keep_mark=True):
        entry.written = copied(
            found, target, _partition_by(entry, found), dict(entry.request.properties)
        )
    faults.reach("migrate.copied", target=entry.now.target)
    entry.now = replace(
        entry.now,
        state="copied",
        rows=sum(one.rows for one in entry.written),
        files=len(entry.written),
        size_bytes=sum(one.size_bytes for one in entry.written),
    )


def _validate(entry: Entry) -> None:
    """Rows, checksums of each column, and the schema of the copy are those of the source.

    Raises:
        MigrationDiffers: Naming the first difference.
    """
    where = f"{entry.now.target}: validate"
    found = _source(entry)
    if delta_schema(found.schema).to_json() != entry.schema_json:
        raise MigrationDiffers(f"{where}: the source's schema has changed", hint=_AGAIN)
    rows, sums = source_sums(found)
    there, copy = copied_sums(place(entry.now.target), entry.written, found.schema)
    if rows != there or rows != found.rows:
        raise MigrationDiffers(
            f"{where}: the source has {rows} rows, the copy {there}", hint=_AGAIN
        )
    differing = [name for name in sums if sums[name] != copy[name]]
    if differing:
        raise MigrationDiffers(
            f"{where}: the values of column {differing[0]!r} are not those of the source",
            hint=_AGAIN,
            columns=differing,
        )
    entry.now = replace(entry.now, state="validated", checksums=sums)


def _switch(entry: Entry) -> None:
    target = place(entry.now.target)
    if log_files.commit_versions(target):
        # It was interrupted between the commit and its line in the journal.
        info = log_files.commit_info(log_files.read_commit(target, 0) or [])
        if info.get("operation") != OPERATION:
            raise WriteConflict(
                f"{target}: another table was made there", hint="roll the migration back"
            )
        _switched(entry, target)
        return
    properties = dict(entry.request.properties)
    partition_by = _partition_by(entry, _source(entry))
    actions = [
        new_protocol(properties, entry.schema_json),
        new_metadata_line(entry.schema_json, partition_by, properties),
        *(add_line(one, time.time(), data_change=True) for one in entry.written),
    ]
    parameters = {"source": entry.now.source}
    first_commit(target, LogCommit(OPERATION, actions, parameters))
    _switched(entry, target)


def _switched(entry: Entry, target: Place) -> None:
    with contextlib.suppress(OSError):
        (target / MARK).unlink()
    entry.now = replace(entry.now, state="switched")


def _refuse_used(entry: Entry) -> None:
    """Refuse to take away what is not this migration's alone.

    Raises:
        WriteConflict: The table has been written to, or is another one.
    """
    if entry.now.state == "rolled_back":
        return
    target = place(entry.now.target)
    versions = log_files.commit_versions(target)
    if not versions:
        with contextlib.suppress(FileNotFoundError):
            there = files_of(str(target)).tree("")
            if there and MARK not in there:
                raise WriteConflict(
                    f"{target}: somebody else's files lie there", hint="move them away first"
                )
        return
    info = log_files.commit_info(log_files.read_commit(target, versions[0]) or [])
    if versions != [0] or info.get("operation") != OPERATION:
        raise WriteConflict(
            f"{target}: the table has been written to since (version {versions[-1]}); nothing was "
            "taken away",
            hint="what was written since would be lost: copy it out, then drop the table yourself",
        )


def _source(entry: Entry) -> ParquetFolder:
    """The source as it was planned.

    Raises:
        FilesRefused: Its files have changed.
    """
    found = parquet_folder(place(entry.now.source), None, cast=True)
    if found.fingerprint() != entry.source_files:
        changed = sorted(set(found.fingerprint().items()) ^ set(entry.source_files.items()))
        raise FilesRefused(
            f"{entry.now.source}: files were written while it is moved, such as {changed[0][0]}",
            hint="stop its writers, roll the migration back and begin again",
        )
    return found


def _partition_by(entry: Entry, found: ParquetFolder) -> tuple[str, ...]:
    asked = entry.request.partition_by
    return tuple(found.partitions.names) if asked is None else tuple(asked)


def _parent(entry: Entry) -> str:
    return entry.now.target.rstrip("/").rpartition("/")[0]


def _record(
    entries: Sequence[Entry], folder: Place, entry: Entry, told: Callable[[Migrated], None]
) -> None:
    write_journal(entries, folder)
    told(entry.now)


__all__ = ["Migrate", "Migrated", "migrate", "migration", "roll_back"]
