"""Deleting files that no version within the retention needs.

What is needed is found from the log: the files of the version that was the newest one when the
retention began, all that was added since, what a checkpoint remembers as removed since, and the
versions that are pinned (:mod:`raylake.delta.version_pins`), or that a reader's lease holds
(:mod:`raylake.delta.leases`). A file younger than the
retention stays whatever the log says of it: a writer that has not committed yet needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from raylake.delta import log_files
from raylake.delta.checkpoint import interval_s
from raylake.delta.leases import Leases
from raylake.delta.live_rows import SourceFile, path_below, source_files
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.log_store import files_of
from raylake.delta.txn_listing import checkpoint_files
from raylake.delta.vector_files import vector_file
from raylake.delta.version_pins import Pins, told
from raylake.errors import Refused
from raylake.storage.place import Place, open_input
from raylake.tables.errors import BadRequest
from raylake.tables.lifetimes import in_words, lost_versions
from raylake.tables.named_files import named_elsewhere
from raylake.tables.upkeep_requests import MIN_RETENTION_HOURS, Vacuum
from raylake.tables.versions import Versions

_HOUR_MS: Final = 3_600_000
RETENTION: Final = "delta.deletedFileRetentionDuration"


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What a vacuum did, or would.

    Attributes:
        paths: Files, relative to the table, as they lie there.
        size_bytes: Their bytes.
        failed: Why the first file that could not be deleted was not; empty when all were.
        readers: Whose leases held versions back that the retention does not, and whose no longer
            count; empty for nobody's.
        lost: Versions that can no longer be read, or could not after it, as ``3 to 7``; empty for
            none beyond those that were lost before.
    """

    paths: tuple[str, ...]
    size_bytes: int
    failed: str = ""
    readers: str = ""
    lost: str = ""

    def note(self, *, dry_run: bool) -> str:
        """What there is to say of it beside the files."""
        said = [self.failed or ("a dry run: nothing was deleted" if dry_run else ""), self.readers]
        if self.lost:
            verb = "could no longer be read" if dry_run else "can no longer be read"
            said.append(f"of the log's versions {self.lost} {verb}")
        return "; ".join(one for one in said if one)


def vacuum(root: Place, handle: DeltaTable, request: Vacuum, now_s: float) -> Vacuumed:
    """Delete what nobody needs, or list it.

    Args:
        root: The table.
        handle: delta-rs's handle of its newest version.
        request: What is asked for.
        now_s: The time, in seconds since the epoch.

    Raises:
        BadRequest: The retention is too short.
        VersionUnknown, VersionGone: A pinned version is not there.
        LeaseUnread: What a reader needs cannot be told; nothing was deleted.
        Refused: Not one file could be deleted.
    """
    now_ms = int(now_s * 1000)
    horizon_ms = int(now_ms - _retention_hours(root, handle, request) * _HOUR_MS)
    # Before the log is read: what is committed in between is in the log then.
    there = files_of(str(root)).tree("")
    log = _Log(root, horizon_ms, now_ms, break_holds=request.break_holds)
    needed = log.needed(request.keep_versions)
    known = None if request.orphans else log.known()
    chosen: dict[str, int] = {}
    for path, size in there.items():
        if path in needed or not is_data(path) or (known is not None and path not in known):
            continue
        found = log_files.mark(root / path)
        if found is not None and found.mtime_ns // 1_000_000 <= horizon_ms:
            chosen[path] = size
    readers, lost = log.note(now_ms), in_words(lost_versions(root, chosen))
    if request.dry_run:
        return Vacuumed(tuple(sorted(chosen)), sum(chosen.values()), readers=readers, lost=lost)
    # Asking a store for the age of each file takes a while; a restore may have brought some back,
    # or a reader have come.
    log = _Log(root, horizon_ms, now_ms, break_holds=request.break_holds)
    needed = log.needed(request.keep_versions)
    spared = {path: size for path, size in chosen.items() if path not in needed}
    done = deleted(root, spared)
    if done.failed and not done.paths:
        raise Refused(
            f"{root}: vacuum: nothing was deleted: {done.failed}",
            hint="may this user, or these keys, delete in the table's folder?",
        )
    return replace(done, readers=readers, lost=lost)


def kept_now(
    root: Place, now_s: float, *, break_holds: bool = False
) -> tuple[set[str], set[str], str]:
    """Files that are needed at this moment, whatever the retention.

    Args:
        root: The table.
        now_s: The time, in seconds since the epoch.
        break_holds: Readers and pins need nothing.

    Returns:
        Those of the newest version, of readers and of pins; those that the log says were removed
        or held changes; and who holds older versions, for people.

    Raises:
        LeaseUnread: What a reader or a pin needs cannot be told.
    """
    now_ms = int(now_s * 1000)
    log = _Log(root, now_ms, now_ms, break_holds=break_holds)
    return log.needed(), log.known(), log.note(now_ms)


def deleted(root: Place, chosen: Mapping[str, int]) -> Vacuumed:
    """Delete files of a table's folder, given with their bytes; those that are gone already too."""
    gone, failed = [], ""
    for path in sorted(chosen):
        try:
            (root / path).unlink(missing_ok=True)
            gone.append(path)
        except OSError as error:
            failed = failed or f"{path} was not deleted: {error}"
    return Vacuumed(tuple(gone), sum(chosen[path] for path in gone), failed)


