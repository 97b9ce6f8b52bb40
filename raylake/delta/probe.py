"""The probe of a store (I10): of two stale commits to one version, the second must fail."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from raylake.config.stores import StoreAccess
from raylake.delta.log_table import LogTable
from raylake.delta.schema import delta_schema
from raylake.errors import DependencyUnreachable, Refused
from raylake.storage.access import access_of, bucket_of
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, delete_tree, delta_table, make_folder, storage_options
from raylake.storage.reach import require_store

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_trusted: set[int | tuple[str, StoreAccess]] = set()
_lock = threading.Lock()


def probe_store(folder: Place, *, commit: Callable[[DeltaTable], None] | None = None) -> None:
    """Prove once per process and device that the store refuses a second commit of one version.

    Args:
        folder: A folder next to the table; created when it is not there.
        commit: Commits to a handle; replaced in tests of stores that cannot be trusted.

    Raises:
        Refused: The store accepted both commits: writers would overwrite each other.
        ConfigError: Bucket, region or keys are wrong.
        DependencyUnreachable: The folder cannot be written.
    """
    device = _device(folder)
    with _lock:
        if device in _trusted:
            return
        _probe(folder, commit or commit_nothing)
        _trusted.add(device)


def _device(folder: Place) -> int | tuple[str, StoreAccess]:
    """What is trusted as a whole: a disk, or a bucket as it is reached."""
    if isinstance(folder, StorePath):
        require_store(folder)
        return bucket_of(folder.address), access_of(folder.address)
    try:
        make_folder(folder)
        return folder.stat().st_dev
    except OSError as error:
        raise DependencyUnreachable(f"{folder}: cannot be written: {error}") from error


def commit_nothing(table: DeltaTable) -> None:
    """An empty commit, from the version that the handle is at."""
    table.create_write_transaction(
        [],
        "append",
        table.schema(),
        commit_properties=CommitProperties(max_commit_retries=0),
        post_commithook_properties=_NO_HOOKS,
    )


def _probe(folder: Place, commit: Callable[[DeltaTable], None]) -> None:
    scratch = folder / f".raylake-probe-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        schema = delta_schema(pa.schema([("x", pa.int64())]))
        try:
            DeltaTable.create(
                str(scratch),
                schema=schema,
                storage_options=storage_options(scratch),
                post_commithook_properties=_NO_HOOKS,
            )
            first, second = LogTable(scratch), LogTable(scratch)
            stale = [second]
            if isinstance(folder, StorePath):
                # Schema changes are committed by delta-rs itself, with a client of its own.
                stale.append(delta_table(scratch))
            commit(first)
        except (DeltaError, OSError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise DependencyUnreachable(
                f"{folder}: a scratch table could not be written there: {reason}",
                hint=_hint(folder),
            ) from error
        for handle in stale:
            _require_refusal(folder, handle, commit)
    finally:
        delete_tree(scratch)


def _require_refusal(
    folder: Place, stale: DeltaTable, commit: Callable[[DeltaTable], None]
) -> None:
    try:
        commit(stale)
    except CommitFailedError:
        return
    except (DeltaError, OSError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise DependencyUnreachable(
            f"{folder}: the store did not answer whether it refuses a second commit: {reason}",
            hint=_hint(folder),
        ) from error
    raise Refused(
        f"{folder}: this store let two writers commit the same version; commits would "
        "overwrite each other",
        hint="Use a store with conditional writes: a local disk, or S3 that honours "
        "`If-None-Match: *` when an object is put.",
    )


def _hint(folder: Place) -> str:
    if isinstance(folder, StorePath):
        return "May these keys put, get, list and delete below this address?"
    return "Check free space and permissions of the lake's folder."
