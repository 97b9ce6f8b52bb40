"""Checkpoints and log clean-up, off the commit path: ``python -m raylake.delta.checkpoint PATH``.

One checkpointer per table at a time, by a file lock. Log files are deleted only below a checkpoint
that was read again right before and says what the log says, and never those that the dead-letter
redo (I5), a reader's lease or a pin still needs.
"""

from __future__ import annotations

import argparse
import bisect
import fcntl
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deltalake.exceptions import DeltaError

from raylake.delta import log_files
from raylake.delta.checkpoint_proof import Unprovable, prove, prove_readable
from raylake.delta.leases import Leases
from raylake.delta.log_reader import LogReader
from raylake.delta.txn_listing import checkpoint_files
from raylake.delta.version_pins import Pins, needed_from
from raylake.errors import AlreadyRunning, DependencyUnreachable, RayLakeError
from raylake.storage.access import stores_from_json, use_stores
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, delta_table, names, place, sync_path

LOCK = "_raylake_checkpoint.lock"
MAX_LOG_FILES = 20_000
DEFAULT_RETENTION_S = 86_400.0
_MAY_IT = "is there room, and may this user, or these keys, write into the table's folder?"
_VERSIONED = re.compile(r"^(\d{20})\.")
_INTERVAL = re.compile(r"interval\s+(\d+)\s+(second|minute|hour|day|week)s?", re.IGNORECASE)
_UNIT_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """What a checkpointer did.

    Attributes:
        version: The version of the checkpoint.
        created: False when it was there before.
        removed_files: Log files deleted.
        log_files: Log files left.
    """

    version: int
    created: bool
    removed_files: int
    log_files: int