def _retention_hours(root: Place, handle: DeltaTable, request: Vacuum) -> float:
    own_s = interval_s(handle.metadata().configuration.get(RETENTION, ""))
    if request.retention_hours is None:
        return max(MIN_RETENTION_HOURS, (own_s or 0) / 3600)
    if request.retention_hours < 0:
        raise BadRequest(f"{root}: vacuum: a retention of {request.retention_hours} hours is none")
    if request.retention_hours < MIN_RETENTION_HOURS and not request.allow_short_retention:
        raise BadRequest(
            f"{root}: vacuum: a retention of {request.retention_hours:g} hours is below "
            f"{MIN_RETENTION_HOURS:g}: readers, and writers that have not committed yet, could "
            "lose their files",
            hint="allow_short_retention=True, where nobody else uses the table",
        )
    return request.retention_hours


class _Log:
    """What a table's log says of files.

    Args:
        root: The table.
        horizon_ms: When the retention began.
        now_ms: The time, milliseconds since the epoch.
        break_holds: Readers and pins keep nothing.
    """

    def __init__(
        self, root: Place, horizon_ms: int, now_ms: int, *, break_holds: bool = False
    ) -> None:
        self._root = root
        self._horizon_ms = horizon_ms
        self._reader = LogReader(str(root))
        self.versions = Versions(root)
        self._commits = self.versions.with_commits()
        # Times may go back a little from one commit to the next; the earliest cut is the safe one.
        young = [v for v in self._commits if self.versions.made_ms(v) > horizon_ms]
        self._base = self.versions.latest
        if young:
            self._base = max(self.versions.oldest_in_log(), min(young) - 1)
        table_id = self.snapshot(self.versions.latest).metadata.id
        self._held = Leases(root).held(table_id, now_ms).below(self._base)
        self._pins = Pins(root).live(table_id, now_ms)
        self._broken = break_holds
        if self._held.oldest is not None and not break_holds:
            self._base = max(self.versions.oldest_in_log(), self._held.oldest)

    def snapshot(self, version: int) -> LogSnapshot:
        """A version."""
        return self._reader.snapshot(version)

    def note(self, now_ms: int) -> str:
        """Who holds files back, or would, for people."""
        said = "; ".join(one for one in (self._held.note(now_ms), told(self._pins)) if one)
        return f"broken: {said}" if said and self._broken else said

    def needed(self, keep_versions: Sequence[int] = ()) -> set[str]:
        """Files that a version within the retention, a reader, a pin or the caller needs."""
        found = _all_files(self._root, source_files(self.snapshot(self.versions.latest)))
        found |= _all_files(self._root, source_files(self.snapshot(self._base)))
        for actions in self._after(self._base):
            found |= _named(self._root, actions, ("add", "cdc"))
        found |= named_elsewhere(self._root)
        kept = [self.versions.known(one) for one in keep_versions]
        if not self._broken:
            oldest = self.versions.oldest_in_log()
            kept += [one.version for one in self._pins if one.version >= oldest]
        for version in kept:
            found |= _all_files(self._root, source_files(self.snapshot(version)))
        return found | set(self._tombstones(young=True))

    def known(self) -> set[str]:
        """Files that the log says were removed, or held changes."""
        found: set[str] = set(self._tombstones(young=False))
        for actions in self._after(self._commits[0] - 1):
            found |= _named(self._root, actions, ("remove", "cdc"))
        return found

    def _after(self, version: int) -> Iterator[list[dict[str, Any]]]:
        for one in range(max(version + 1, self._commits[0]), self.versions.latest + 1):
            yield log_files.read_commit(self._root, one) or []

    def _tombstones(self, *, young: bool) -> Iterator[str]:
        """Files that the newest checkpoint remembers as removed: since the horizon, or all."""
        versions = log_files.checkpoint_versions(self._root)
        for file in checkpoint_files(self._root, versions[-1]) if versions else ():
            with open_input(file) as opened, pq.ParquetFile(opened) as parquet:
                if "remove" not in parquet.schema_arrow.names:
                    continue
                for batch in parquet.iter_batches(columns=["remove"]):
                    removes = batch.column("remove")
                    valid = removes.filter(pc.is_valid(pc.struct_field(removes, "path")))
                    yield from self._remembered(valid, young=young)

    def _remembered(self, removes: pa.Array, *, young: bool) -> Iterator[str]:
        for one in removes.to_pylist():
            if not young or int(one.get("deletionTimestamp") or 0) > self._horizon_ms:
                yield from _paths_of(self._root, one)


def _all_files(root: Place, files: Iterable[SourceFile]) -> set[str]:
    found: set[str] = set()
    for one in files:
        found |= set(_paths(root, one.path, one.vector))
    return found


def _named(root: Place, actions: Iterable[Mapping[str, Any]], kinds: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for action in actions:
        for kind in kinds:
            if action.get(kind):
                found |= set(_paths_of(root, action[kind]))
    return found


def _paths_of(root: Place, file: Mapping[str, Any]) -> Iterator[str]:
    return _paths(root, str(file["path"]), file.get("deletionVector"))


def _paths(root: Place, path: str, vector: Mapping[str, Any] | None) -> Iterator[str]:
    """A file of the log and its vector, as they lie in the table's folder."""
    yield path_below(root, path)
    at = vector_file(vector)
    if at is not None:
        yield path_below(root, at)


def is_data(path: str) -> bool:
    """Whether a file is one that engines write beside the log; nothing else is taken."""
    *folders, name = path.split("/")
    if any(one[:1] in "_." and "=" not in one and one != "_change_data" for one in folders):
        return False
    vector = name.startswith("deletion_vector_") and name.endswith(".bin")
    return vector or (name.endswith(".parquet") and name[:1] not in "_.")
