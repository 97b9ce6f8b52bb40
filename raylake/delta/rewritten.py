"""What a worker hands a table's owner to commit: files that take the place of others (DESIGN §6).

The worker has read one version and written files that are of no table yet. The owner commits them
beside what is ingested, as long as each file that leaves is as it was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from raylake.delta import log_files
from raylake.delta.ledger import app_id, changed_values
from raylake.delta.live_rows import SourceFile
from raylake.delta.moves import States
from raylake.delta.unit_check import disk_path
from raylake.errors import Refused
from raylake.ingest.unit import DataFile, PartitionState, SourcePartition
from raylake.storage.place import Place

_KEEPS_ROWS_READABLE: Final = frozenset({"evolve", "append_only"})
"""Kinds of commits of ours that change metadata in a way that older files bear."""
_METADATA: Final = ("metaData", "protocol")


class FilesChanged(Refused):
    """What a rewrite read is not what the table holds now; nothing was committed."""

    code = "files_changed"


class RowsOfBoth(Refused):
    """Rows of a topic that was created again: whose account they are of cannot be told."""

    code = "rows_of_both"

    @classmethod
    def of(cls, where: str, key: tuple[str, int]) -> Self:
        """Of a topic's partition."""
        return cls(
            f"{where}: topic {key[0]!r} was created again, and rows of both lie in the table: "
            f"which of them the concerned rows of partition {key[1]} are counted by cannot be told",
            hint="nothing was changed; leave this table and read the topic into another one, or "
            "concern rows of other partitions alone",
            topic=key[0],
            partition=key[1],
        )


class RowsUnequal(Refused):
    """The rows of a rewrite do not add up; nothing was committed."""

    code = "rows_unequal"


