"""Tables beside a derived one that are filled after its commits: quarantine and history.

What goes in is decided by the commit of the derived table, which names it in its metadata
(:func:`~raylake.tables.landing.operation_metadata`). :func:`follow_up` reads from that log what
came after the version that the side table's own txn says, and adds it in one commit that carries
the txn. So each of it is added exactly once, whoever does it and however often: of two processes
one commits first, and the other one finds the txn moved. What was written for a step that never
committed is named nowhere, and left to vacuum.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError

from raylake import faults
from raylake.clock import Clock
from raylake.delta import log_files
from raylake.delta.log_commit import (
    LogCommit,
    add_line,
    commit_after,
    commit_first,
    new_metadata_line,
)
from raylake.delta.opening import open_table
from raylake.delta.reading import readable
from raylake.delta.schema import delta_schema
from raylake.delta.unit_check import check_file
from raylake.errors import DependencyUnreachable, LogDamaged, NotOurTable
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, place
from raylake.tables.checkpoints import write_checkpoint
from raylake.tables.errors import WriteConflict
from raylake.tables.landing import operation_metadata

log = logging.getLogger(__name__)

METADATA_KEY: Final = "raylake"
MARK_EVERY_VERSIONS: Final = 20
CHECKPOINT_EVERY_VERSIONS: Final = 100
_TRIES: Final = 50
_PROTOCOL: Final = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}


@dataclass(frozen=True, slots=True)
class SideTable:
    """A table beside derived ones.

    Attributes:
        path: Its address.
        schema: Its columns.
        partition_by: The partition columns.
        kind: What its txns and metadata are called by: ``quarantine`` or ``quality``.
    """

    path: str
    schema: pa.Schema
    partition_by: tuple[str, ...]
    kind: str

    @property
    def root(self) -> Place:
        """Where it lies."""
        return place(self.path)

    def app(self, table_id: str) -> str:
        """The txn that says up to which version of a derived table it has everything."""
        return f"raylake/{self.kind}/{table_id}"


@dataclass(frozen=True, slots=True)
class Target:
    """A derived table.

    Attributes:
        name: ``layer.name``.
        path: Its address.
        table_id: Its id.
    """

    name: str
    path: str
    table_id: str


@dataclass(frozen=True, slots=True)
class Named:
    """What one commit of a derived table names for a side table.

    Attributes:
        version: The commit's version.
        entries: What its metadata holds under the side table's kind.
    """

    version: int
    entries: tuple[Any, ...]


class Filling(Protocol):
    """How what commits name becomes files of a side table."""

    def __call__(self, target: Target, named: Sequence[Named]) -> Sequence[DataFile]:
        """The files that are to be added; they lie in the side table's folder."""
        ...


def follow_up(side: SideTable, target: Target, fill: Filling, clock: Clock) -> int:
    """Add what a derived table's commits name and the side table lacks; idempotent.

    Without anything named the txn alone moves, each :data:`MARK_EVERY_VERSIONS` versions, so that
    the derived table's log may be cleaned up.

    Returns:
        The number of commits whose entries were added now.

    Raises:
        LogDamaged: A log file that is needed is gone or torn, or a named file is not there.
        WriteConflict: Others came first each time; nothing was added, it may be tried again.
        DependencyUnreachable: A store cannot be read or written; it may be tried again.
    """
    files: tuple[tuple[int, int], Sequence[DataFile]] | None = None
    for _ in range(_TRIES):
        stored, version = position(side, side.app(target.table_id))
        with readable(place(target.path)):
            named, newest = pending(place(target.path), stored, side.kind)
        if newest - stored < (1 if named else MARK_EVERY_VERSIONS):
            return 0
        if version is None:
            create(side)
            continue
        if files is None or files[0] != (stored, newest):
            files = (stored, newest), fill(target, named)
        if add(
            side, Addition(target, (side.app(target.table_id), newest), version, files[1]), clock
        ):
            return len(named)
    raise WriteConflict(
        f"{side.path}: others committed first {_TRIES} times", hint="try again when they are done"
    )


def position(side: SideTable, app: str) -> tuple[int, int | None]:
    """The number of a txn of a side table, and the table's version.

    Returns:
        The number, -1 for none; and the side table's newest version, None where there is none.

    Raises:
        NotOurTable: Another table lies there.
        DependencyUnreachable: It cannot be read.
    """
    with readable(side.root):
        there = log_files.commit_versions(side.root) or log_files.checkpoint_versions(side.root)
        if not there:
            return -1, None
        handle = open_table(side.root)
        lacking = set(side.schema.names) - {field.name for field in handle.schema().fields}
        if lacking:
            raise NotOurTable(
                f"{side.path}: this table has no column {min(lacking)!r}: it is no {side.kind} "
                "table of ours",
                hint="move it away; nothing was changed",
            )
        stored = handle.transaction_version(app)
        return -1 if stored is None else int(stored), int(handle.version())