def checkpoint(
    path: str | Place, *, keep_from: int | None = None, max_log_files: int = MAX_LOG_FILES
) -> CheckpointResult:
    """Write a checkpoint of the newest version, then delete log files that nobody needs.

    Log files older than ``delta.logRetentionDuration`` go, and beyond ``max_log_files`` also
    younger ones; what is left begins with a checkpoint.

    Args:
        path: The table's folder.
        keep_from: Log files of this version and later stay; None: nothing is deleted, since
            somebody may still need it.
        max_log_files: Bound of the local log folder.

    Raises:
        AlreadyRunning: Another checkpointer works on this table.
        LogDamaged: The checkpoint does not hold what the log says; nothing was deleted.
        LeaseUnread: What a reader needs cannot be told; nothing was deleted.
        DependencyUnreachable: The log cannot be read or written.
    """
    root = place(path)
    with _only_one(root):
        try:
            table = delta_table(root)
            version = int(table.version())
            retention_s = _retention_s(table.metadata().configuration)
            created = version not in log_files.checkpoint_versions(root)
            if created:
                table.create_checkpoint()
            # The log is read once more below: not both at a time in memory.
            del table
            if created:
                prove(root, version)
                _sync(root, version)
            removed = 0
            if keep_from is not None:
                keep_from = min(keep_from, _held(root, version))
                floor = clean_up_floor(
                    root, keep_from=keep_from, retention_s=retention_s, max_log_files=max_log_files
                )
                removed = clean_up(root, floor, proven=created and floor == version)
        except (DeltaError, OSError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise DependencyUnreachable(
                f"{root}: no checkpoint was written: {reason}", hint=_MAY_IT
            ) from error
        left = sum(1 for _ in _versioned(root))
        return CheckpointResult(version, created, removed, left)


def _held(root: Place, latest: int) -> int:
    """The oldest version that a reader's lease or a pin holds; the latest where none does."""
    if not Leases(root).all() and not Pins(root).all():
        return latest
    oldest = needed_from(root, LogReader(str(root)).snapshot(latest).metadata.id)
    return latest if oldest is None else oldest


def clean_up_floor(root: Place, *, keep_from: int, retention_s: float, max_log_files: int) -> int:
    """The highest checkpoint that retention, bound and redo allow to be the first log file.

    Returns:
        Its version; -1 when everything stays.
    """
    versions = sorted(version for version, _ in _versioned(root))
    allowed = [c for c in log_files.checkpoint_versions(root) if c <= keep_from]
    horizon_s = time.time() - retention_s
    floor = max((c for c in allowed if _newest_below_s(root, c) < horizon_s), default=-1)
    for candidate in allowed:
        if len(versions) - bisect.bisect_left(versions, floor) <= max_log_files:
            break
        floor = max(floor, candidate)
    # Of another tool's checkpoint in parts some may be missing: that is none.
    while floor >= 0 and not checkpoint_files(root, floor):
        floor = max((c for c in allowed if c < floor), default=-1)
    return floor


def clean_up(root: Place, floor: int, *, proven: bool = False) -> int:
    """Delete the log files below a checkpoint, once that is proven by the files that go.

    Args:
        root: The table's folder.
        floor: The checkpoint's version.
        proven: Whether it was just now.

    Returns:
        The number of files deleted, oldest first, so that a crash leaves no gap.

    Raises:
        LogDamaged: The checkpoint does not hold what the log says; nothing was deleted.
    """
    files = sorted(_versioned(root), key=lambda one: (one[0], one[1].name))
    doomed = [file for version, file in files if version < floor]
    if doomed:
        if not proven:
            _prove_floor(root, floor)
        log_files.write_clean_up_mark(root, floor)
    for file in doomed:
        file.unlink(missing_ok=True)
    return len(doomed)


def _prove_floor(root: Place, floor: int) -> None:
    """Compare the checkpoint with the log while its files are there (DESIGN §4, I5)."""
    try:
        prove(root, floor)
    except Unprovable:
        # A clean-up was interrupted: its mark came after the proof, and what it left leads nowhere.
        if log_files.cleaned_below(root) != floor:
            raise
        prove_readable(root, floor)
    # Its writer may have died before it did that.
    _sync(root, floor)


def _newest_below_s(root: Place, version: int) -> float:
    """When the newest log file below ``version`` was written; 0 when there is none."""
    found = log_files.mark(log_files.commit_path(root, version - 1))
    return found.mtime_ns / 1e9 if found is not None else 0.0


def _versioned(root: Place) -> Iterator[tuple[int, Place]]:
    folder = log_files.log_folder(root)
    for name in names(folder):
        match = _VERSIONED.match(name)
        if match:
            yield int(match.group(1)), folder / name


def _sync(root: Place, version: int) -> None:
    """Make a checkpoint durable before anything relies on it."""
    for file in checkpoint_files(root, version):
        sync_path(file)
    last = log_files.log_folder(root) / "_last_checkpoint"
    if last.exists():
        sync_path(last)
    sync_path(log_files.log_folder(root))


def interval_s(text: str) -> float | None:
    """Seconds of an interval as table properties have it, such as ``interval 7 days``."""
    match = _INTERVAL.search(text)
    return float(int(match.group(1)) * _UNIT_S[match.group(2).lower()]) if match else None


def _retention_s(configuration: dict[str, str]) -> float:
    found = interval_s(configuration.get("delta.logRetentionDuration", ""))
    return DEFAULT_RETENTION_S if found is None else found


def _lock(root: Place) -> Path:
    """The lock's file: in the log's folder, or for a store on this machine, where its owner is."""
    if isinstance(root, StorePath):
        digest = hashlib.sha256(root.address.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"{LOCK}.{os.getuid()}.{digest}"
    return root / log_files.LOG / LOCK


@contextmanager
def _only_one(root: Place) -> Iterator[None]:
    lock = _lock(root)
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DependencyUnreachable(f"{lock}: cannot be opened: {error}", hint=_MAY_IT) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"{root}: another checkpointer works on this table") from error
        yield
    finally:
        os.close(descriptor)


def main(arguments: list[str] | None = None) -> int:
    """Run once; prints the result as JSON and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m raylake.delta.checkpoint")
    parser.add_argument("path")
    parser.add_argument("--keep-from", type=int, default=None)
    parser.add_argument("--max-log-files", type=int, default=MAX_LOG_FILES)
    parser.add_argument("--stores", type=json.loads, default={}, help="how stores are reached")
    options = parser.parse_args(arguments)
    try:
        use_stores(stores_from_json(options.stores))
        result = checkpoint(
            options.path, keep_from=options.keep_from, max_log_files=options.max_log_files
        )
    except RayLakeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # deltalake's threads can abort a short process at its exit (DESIGN §3).
    os._exit(status)