@dataclass(frozen=True, slots=True)
class RowsTaken:
    """Rows of one partition that leave.

    Attributes:
        rows: How many; at least one.
        first: The least of their offsets.
        last: The greatest of them.
    """

    rows: int
    first: int
    last: int

    def fits(self, state: PartitionState) -> bool:
        """Whether a partition's account can have had them."""
        within = state.origin <= self.first <= self.last < state.next
        return within and 1 <= self.rows <= min(state.totals.rows, self.last - self.first + 1)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Files that are to take the place of others.

    Attributes:
        request: Whose turn it is; the commit's batch.
        operation: What it is called in the history, as ``DELETE``.
        read_version: The version that was read.
        removed: Live files of that version.
        added: Files in the table's folder that are of no table yet.
        taken: Rows that leave, by topic and partition.
        data_change: Whether rows leave or change; False: each row is in one of the new files.
        parameters: Parameters of the operation, for the history.
        metrics: What was counted, for the history.
    """

    request: str
    operation: str
    read_version: int
    removed: tuple[SourceFile, ...]
    added: tuple[DataFile, ...]
    taken: Mapping[tuple[str, int], RowsTaken] = field(default_factory=dict)
    data_change: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, int] = field(default_factory=dict)


def refuse_other_rows(root: Place, handle: DeltaTable, one: Rewritten) -> None:
    """Look whether a rewrite may follow the version of a handle.

    Args:
        root: The table.
        handle: The handle that it is to be committed with.
        one: The rewrite.

    Raises:
        FilesChanged: A file that leaves was taken, or a new one is gone.
        RowsUnequal: The rows do not add up.
    """
    _refuse_unequal(root, one)
    _refuse_touched(root, int(handle.version()), one)
    live = _live(handle)
    for file in one.removed:
        if live.get(unquote(file.path)) != (file.size_bytes, file.rows):
            raise _changed(root, one, f"{file.path} is not live any more, or not as it was read")
    by = set(handle.metadata().partition_columns)
    for new in one.added:
        at = disk_path(root, new.path)
        if at is None or set(new.partition_values) != by:
            raise _changed(root, one, f"{new.path} is no file of this table")
        try:
            size = at.stat().st_size
        except FileNotFoundError:
            size = -1
        if size != new.size_bytes:
            raise _changed(root, one, f"{new.path}, which was written for it, is gone")


def moved_to_dropped(
    root: Place, one: Rewritten, states: States, pipelines: Mapping[SourcePartition, str]
) -> tuple[dict[SourcePartition, PartitionState], dict[str, int], list[dict[str, Any]]]:
    """The account after a rewrite: rows that leave are counted as dropped (DESIGN §4).

    Returns:
        The states that change, their txns, and what the commit says of them.

    Raises:
        RowsOfBoth: Which incarnation of a topic a row was of cannot be told.
        RowsUnequal: The account does not have these rows.
    """
    after: dict[SourcePartition, PartitionState] = {}
    values: dict[str, int] = {}
    told = []
    for key, taken in sorted(one.taken.items()):
        source = _source_of(root, one, key, states)
        state, rows = states[source], taken.rows
        if not taken.fits(state):
            raise RowsUnequal(
                f"{root}: {one.operation} takes {rows} rows of {source} in [{taken.first}, "
                f"{taken.last}], the ledger counts {state.totals.rows} in [{state.origin}, "
                f"{state.next})",
                hint="nothing was changed; `raylake verify --level data` says more",
            )
        totals = replace(
            state.totals, rows=state.totals.rows - rows, dropped=state.totals.dropped + rows
        )
        after[source] = replace(states[source], totals=totals)
        pipeline = pipelines[source]
        for name, value in changed_values(states[source], after[source]).items():
            values[app_id(pipeline, source, name)] = value
        told.append(
            {
                "pipeline": pipeline,
                "topic": source.topic,
                "topic_id": source.topic_id,
                "partition": source.partition,
                "first": taken.first,
                "last": taken.last,
                "rows": rows,
            }
        )
    return after, values, told


def _source_of(
    root: Place, one: Rewritten, key: tuple[str, int], states: States
) -> SourcePartition:
    found = [s for s in states if (s.topic, s.partition) == key]
    if len(found) > 1:
        raise RowsOfBoth.of(str(root), key)
    if not found:
        raise RowsUnequal(
            f"{root}: {one.operation} takes rows of {key[0]}[{key[1]}], which is not admitted",
            hint="nothing was changed; `raylake verify --level data` says more",
        )
    return found[0]


def _refuse_unequal(root: Place, one: Rewritten) -> None:
    before = sum(file.rows or 0 for file in one.removed)
    after = sum(file.rows for file in one.added)
    leaving = sum(taken.rows for taken in one.taken.values())
    if before - after != leaving or any(taken.rows < 1 for taken in one.taken.values()):
        raise RowsUnequal(
            f"{root}: {one.operation}: {before} rows were in the files that leave, {after} are in "
            f"those that take their place, {leaving} are said to leave",
            hint="nothing was changed; `raylake verify --level data` says more",
        )


def _refuse_touched(root: Place, newest: int, one: Rewritten) -> None:
    """Look through the commits since it read: none took its files, or changed their meaning."""
    mine = {file.path for file in one.removed} | {file.path for file in one.added}
    for version in range(one.read_version + 1, newest + 1):
        actions = log_files.read_commit(root, version)
        if actions is None:
            raise _changed(root, one, f"version {version} was cleaned up meanwhile")
        kind = (log_files.our_metadata(actions) or {}).get("kind")
        if kind not in _KEEPS_ROWS_READABLE and any(
            action.get(key) for action in actions for key in _METADATA
        ):
            raise _changed(root, one, f"version {version} changed the table's metadata")
        if touched := mine & set(_paths(actions)):
            raise _changed(root, one, f"version {version} took or added {min(touched)}")


def _paths(actions: Sequence[Mapping[str, Any]]) -> list[str]:
    found = (action.get(key) for action in actions for key in ("add", "remove"))
    return [str(one["path"]) for one in found if one]


def _live(handle: DeltaTable) -> dict[str, tuple[int, int | None]]:
    adds = pa.table(handle.get_add_actions(flatten=True))
    columns = (adds.column(name).to_pylist() for name in ("path", "size_bytes", "num_records"))
    return {unquote(path): (size, rows) for path, size, rows in zip(*columns, strict=True)}


def _changed(root: Place, one: Rewritten, what: str) -> FilesChanged:
    return FilesChanged(
        f"{root}: {one.operation} of version {one.read_version}: {what}",
        hint="nothing was changed; run it again on what is there now",
        read_version=one.read_version,
    )