def pending(root: Place, after: int, kind: str) -> tuple[list[Named], int]:
    """What commits of a log after a version name, and the newest version that was read.

    Raises:
        LogDamaged: A log file that is needed is gone or torn.
    """
    # What our own clean-up took was added before.
    expected = max(after + 1, log_files.cleaned_below(root))
    found: list[Named] = []
    for version in (v for v in log_files.commit_versions(root) if v >= expected):
        actions = log_files.read_commit(root, version)
        if actions is None or version != expected:
            raise LogDamaged(
                f"{root}: version {expected} is gone from the log, and what it names for the "
                f"{kind} table was not added yet",
                hint="put the log file back from a copy; was the log cleaned up by another tool?",
                version=expected,
            )
        expected = version + 1
        entries = tuple(metadata_of(actions).get(kind) or ())
        if entries:
            found.append(Named(version, entries))
    return found, expected - 1


def metadata_of(actions: list[dict[str, Any]]) -> Mapping[str, Any]:
    """What a step says in its commit, whichever engine made it."""
    return operation_metadata(log_files.commit_info(actions))


def create(side: SideTable) -> None:
    """Make a side table, unless another process does.

    Raises:
        DependencyUnreachable: It cannot be written.
    """
    schema_json = delta_schema(side.schema).to_json()
    metadata = new_metadata_line(schema_json, side.partition_by, {})
    parameters = {"partitionBy": json.dumps(list(side.partition_by))}
    try:
        commit_first(side.root, LogCommit("CREATE TABLE", [_PROTOCOL, metadata], parameters))
    except FileExistsError:
        log.debug("%s: another process made it in this moment", side.path)
    except OSError as error:
        raise _unreachable(side, error) from error


@dataclass(frozen=True, slots=True)
class Addition:
    """Files that one commit adds.

    Attributes:
        target: The derived table that they are about.
        txn: App id and number.
        base: The side table's version that the commit follows.
        files: They lie in the side table's folder.
    """

    target: Target
    txn: tuple[str, int]
    base: int
    files: Sequence[DataFile]


def add(side: SideTable, one: Addition, clock: Clock) -> bool:
    """Commit files; false where another commit came first.

    Raises:
        LogDamaged: One of them is not what it is said to be.
        DependencyUnreachable: The store cannot be written.
    """
    target, files = one.target, one.files
    _check(side, target, files)
    number = one.txn[1]
    faults.reach("quality.before_commit", table_id=target.table_id, version=number, kind=side.kind)
    commit = LogCommit(
        "WRITE",
        [add_line(file, clock.now(), data_change=True) for file in files],
        {"mode": "Append", "partitionBy": json.dumps(list(side.partition_by))},
        {"numFiles": len(files), "numOutputRows": sum(file.rows for file in files)},
        {METADATA_KEY: {"table_id": target.table_id, "table": target.name, "version": number}},
        dict([one.txn]),
    )
    try:
        commit_after(side.root, one.base, commit)
    except CommitFailedError:
        return False
    except OSError as error:
        raise _unreachable(side, error) from error
    faults.reach("quality.after_commit", table_id=target.table_id, version=number, kind=side.kind)
    if (one.base + 1) % CHECKPOINT_EVERY_VERSIONS == 0:
        _checkpoint(side)
    return True


def _check(side: SideTable, target: Target, files: Sequence[DataFile]) -> None:
    stored = pa.schema([field for field in side.schema if field.name not in side.partition_by])
    for file in files:
        why = check_file(file, side.root, stored, side.partition_by)
        if why:
            raise LogDamaged(
                f"{side.path}: a file that {target.name} names cannot be added: {file.path} {why}",
                hint="put the file back; rows that the table does not have are in it",
                path=file.path,
            )


def _checkpoint(side: SideTable) -> None:
    try:
        write_checkpoint(side.root)
    except (WriteConflict, LogDamaged, DependencyUnreachable, DeltaError) as error:
        log.warning("%s: no checkpoint was written: %s", side.path, error)


def _unreachable(side: SideTable, error: OSError) -> DependencyUnreachable:
    return DependencyUnreachable(
        f"{side.path}: cannot be written: {error}",
        hint="check free space and permissions of the lake's folder; it is tried again",
    )
