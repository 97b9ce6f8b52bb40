"""Opening a table for its owner: create it, or find out why it must not be touched (I9)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Required, TypedDict

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import DeltaError, DeltaProtocolError, TableNotFoundError

from raylake.clock import Clock
from raylake.delta import log_files, metadata
from raylake.delta.features import refuse_properties, refuse_unsupported
from raylake.delta.identity import COURTEOUS, Claim, OwnerIdentity
from raylake.delta.ledger import OWNER_APP
from raylake.delta.log_guard import check_chain, check_tail
from raylake.delta.log_table import LogTable
from raylake.delta.metadata import last_metadata
from raylake.delta.owner_core import CONFLICTS, NO_HOOKS, OwnerCore
from raylake.delta.probe import probe_store
from raylake.delta.reading import readable
from raylake.delta.schema import arrow_schema, delta_schema, differences, refuse_names
from raylake.delta.spec import Durability, TableSpec
from raylake.errors import (
    AlreadyRunning,
    DependencyUnreachable,
    Fenced,
    NotOurTable,
    SchemaConflict,
    UnsupportedTable,
)
from raylake.ingest.retry import RetryPolicy
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, make_folder, storage_options


class Attaching(TypedDict, total=False):
    """How an owner attaches to its table.

    Attributes:
        clock: Time.
        durability: ``sync``: every answer is on the disk before it is given. The default.
        claim: By what right the table is taken from an owner that may be alive.
        conflicts: How a commit that another writer's came before is tried again.
    """

    clock: Required[Clock]
    durability: Durability
    claim: Claim
    conflicts: RetryPolicy


def attach_core(
    spec: TableSpec,
    identity: OwnerIdentity,
    *,
    clock: Clock,
    durability: Durability = "sync",
    claim: Claim = COURTEOUS,
    conflicts: RetryPolicy = CONFLICTS,
) -> OwnerCore:
    """Probe the store, open or create the table, and commit a new epoch, alone (I3, I10, I11).

    Args:
        spec: The table.
        identity: The new owner.
        clock: As all that follow, see :class:`Attaching`.
        durability: See there.
        claim: See there.
        conflicts: See there.

    Raises:
        Refused: Or one of its kinds; nothing was changed.
        DependencyUnreachable: The store cannot be read or written.
    """
    probe_store(beside(spec.root))
    table = open_or_create(spec, identity, clock)
    core = OwnerCore(
        table, spec.root, identity, clock=clock, durability=durability, conflicts=conflicts
    )

    def take() -> None:
        # What is read after the reload is as new as the handle, or the commit below fails.
        core.reload()
        last = last_metadata(spec.root) or {}
        refuse_claim(spec.root, identity, claim, last, clock.now())
        core.watermark_ms = last.get("watermark_ms")
        core.take_epoch()

    with readable(spec.root):
        core.until_landed(take)
    return core


def open_or_create(spec: TableSpec, identity: OwnerIdentity, clock: Clock) -> DeltaTable:
    """Open the table, or create it when there is nothing at its path.

    Raises:
        NotOurTable: The path holds something else, or a table without our ledger.
        UnsupportedTable: A feature or property that must not be written.
        SchemaConflict: The configured schema contradicts the table's.
        LogDamaged: The newest log file is empty or torn.
        DependencyUnreachable: The store cannot be read or written.
    """
    root = spec.root
    if isinstance(root, StorePath):
        # Before anything is put there: what is wrong is said in the configuration's words.
        probe_store(beside(root))
    try:
        return _open_or_create(spec, root, identity, clock)
    except OSError as error:
        raise DependencyUnreachable(f"{root}: cannot be read: {error}") from error


def beside(root: Place) -> Place:
    """Where the probe's scratch table goes: on the same disk, or where the same access counts."""
    return root if isinstance(root, StorePath) else root.parent


def _open_or_create(
    spec: TableSpec, root: Place, identity: OwnerIdentity, clock: Clock
) -> DeltaTable:
    if not log_files.commit_versions(root) and not log_files.checkpoint_versions(root):
        _refuse_foreign_folder(root)
        _create(spec, identity, clock)
    check_tail(root)
    table = open_table(root)
    refuse_unsupported(table, spec.path)
    if table.transaction_version(OWNER_APP) is None:
        raise NotOurTable(
            f"{spec.path}: this Delta table was not made by RayLake (no {OWNER_APP} in its log)",
            hint="Choose another path; `raylake adopt` lets a table of ours begin where this one's "
            "writer has ended.",
        )
    check_schema(spec, table)
    return table


def check_schema(spec: TableSpec, table: DeltaTable) -> None:
    """Compare the configured schema and partitioning with the table's.

    Raises:
        SchemaConflict: Naming each column that differs.
    """
    found = differences(spec.schema, arrow_schema(table.schema()))
    columns = tuple(table.metadata().partition_columns)
    if columns != tuple(spec.partition_by):
        found.append(f"partitioned by {list(columns)}, {list(spec.partition_by)} is asked for")
    if found:
        raise SchemaConflict(
            f"{spec.path}: the configured schema contradicts the table's: " + "; ".join(found),
            hint="Change the pipeline file to what the table has, or choose another path.",
            differences=found,
        )


