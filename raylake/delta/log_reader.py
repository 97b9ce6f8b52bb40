"""Reads a Delta table's log with plain tools: JSON, Parquet and nothing that could hide a fault.

The layout is that of the Delta protocol (`PROTOCOL.md` of delta-io/delta): commits
``%020d.json``, classic checkpoints ``%020d.checkpoint.parquet`` in one or several parts, and
``_last_checkpoint``, which is only a hint. ``verify`` and tests read through this module so that
they share no code with the writer of the log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from raylake.delta.log_replay import (
    FILE_SCHEMA,
    CheckpointUnreadable,
    LogState,
    apply_actions,
    live_files,
    read_checkpoint,
)
from raylake.delta.log_store import ArrowFiles, LogFiles, files_of
from raylake.errors import LogDamaged, NotOurTable, UnsupportedTable

_COMMIT = re.compile(r"^(\d{20})\.json$")
_CLASSIC = re.compile(r"^(\d{20})\.checkpoint\.parquet$")
_PART = re.compile(r"^(\d{20})\.checkpoint\.(\d{10})\.(\d{10})\.parquet$")
_V2 = re.compile(r"^(\d{20})\.checkpoint\.[0-9a-fA-F-]{36}\.(?:json|parquet)$")
_HINT = "_last_checkpoint"


@dataclass(frozen=True, slots=True)
class TableMetadata:
    """The ``metaData`` action."""

    id: str
    schema_json: str
    partition_columns: tuple[str, ...]
    configuration: Mapping[str, str]
    name: str | None = None
    created_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TableProtocol:
    """The ``protocol`` action."""

    min_reader: int
    min_writer: int
    reader_features: tuple[str, ...] = ()
    writer_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogSnapshot:
    """A table at one version, as its log tells it.

    Attributes:
        version: The version.
        metadata: Id, schema, partition columns, properties.
        protocol: Versions and features.
        txns: App id to version, all of them.
        files: Live files, columns of :data:`~raylake.delta.log_replay.FILE_SCHEMA`; a path that
            stands twice in a checkpoint stands twice here.
        checkpoint: Version of the checkpoint that was read; None when the commits sufficed.
        notes: What was tolerated on the way (an unreadable hint or checkpoint), one line each.
    """

    version: int
    metadata: TableMetadata
    protocol: TableProtocol
    txns: Mapping[str, int]
    files: pa.Table
    checkpoint: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """One version's commit file.

    Attributes:
        version: The version that it made.
        info: Its ``commitInfo``; empty when it has none.
        raylake: Our metadata in it, parsed; None for a commit that is not ours.
        txns: The app ids that it set.
        actions: Every action, as parsed, in order.
    """

    version: int
    info: Mapping[str, Any]
    raylake: Mapping[str, Any] | None
    txns: Mapping[str, int]
    actions: tuple[dict[str, Any], ...] = field(repr=False)

    def adds(self) -> Iterator[dict[str, Any]]:
        """Its ``add`` actions."""
        return (a["add"] for a in self.actions if a.get("add"))

    def removes(self) -> Iterator[dict[str, Any]]:
        """Its ``remove`` actions."""
        return (a["remove"] for a in self.actions if a.get("remove"))


@dataclass(frozen=True, slots=True)
class LogListing:
    """What lies in ``_delta_log``.

    Attributes:
        commits: Version to size in bytes.
        checkpoints: Version to file names; complete ones only.
        incomplete: Multi-part checkpoints of which parts are missing.
        v2: Versions whose checkpoint has the newer format.
        notes: What was tolerated.
        files: All files in the folder.
        nbytes: Their size in bytes.
    """

    commits: Mapping[int, int]
    checkpoints: Mapping[int, tuple[str, ...]]
    incomplete: tuple[int, ...] = ()
    v2: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    files: int = 0
    nbytes: int = 0

    @property
    def latest(self) -> int:
        """The table's version."""
        return max([*self.commits, *self.checkpoints, *self.v2])


