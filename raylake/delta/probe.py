"""The probe of a store (I10): of two stale commits to one version, the second must fail."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from raylake.delta.local_table import LocalTable
from raylake.delta.schema import delta_schema
from raylake.errors import DependencyUnreachable, Refused

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_trusted: set[int] = set()
_lock = threading.Lock()


def probe_store(folder: Path, *, commit: Callable[[DeltaTable], None] | None = None) -> None:
    """Prove once per process and device that the store refuses a second commit of one version.

    Args:
        folder: A folder next to the table; created when it is not there.
        commit: Commits to a handle; replaced in tests of stores that cannot be trusted.

    Raises:
        Refused: The store accepted both commits: writers would overwrite each other.
        DependencyUnreachable: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        device = folder.stat().st_dev
    except OSError as error:
        raise DependencyUnreachable(f"{folder}: cannot be written: {error}") from error
    with _lock:
        if device in _trusted:
            return
        _probe(folder, commit or commit_nothing)
        _trusted.add(device)


def commit_nothing(table: DeltaTable) -> None:
    """An empty commit, from the version that the handle is at."""
    table.create_write_transaction(
        [],
        "append",
        table.schema(),
        commit_properties=CommitProperties(max_commit_retries=0),
        post_commithook_properties=_NO_HOOKS,
    )


def _probe(folder: Path, commit: Callable[[DeltaTable], None]) -> None:
    scratch = folder / f".raylake-probe-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        schema = delta_schema(pa.schema([("x", pa.int64())]))
        try:
            DeltaTable.create(scratch, schema=schema, post_commithook_properties=_NO_HOOKS)
            first, second = LocalTable(scratch), LocalTable(scratch)
            commit(first)
        except (DeltaError, OSError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise DependencyUnreachable(
                f"{folder}: a scratch table could not be written there: {reason}",
                hint="Check free space and permissions of the lake's folder.",
            ) from error
        try:
            commit(second)
        except CommitFailedError:
            return
        raise Refused(
            f"{folder}: this store let two writers commit the same version; commits would "
            "overwrite each other",
            hint="Use a store with conditional writes (a local disk, S3 with If-None-Match).",
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