def refuse_claim(
    root: Place, identity: OwnerIdentity, claim: Claim, last: Mapping[str, Any], now_s: float
) -> None:
    """What stands in the way of a claim (I11); the lock is the epoch commit, never this.

    Args:
        root: The table's folder.
        identity: Who claims the table.
        claim: By what right.
        last: The metadata of the newest commit of ours.
        now_s: Now, seconds since the epoch.

    Raises:
        Fenced: Another run than the one to be replaced has taken the table, be it that it left.
        AlreadyRunning: Another run committed less than ``claim.after_s`` ago, did not release the
            table, and its process is not provably dead.
    """
    # Who stands in for a pipeline's owner makes way for the pipeline: judged is whom it stands for.
    last = last.get("stands_in_for") or last
    holder = OwnerIdentity.from_json(last.get("identity") or {})
    mine = {identity.run_id, claim.replaces or identity.run_id}
    if last.get("kind", "create") == "create" or holder.run_id in mine:
        return
    if claim.replaces:
        raise Fenced(
            f"{root}: {holder} took the table over from the owner that is to be replaced",
            hint="This run stops for good: it replaces no owner but its own. Start it again when "
            "the other one has ended.",
            holder=holder.to_json(),
        )
    age_s = now_s - float(last.get("at_s", 0.0))
    if claim.after_s is None or last["kind"] == "release":
        return
    if age_s >= claim.after_s or holder.provably_dead():
        return
    raise AlreadyRunning(
        f"{root}: {holder} owns this table; its last commit is {max(0.0, age_s):.0f} s old",
        hint=f"Stop it first, wait until it is quiet for {claim.after_s:.0f} s, or pass "
        "--take-over when you know that it is gone.",
        pipeline=holder.pipeline,
        run_id=holder.run_id,
        pid=holder.pid,
        host=holder.host,
        age_s=age_s,
    )


def _refuse_foreign_folder(root: Place) -> None:
    try:
        entries = _entries(root)
    except NotADirectoryError as error:
        raise NotOurTable(
            f"{root}: is a file, not a table's folder", hint="Choose another path."
        ) from error
    except OSError as error:
        raise DependencyUnreachable(f"{root}: cannot be read: {error}") from error
    if entries and entries != [log_files.LOG]:
        raise NotOurTable(
            f"{root}: holds {len(entries)} entries ({entries[0]}, …) and no Delta log",
            hint="Choose an empty or new folder; nothing was changed.",
        )


def _entries(root: Place) -> list[str]:
    if isinstance(root, StorePath):
        return sorted([*root.names(), *root.folders()])
    return sorted(p.name for p in root.iterdir()) if root.exists() else []


def _create(spec: TableSpec, identity: OwnerIdentity, clock: Clock) -> None:
    refuse_properties(spec.properties, spec.path)
    refuse_names(spec.schema, spec.path)
    document = metadata.base("create", uuid.uuid4().hex, 0, identity)
    document["at_s"] = round(clock.now(), 3)
    try:
        make_folder(spec.root)
        DeltaTable.create(
            str(spec.root),
            storage_options=storage_options(spec.root),
            schema=delta_schema(spec.schema),
            partition_by=list(spec.partition_by),
            configuration=dict(spec.properties),
            commit_properties=CommitProperties(
                custom_metadata={metadata.KEY: document},
                max_commit_retries=0,
                app_transactions=[Transaction(OWNER_APP, 0)],
            ),
            post_commithook_properties=NO_HOOKS,
        )
    except (DeltaError, OSError) as error:
        # Somebody else may have created it in the same instant: then it is opened as it is.
        with readable(spec.root):
            created = bool(log_files.commit_versions(spec.root))
        if created:
            return
        reason = str(error).split("\n", maxsplit=1)[0]
        raise DependencyUnreachable(
            f"{spec.path}: the table could not be created: {reason}",
            hint="Check free space and permissions of the lake's folder.",
        ) from error


def open_table(root: Place) -> DeltaTable:
    """A handle on a table that is there.

    Raises:
        NotOurTable: There is no table.
        UnsupportedTable: delta-rs cannot read it.
        LogDamaged, DependencyUnreachable: The log cannot be read.
    """
    try:
        return LogTable(root)
    except DeltaProtocolError as error:
        raise UnsupportedTable(
            f"{root}: {str(error).splitlines()[0]}", hint="Choose another path."
        ) from error
    except TableNotFoundError as error:
        raise NotOurTable(f"{root}: is not a Delta table", hint="Choose another path.") from error
    except (DeltaError, OSError) as error:
        check_chain(root)
        reason = str(error).split("\n", maxsplit=1)[0]
        raise DependencyUnreachable(f"{root}: the log cannot be read: {reason}") from error