class LogReader:
    """Reads the log of the table at ``path``; writes nothing and keeps nothing between calls.

    Args:
        path: The table's folder, or its URI.
        files: Access to it; ``pyarrow.fs`` by default.
    """

    def __init__(self, path: str, files: LogFiles | None = None) -> None:
        self.path = path
        self.files: LogFiles = files or files_of(path)

    def listing(self) -> LogListing:
        """What lies in the log's folder.

        Raises:
            NotOurTable: There is no log.
        """
        try:
            names = self.files.names("_delta_log")
        except FileNotFoundError:
            names = {}
        commits: dict[int, int] = {}
        parts: dict[tuple[int, int], list[str]] = {}
        v2: list[int] = []
        for name, size in names.items():
            if found := _COMMIT.match(name):
                commits[int(found[1])] = size
            elif found := _CLASSIC.match(name):
                parts.setdefault((int(found[1]), 1), []).append(name)
            elif found := _PART.match(name):
                parts.setdefault((int(found[1]), int(found[3])), []).append(name)
            elif found := _V2.match(name):
                v2.append(int(found[1]))
        if not commits and not parts and not v2:
            raise NotOurTable(
                f"{self.path} holds no Delta table (its _delta_log has no commit)",
                hint="check the path; a table appears with its first commit",
                path=self.path,
            )
        whole = {v: tuple(sorted(f)) for (v, count), f in parts.items() if len(f) == count}
        broken = tuple(sorted(v for v, _ in parts if v not in whole))
        notes = self._hint_notes(whole, set(v2)) if _HINT in names else []
        notes += [f"checkpoint {v} is incomplete: parts are missing" for v in broken]
        sizes = (len(names), sum(names.values()))
        return LogListing(commits, whole, broken, tuple(sorted(v2)), tuple(notes), *sizes)

    def _hint_notes(self, whole: Mapping[int, object], v2: set[int]) -> list[str]:
        try:
            version = int(orjson.loads(self.files.read(f"_delta_log/{_HINT}"))["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            return [f"{_HINT} cannot be read ({error}); the folder was listed instead"]
        if version not in whole and version not in v2:
            return [
                f"{_HINT} names checkpoint {version}, which is not there; the folder was listed"
            ]
        return []

    def snapshot(
        self, version: int | None = None, *, watch: Callable[[Commit], None] | None = None
    ) -> LogSnapshot:
        """The table at ``version``, the latest by default.

        The newest readable checkpoint at or before it is the base; a damaged one is passed over
        when an older one, or the commits from 0, lead there as well (said in ``notes``).

        Args:
            version: The version.
            watch: Sees every commit that is retained, in the same pass.

        Raises:
            LogDamaged: A commit file is torn, empty or missing, or no checkpoint can be read.
            NotOurTable: There is no log.
            UnsupportedTable: The log needs a checkpoint format that is not read here.
        """
        listing = self.listing()
        target = listing.latest if version is None else version
        notes = list(listing.notes)
        state, checkpoint = self._base(listing, target, notes)
        start = 0 if checkpoint is None else checkpoint + 1
        first = start if watch is None else min(start, self.first_retained(listing))
        for commit in self._read(listing, first, target):
            if commit.version >= start:
                apply_actions(state, commit.actions)
            if watch is not None:
                watch(commit)
        if state.metadata is None or state.protocol is None:
            raise self._damaged(
                start, "the log up to here has no metaData or protocol action", "incomplete"
            )
        return LogSnapshot(
            version=target,
            metadata=metadata_of(state.metadata),
            protocol=protocol_of(state.protocol),
            txns=state.txns,
            files=live_files(state),
            checkpoint=checkpoint,
            notes=tuple(notes),
        )

    def commits(self, start: int | None = None, end: int | None = None) -> Iterator[Commit]:
        """Commits from version ``start`` to ``end``, both included, in order.

        By default from the first that is retained without a gap to the latest.

        Raises:
            LogDamaged: A commit file is torn, empty or missing.
            NotOurTable: There is no log.
        """
        listing = self.listing()
        first = self.first_retained(listing) if start is None else start
        return self._read(listing, first, listing.latest if end is None else end)

    def first_retained(self, listing: LogListing | None = None) -> int:
        """The first version from which the commits follow each other up to the latest.

        A gap that a later checkpoint covers is what log clean-up leaves.
        """
        known = listing or self.listing()
        version = known.latest + 1
        while version - 1 in known.commits:
            version -= 1
        return version

    def _base(
        self, listing: LogListing, target: int, notes: list[str]
    ) -> tuple[LogState, int | None]:
        failure: CheckpointUnreadable | None = None
        for version in sorted((v for v in listing.checkpoints if v <= target), reverse=True):
            try:
                return self._checkpoint(listing.checkpoints[version]), version
            except CheckpointUnreadable as error:
                notes.append(f"checkpoint {version} cannot be read: {error}")
                failure = failure or error
        if 0 in listing.commits:
            return LogState(), None
        if any(v <= target for v in listing.v2):
            raise UnsupportedTable(
                f"{self.path}: version {target} needs a v2 checkpoint, which RayLake does not read",
                hint="set delta.checkpointPolicy to classic and write a checkpoint",
                path=self.path,
            )
        raise self._damaged(
            target,
            f"no checkpoint leads to version {target} ({failure or 'none is complete'})"
            " and commit 0 is gone",
            "checkpoint",
        )

    def _checkpoint(self, names: tuple[str, ...]) -> LogState:
        state = LogState()
        for name in names:
            try:
                with self.files.open(f"_delta_log/{name}") as file:
                    read_checkpoint(file, state)
            except (OSError, pa.ArrowException, CheckpointUnreadable) as error:
                raise CheckpointUnreadable(f"{name}: {error}") from error
        return state

    def _read(self, listing: LogListing, start: int, end: int) -> Iterator[Commit]:
        for version in range(start, end + 1):
            if version not in listing.commits:
                raise self._damaged(version, "the commit file is missing", "missing")
            yield self.commit(version)

    def commit(self, version: int) -> Commit:
        """One commit.

        Raises:
            LogDamaged: The file is torn, empty or missing.
        """
        try:
            raw = self.files.read(f"_delta_log/{version:020d}.json")
        except FileNotFoundError:
            raise self._damaged(version, "the commit file is missing", "missing") from None
        if not raw.strip():
            raise self._damaged(version, "the commit file is empty", "empty")
        actions: list[dict[str, Any]] = []
        for number, line in enumerate(raw.splitlines(), 1):
            if not line.strip():
                continue
            try:
                action = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                text = f"line {number} is torn ({error})"
                raise self._damaged(version, text, "torn") from error
            if not isinstance(action, dict):
                raise self._damaged(version, f"line {number} is not an action", "torn")
            actions.append(action)
        return _commit(version, actions)

    def _damaged(self, version: int, what: str, kind: str) -> LogDamaged:
        file = f"_delta_log/{version:020d}.json"
        return LogDamaged(
            f"{self.path}/{file}: {what}",
            hint=(
                f"stop every writer of the table; put version {version} back from a copy. If it is"
                " the newest version and its writer never reported it as committed, set the file"
                " aside instead: ingestion resumes from the ledger of the version before"
            ),
            path=self.path,
            file=file,
            version=version,
            kind=kind,
        )


def _commit(version: int, actions: list[dict[str, Any]]) -> Commit:
    info: Mapping[str, Any] = {}
    txns: dict[str, int] = {}
    for action in actions:
        if action.get("commitInfo"):
            info = action["commitInfo"]
        elif action.get("txn"):
            txns[action["txn"]["appId"]] = int(action["txn"]["version"])
    return Commit(version, info, _ours(info.get("raylake")), txns, tuple(actions))


def _ours(value: object) -> Mapping[str, Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def metadata_of(action: Mapping[str, Any]) -> TableMetadata:
    """A ``metaData`` action."""
    return TableMetadata(
        id=str(action["id"]),
        schema_json=str(action["schemaString"]),
        partition_columns=tuple(action.get("partitionColumns") or ()),
        configuration=dict(action.get("configuration") or {}),
        name=action.get("name"),
        created_ms=action.get("createdTime"),
    )


def protocol_of(action: Mapping[str, Any]) -> TableProtocol:
    """A ``protocol`` action."""
    return TableProtocol(
        min_reader=int(action["minReaderVersion"]),
        min_writer=int(action["minWriterVersion"]),
        reader_features=tuple(action.get("readerFeatures") or ()),
        writer_features=tuple(action.get("writerFeatures") or ()),
    )


__all__ = [
    "FILE_SCHEMA",
    "ArrowFiles",
    "Commit",
    "LogFiles",
    "LogListing",
    "LogReader",
    "LogSnapshot",
    "TableMetadata",
    "TableProtocol",
    "metadata_of",
    "protocol_of",
]
