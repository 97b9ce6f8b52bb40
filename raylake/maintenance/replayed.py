"""Commits of a log replayed over a table's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.log_reader import (
    Commit,
    LogReader,
    TableMetadata,
    TableProtocol,
    metadata_of,
    protocol_of,
)
from raylake.errors import LogDamaged
from raylake.maintenance.checkpoint_columns import CheckpointHead
from raylake.maintenance.statistics import Ranged, statistics


class Replayed:
    """Commits replayed over a base: for each path the newest action decides.

    Args:
        head: What the base says of the table.
    """

    def __init__(self, head: CheckpointHead) -> None:
        self.files: dict[str, tuple[bool, int, Mapping[str, Any]]] = {}
        self._metadata = head.metadata
        self._protocol = head.protocol

    def replay(self, commit: Commit) -> None:
        """Replay the next commit."""
        # Within a commit an add wins: with a new deletion vector a file is removed and added.
        for remove in commit.removes():
            self.files[remove["path"]] = (False, commit.version, remove)
        for add in commit.adds():
            self.files[add["path"]] = (True, commit.version, add)
        for action in commit.actions:
            if action.get("metaData"):
                self._metadata = metadata_of(action["metaData"])
            elif action.get("protocol"):
                self._protocol = protocol_of(action["protocol"])

    def described(self, reader: LogReader) -> tuple[TableMetadata, TableProtocol]:
        """What the table is.

        Raises:
            LogDamaged: The log does not say.
        """
        if self._metadata is None or self._protocol is None:
            raise LogDamaged(
                f"{reader.path}: the log has no metaData or protocol action", path=reader.path
            )
        return self._metadata, self._protocol

    def over(self, rows: pa.Table, metadata: TableMetadata, columns: Sequence[Ranged]) -> pa.Table:
        """The base's rows with what was replayed."""
        if not self.files:
            return rows
        schema = rows.schema
        touched = pa.array(list(self.files), pa.string())
        kept = rows.filter(pc.invert(pc.is_in(rows.column("path"), value_set=touched)))
        files = list(self.files.values())
        told = pa.chunked_array([pa.array([_stats(one) for one in files], pa.string())])
        counted = statistics(told, columns)
        plain = pa.table(
            {
                "path": touched,
                "size": pa.array([int(a.get("size") or 0) for _, _, a in files], pa.int64()),
                "deleted": pa.array([_deleted(one) for one in files], pa.int64()),
                "gone_ms": pa.array([_gone_ms(one) for one in files], pa.int64()),
                "gone_version": pa.array(
                    [None if alive else version for alive, version, _ in files], pa.int64()
                ),
                **{
                    f"part_{at}": pa.array([_value(one, name) for one in files], pa.string())
                    for at, name in enumerate(metadata.partition_columns)
                },
            }
        )
        for name in counted.schema.names:
            plain = plain.append_column(name, counted.column(name))
        return pa.concat_tables([kept, _blank(plain.select(schema.names))])


_File = tuple[bool, int, Mapping[str, Any]]


def _blank(rows: pa.Table) -> pa.Table:
    """Tombstones without what is told of live files alone, as a checkpoint has them."""
    dead = rows.column("gone_ms").is_valid()
    kept = {"path", "size", "gone_ms", "gone_version"}
    columns = [
        rows.column(one.name)
        if one.name in kept
        else pc.if_else(dead, pa.scalar(None, one.type), rows.column(one.name))
        for one in rows.schema
    ]
    return pa.table(columns, schema=rows.schema)


def _stats(one: _File) -> str | None:
    alive, _, action = one
    return action.get("stats") if alive else None


def _deleted(one: _File) -> int:
    alive, _, action = one
    return int((action.get("deletionVector") or {}).get("cardinality") or 0) if alive else 0


def _gone_ms(one: _File) -> int | None:
    alive, _, action = one
    return None if alive else int(action.get("deletionTimestamp") or 0)


def _value(one: _File, name: str) -> str | None:
    alive, _, action = one
    found = (action.get("partitionValues") or {}).get(name) if alive else None
    return None if found is None else str(found)
