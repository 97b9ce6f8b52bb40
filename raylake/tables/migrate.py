"""Moving folders of Parquet files over to Delta tables beside them, table by table.

Each table is copied, then compared with its source, and only when all of them agree do they become
visible, each by its first commit. The sources are only read. What has been done is written down
after each step in a journal, so that a migration that was interrupted anywhere can go on, or be
rolled back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from raylake import faults
from raylake.delta import log_files
from raylake.delta.log_commit import LogCommit, add_line, new_metadata_line
from raylake.delta.protocols import new_protocol
from raylake.delta.schema import delta_schema
from raylake.errors import DependencyUnreachable
from raylake.storage.place import Place, folders_of, place, prune
from raylake.tables.copying import copied, copied_sums, source_sums
from raylake.tables.errors import (
    BadRequest,
    FilesRefused,
    MigrationDiffers,
    UnknownColumn,
    WriteConflict,
)
from raylake.tables.filling import (
    Held,
    Work,
    delete_files_of,
    filling,
    first_commit,
    gone_on,
    refuse_taken,
    taken,
)
from raylake.tables.first_versions import ID, is_made_by, unmake
from raylake.tables.migration_journal import (
    JOURNAL,
    USER,
    Entry,
    Journal,
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
    take_over: bool = False,
    told: Callable[[Migrated], None] = lambda _one: None,
) -> list[Migrated]:
    """Move tables over, or go on with a migration that was interrupted.

    Args:
        tables: What is moved; of a migration that goes on, the same as before, or nothing.
        journal: A folder for what has been done.
        switch: Whether the tables become visible once all of them are validated; a later call with
            ``switch`` goes on from there.
        take_over: Take the journal from another process that works by it, and the targets from
            another migration or clone. One of this machine that has ended is taken over without.
        told: Called with each table after each of its steps.

    Returns:
        How far each table is.

    Raises:
        BadRequest: The journal is another migration's, or a target is named twice.
        TableExists, FilesRefused, SchemaMismatch, NotEnoughSpace: Nothing was written.
        FolderTaken: Another process works by the journal, or another work fills a target.
        MigrationDiffers: A copy is not what its source is; nothing is visible.
        DependencyUnreachable: A file could not be read or written; it can go on.
    """
    with _working(place(journal), told, take_over=take_over) as by:
        plan = _begun(tables, by)
        steps = [("planned", _copy), ("copied", _validate)]
        for state, step in [*steps, ("validated", _switch)] if switch else steps:
            for entry in plan.entries:
                if entry.now.state == state:
                    step(entry, _Step(plan, by.held.work.id, by.take_over))
                    by.record(plan, entry)
        return [entry.now for entry in plan.entries]


def roll_back(
    journal: str,
    *,
    take_over: bool = False,
    told: Callable[[Migrated], None] = lambda _one: None,
) -> list[Migrated]:
    """Take away what a migration made, and nothing else; the sources are as they were.

    Args:
        journal: Its folder.
        take_over: As for :func:`migrate`.
        told: Called with each table once it is taken away.

    Raises:
        BadRequest: There is no such migration.
        FolderTaken: Another process works by the journal.
        WriteConflict: A table has been written to since; nothing was taken away.
    """
    folder = place(journal)
    read_journal(folder)
    with _working(folder, told, take_over=take_over) as by:
        plan = read_journal(folder)
        for entry in plan.entries:
            _refuse_used(entry, plan)
        for entry in reversed(plan.entries):
            if entry.now.state == "rolled_back":
                continue
            # The deletions before it took a while.
            _refuse_used(entry, plan)
            _take_away(entry, plan)
            entry.now = replace(entry.now, state="rolled_back")
            by.record(plan, entry)
        return [entry.now for entry in plan.entries]


def migration(journal: str) -> list[Migrated]:
    """How far a migration is.

    Raises:
        BadRequest: There is no such migration.
    """
    return [entry.now for entry in read_journal(place(journal)).entries]


@dataclass(frozen=True, slots=True)
class _ByJournal:
    """This process, the only one that works by a journal."""

    held: Held
    told: Callable[[Migrated], None]
    take_over: bool

    def record(self, journal: Journal, entry: Entry) -> None:
        self.held.require()
        write_journal(journal)
        self.told(entry.now)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of a migration."""

    journal: Journal
    process: str
    take_over: bool

    @property
    def work(self) -> Work:
        """Whose the targets are: the migration's; this process's part of it has its own id."""
        where = str(self.journal.folder)
        return Work("migration", journal=where, id=f"{self.journal.work}-{self.process}")


@contextlib.contextmanager
def _working(
    folder: Place, told: Callable[[Migrated], None], *, take_over: bool
) -> Iterator[_ByJournal]:
    """Work by a journal, alone.

    Raises:
        FolderTaken: Another process does.
        DependencyUnreachable: The folder cannot be read or written.
    """
    made = not isinstance(folder, Path) or not folder.exists()
    try:
        held = taken(folder, Work("migration"), name=USER, take_over=take_over)
    except OSError as error:
        raise DependencyUnreachable(f"{folder}: the journal: {error}") from error
    try:
        yield _ByJournal(held, told, take_over)
    finally:
        held.settle()
        if made:
            # Nothing was begun: no empty folder stays.
            prune(folder)


