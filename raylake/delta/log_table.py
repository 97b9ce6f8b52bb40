"""A handle on a table that puts its log entries into place itself, and knows what they say.

delta-rs lists the log's folder twice for a commit, and builds the table's next state only to throw
it away: 60 ms with 20,000 log files and 50,000 live files, where one hard link says the same; in
a store one conditional put does. To read its own entries back takes it another 42 ms (ADR 51).
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import CommitProperties, DeltaTable, Metadata, PostCommitHookProperties
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.table import ProtocolVersions
from deltalake.transaction import AddAction

from raylake.delta import log_files
from raylake.delta.partition_values import log_path
from raylake.storage.access import Reached, reached
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, storage_options

ENGINE = "RayLake"
MOST_UNREAD = 100
"""So many entries of its own a handle goes on without letting delta-rs read them."""
PAUSE_S = 5.0
"""After so long without a look all is read: somebody may have taken the table over meanwhile."""


class LogTable(DeltaTable):  # type: ignore[misc]
    """A DeltaTable whose strict appends are one link or one put, everything else delta-rs's.

    While nobody else commits, it does not read its own appends back that come one soon after the
    other: it knows their txns, and they change neither schema nor properties. delta-rs reads them,
    and nothing beyond them, as soon as it is asked for anything more, such as the files.

    It holds the keys of its store as they were when it was opened, so it is opened anew where
    they were changed since.

    Args:
        root: The table's folder.
    """

    def __init__(self, root: Place) -> None:
        self._root = root
        self._placed: _Placed | None = None
        self._unread: list[_Placed] = []
        self._open()
        self._known_protocol = self.protocol()

    @property
    def _table(self) -> Any:
        """delta-rs's handle, at this one's version; all methods of DeltaTable go through it."""
        if self._unread:
            self._read(self.version())
        return self._handle

    @_table.setter
    def _table(self, handle: Any) -> None:
        self._handle = handle

    def version(self) -> int:
        """As delta-rs's."""
        return self._unread[-1].version if self._unread else int(self._handle.version())

    def transaction_version(self, app_id: str) -> int | None:
        """As delta-rs's."""
        for one in reversed(self._unread):
            if app_id in one.txns:
                return one.txns[app_id]
        # delta-rs looks into the log's files for it: a handle that is behind may miss some by now.
        stored = self._table.transaction_version(app_id)
        return None if stored is None else int(stored)

    def schema(self) -> DeltaSchema:
        """As delta-rs's."""
        return self._handle.schema

    def metadata(self) -> Metadata:
        """As delta-rs's."""
        return Metadata(self._handle)

    def protocol(self) -> ProtocolVersions:
        """As delta-rs's."""
        return ProtocolVersions(*self._handle.protocol_versions())

    def update_incremental(self) -> None:
        """As delta-rs's, with the keys that its store takes now."""
        placed, self._placed = self._placed, None
        if placed is None or not self._is_newest(placed):
            self._read(None)
            return
        self._unread.append(placed)
        if len(self._unread) >= MOST_UNREAD:
            self._read(placed.version)

    def _is_newest(self, placed: _Placed) -> bool:
        """Whether the log surely ends with an append of a moment ago, and has its entry.

        A store is always read: what it is asked for takes its time, not what delta-rs makes of it.
        """
        if not isinstance(self._root, Path) or time.monotonic() - placed.at_s > PAUSE_S:
            return False
        # In this order: clean-up deletes the oldest first, so what comes after goes after it. The
        # second one after is there where the first was lost.
        version = placed.version
        after = [log_files.commit_path(self._root, version + n) for n in (1, 2)]
        here = log_files.commit_path(self._root, version)
        return not any(one.exists() for one in after) and here.exists()

    def _read(self, version: int | None) -> None:
        """Let delta-rs read the log up to a version, or to its end."""
        if _reached(self._root) is self._reached:
            try:
                if version is None:
                    self._handle.update_incremental()
                else:
                    self._handle.load_version(version)
            except (DeltaError, OSError):
                if _reached(self._root, refused=True) is self._reached:
                    raise
            else:
                self._unread.clear()
                return
        self._open(version)
        self._unread.clear()

    def _open(self, version: int | None = None) -> None:
        # Looked at first: keys that change in between are noticed the next time.
        now = _reached(self._root)
        super().__init__(str(self._root), version, storage_options=storage_options(self._root))
        self._reached = now

    def create_write_transaction(
        self,
        actions: list[Any],
        mode: str,
        schema: Any,
        partition_by: list[str] | str | None = None,
        partition_filters: Any = None,
        *args: Any,
        commit_properties: CommitProperties | None = None,
        post_commithook_properties: PostCommitHookProperties | None = None,
    ) -> None:
        """As delta-rs's; an append without retries and hooks is written here.

        Where it is not that, or the table's protocol is no longer the one that was opened,
        delta-rs judges and commits.

        Raises:
            CommitFailedError: Another commit has the version after this handle's.
            OSError: The log entry cannot be written; nothing was committed.
        """
        version = int(self.version())
        base = log_files.commit_path(self._root, version)
        if (
            mode == "append"
            and not partition_filters
            and _strict(commit_properties, post_commithook_properties)
            and all(isinstance(action, AddAction) for action in actions)
            and self.protocol() == self._known_protocol
            and base.exists()
        ):
            lines = _lines(actions, partition_by or [], commit_properties)
            place_entry(base, log_files.commit_path(self._root, version + 1), "\n".join(lines))
            self._placed = _Placed(version + 1, txns_of(commit_properties), time.monotonic())
            return
        super().create_write_transaction(
            actions,
            mode,
            schema,
            partition_by,
            partition_filters,
            *args,
            commit_properties=commit_properties,
            post_commithook_properties=post_commithook_properties,
        )

    def rewrite(
        self,
        removed: Sequence[Mapping[str, Any]],
        added: Sequence[AddAction],
        operation: str,
        properties: CommitProperties,
        told: Mapping[str, Any] | None = None,
        others: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Commit removed and added files as the version after this handle's, or not at all.

        Args:
            removed: ``remove`` actions as the log has them.
            added: Files that take their place.
            operation: The commit's operation.
            properties: Its metadata and txns.
            told: What else its ``commitInfo`` says.
            others: Further actions.

        Raises:
            CommitFailedError: Another commit has that version.
            OSError: The log entry cannot be written; nothing was committed.
        """
        version = int(self.version())
        base = log_files.commit_path(self._root, version)
        lines = [
            *_lines(added, [], properties, operation, told),
            *(_json({"remove": r}) for r in removed),
            *map(_json, others),
        ]
        place_entry(base, log_files.commit_path(self._root, version + 1), "\n".join(lines))


@dataclass(frozen=True, slots=True)
class _Placed:
    """An append of this handle's: its version, its txns by app id, and when it was put in place."""

    version: int
    txns: Mapping[str, int]
    at_s: float


def put_entry(root: Place, version: int, actions: Sequence[dict[str, Any]]) -> None:
    """Put a log entry into place as this version, whole and durable, or not at all.

    Raises:
        CommitFailedError: Another commit has that version.
        OSError: It cannot be written; on a disk nothing was committed.
    """
    base = log_files.commit_path(root, version - 1)
    place_entry(base, log_files.commit_path(root, version), "\n".join(map(_json, actions)))
    log_files.sync_commit(root, version)


def _reached(root: Place, *, refused: bool = False) -> Reached | None:
    return reached(root.address, refused=refused) if isinstance(root, StorePath) else None


def _strict(properties: CommitProperties | None, hooks: PostCommitHookProperties | None) -> bool:
    """Whether nothing is asked for but one try, with nothing after it."""
    return (
        properties is not None
        and properties.max_commit_retries == 0
        and hooks is not None
        and not hooks.create_checkpoint
        and hooks.cleanup_expired_logs is False
    )


def txns_of(properties: CommitProperties | None) -> dict[str, int]:
    """The txns that a commit is to carry, by app id."""
    told = (properties and properties.app_transactions) or []
    return {one.app_id: int(one.version) for one in told}


def _lines(
    actions: Sequence[AddAction],
    partition_by: list[str] | str,
    properties: CommitProperties | None,
    operation: str = "WRITE",
    told: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    columns = [partition_by] if isinstance(partition_by, str) else partition_by
    parameters = {"mode": "Append", "partitionBy": json.dumps(columns)}
    info = {
        "timestamp": int(time.time() * 1000),
        "operation": operation,
        "operationParameters": parameters if operation == "WRITE" else {},
        "engineInfo": ENGINE,
        **(told or {}),
        **((properties and properties.custom_metadata) or {}),
    }
    yield _json({"commitInfo": info})
    for one in actions:
        add = {
            "path": log_path(one.path),
            "partitionValues": dict(one.partition_values),
            "size": one.size,
            "modificationTime": one.modification_time,
            "dataChange": one.data_change,
            "stats": one.stats,
        }
        yield _json({"add": add})
    for app_id, number in txns_of(properties).items():
        yield _json({"txn": {"appId": app_id, "version": number}})


def _json(action: Mapping[str, Any]) -> str:
    return json.dumps(action, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def place_entry(base: Place, path: Place, text: str) -> None:
    """Put a log entry after ``base`` in one step, whole and durable, or not at all.

    Raises:
        CommitFailedError: Another commit has that version.
        OSError: The entry cannot be written; nothing was committed.
    """
    try:
        place_first(path, text)
    except FileExistsError as error:
        raise CommitFailedError(f"{path}: another commit has this version") from error
    # Clean-up deletes the oldest first: while the version before is there, ours was free.
    if not base.exists():
        path.unlink()
        raise CommitFailedError(f"{path}: the log was cleaned up beyond this version")


def place_first(path: Place, text: str) -> None:
    """Put a log entry where none is, in one step, whole and durable, or not at all.

    Raises:
        FileExistsError: One is there.
        OSError: The entry cannot be written; nothing was committed.
    """
    if isinstance(path, StorePath):
        path.create(text.encode())
    else:
        _link(path, text)


def _link(path: Path, text: str) -> None:
    # The name begins like the entry's, so that log clean-up takes what a crash leaves.
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