def _begun(tables: Sequence[Migrate], by: _ByJournal) -> Journal:
    folder = by.held.root
    if (folder / JOURNAL).exists():
        journal = read_journal(folder)
        if tables and [request_json(one.request) for one in journal.entries] != [
            request_json(one) for one in tables
        ]:
            raise BadRequest(
                f"{folder}: the journal is that of another migration",
                hint="name another folder, or roll that one back",
            )
        if any(one.now.state == "rolled_back" for one in journal.entries):
            raise BadRequest(
                f"{folder}: this migration was rolled back", hint="name another folder"
            )
        return journal
    if not tables:
        raise BadRequest(f"{folder}: there is no migration to go on with")
    targets = [one.target.rstrip("/") for one in tables]
    twice = sorted({one for one in targets if targets.count(one) > 1})
    if twice:
        raise BadRequest(f"{folder}: {twice[0]} is named twice as a target")
    journal = Journal(folder, by.held.work.id, [])
    entries = [_planned(one, take_over=by.take_over) for one in tables]
    for entry in entries:
        need = sum(entry.source_files.values())
        same = [one for one in entries if _parent(one) == _parent(entry)]
        total = max(need, sum(sum(one.source_files.values()) for one in same))
        require_space(place(entry.now.target), total, f"{entry.now.target}: migrate")
    journal.entries.extend(entries)
    write_journal(journal)
    return journal


def _planned(request: Migrate, *, take_over: bool) -> Entry:
    where = f"{request.target}: migrate"
    source, target = place(request.source), place(request.target)
    refuse_taken(target, take_over=take_over)
    check_properties(request.properties, where)
    found = parquet_folder(source, None, cast=True)
    for name in request.partition_by or ():
        if name not in found.schema.names:
            raise UnknownColumn(f"{where}: there is no column {name!r} to partition by")
    schema_json = delta_schema(found.schema).to_json()
    now = Migrated(request.source, request.target)
    return Entry(request, now, found.fingerprint(), schema_json, [], folders_of(target))


def _copy(entry: Entry, step: _Step) -> None:
    target, work = place(entry.now.target), step.work
    refuse_taken(target, work=work, take_over=step.take_over)
    found = _source(entry)
    by, properties = _partition_by(entry, found), dict(entry.request.properties)
    # It stays unfinished until it is switched: whatever is in it is nobody's yet.
    with filling(target, work, keep_mark=True, take_over=step.take_over):
        entry.written = copied(found, target, by, properties, work.prefix)
    faults.reach("migrate.copied", target=entry.now.target)
    entry.now = replace(
        entry.now,
        state="copied",
        rows=sum(one.rows for one in entry.written),
        files=len(entry.written),
        size_bytes=sum(one.size_bytes for one in entry.written),
    )


def _validate(entry: Entry, step: _Step) -> None:
    """Rows, checksums of each column, and the schema of the copy are those of the source.

    Raises:
        MigrationDiffers: Naming the first difference.
        FolderTaken: Another work has taken the target over.
    """
    _held(entry, step)
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


def _switch(entry: Entry, step: _Step) -> None:
    target = place(entry.now.target)
    if log_files.commit_versions(target):
        # It was interrupted between the commit and its line in the journal.
        if not is_made_by(target, step.journal.work):
            raise WriteConflict(
                f"{target}: another table was made there", hint="roll the migration back"
            )
        _switched(entry, step)
        return
    held = _held(entry, step)
    properties = dict(entry.request.properties)
    partition_by = _partition_by(entry, _source(entry))
    actions = [
        new_protocol(properties, entry.schema_json),
        new_metadata_line(entry.schema_json, partition_by, properties),
        *(add_line(one, time.time(), data_change=True) for one in entry.written),
    ]
    parameters = {"source": entry.now.source, ID: step.journal.work}
    first_commit(target, LogCommit(OPERATION, actions, parameters), held)
    _switched(entry, step)


def _switched(entry: Entry, step: _Step) -> None:
    Held(place(entry.now.target), Work("migration", id=step.journal.work)).settle()
    entry.now = replace(entry.now, state="switched")


def _held(entry: Entry, step: _Step) -> Held:
    """The target, which another process may have filled for this migration.

    Raises:
        FolderTaken: Another work has taken it over.
        DependencyUnreachable: That cannot be read or written.
    """
    try:
        return gone_on(place(entry.now.target), step.work)
    except OSError as error:
        raise DependencyUnreachable(f"{entry.now.target}: who fills it: {error}") from error


def _refuse_used(entry: Entry, journal: Journal) -> None:
    """Refuse to take away a table that has been written to, and so is no longer ours alone.

    Raises:
        WriteConflict: It has, or its first commit is gone, which would tell.
    """
    target = place(entry.now.target)
    versions = log_files.commit_versions(target)
    if entry.now.state == "rolled_back" or not versions:
        return
    if versions[0] == 0 and not is_made_by(target, journal.work):
        # Another work's table stays, whatever of ours may lie beside it.
        return
    if versions != [0]:
        raise WriteConflict(
            f"{target}: the table has been written to since (version {versions[-1]}); nothing was "
            "taken away",
            hint="what was written since would be lost: copy it out, then drop the table yourself",
        )


def _take_away(entry: Entry, journal: Journal) -> None:
    target = place(entry.now.target)
    if log_files.commit_versions(target) and is_made_by(target, journal.work):
        unmake(target)
    delete_files_of(target, journal.work)
    Held(target, Work("migration", id=journal.work)).give_up()
    prune(target, entry.folders)


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


__all__ = ["Migrate", "Migrated", "migrate", "migration", "roll_back"]
