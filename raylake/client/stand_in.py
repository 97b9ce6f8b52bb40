"""An owner in the place of a pipeline's, while that pipeline does not run (ADR 34).

Its epoch keeps other commits out, as any owner's. Its commits say for whom it stands in: who
starts the pipeline meanwhile takes the table at once, and what was under way is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from raylake.client.quiet_tables import refuse_living_owner
from raylake.client.runs import run_status
from raylake.clock import Clock
from raylake.delta.identity import COURTEOUS, Claim, OwnerIdentity
from raylake.delta.metadata import last_metadata
from raylake.delta.owned_table import OwnedTable
from raylake.delta.reading import readable
from raylake.delta.spec import Durability, TableSpec
from raylake.errors import AlreadyRunning, ConfigError
from raylake.storage.place import Place, delta_table, place


def stand_in(
    path: str,
    run_id: str,
    *,
    clock: Clock,
    durability: Durability = "sync",
    claim: Claim = COURTEOUS,
) -> OwnedTable:
    """Take a table that a pipeline feeds, in its place.

    Args:
        path: The table's address.
        run_id: Who stands in.
        clock: Time.
        durability: As the pipeline's.
        claim: By what right. A take-over is for who knows that the pipeline does not run, where
            its last owner has not said that it leaves, and is of another machine.

    Raises:
        AlreadyRunning: The pipeline runs, or may; nothing was changed.
        DependencyUnreachable: The table cannot be read now; nothing was changed.
        RayLakeError: As :meth:`OwnedTable.attach`.
    """
    root = place(path)
    with readable(root):
        last: dict[str, Any] = last_metadata(root) or {}
        holder = last.get("stands_in_for") or {
            name: last[name] for name in ("identity", "kind", "at_s") if name in last
        }
        pipeline = OwnerIdentity.from_json(holder.get("identity") or {}).pipeline
        refuse_living_owner(root)
        if not _says_that_it_ended(root, pipeline, clock) and claim.after_s is not None:
            _refuse_silent(root, holder)
        columns = tuple(delta_table(root).metadata().partition_columns)
    identity = OwnerIdentity.of_this_process(pipeline, run_id)
    return OwnedTable.attach(
        TableSpec(str(root), pa.schema([]), columns),
        replace(identity, stands_in_for=holder),
        clock=clock,
        durability=durability,
        claim=claim,
    )


def _refuse_silent(root: Place, holder: Mapping[str, Any]) -> None:
    """Refuse where only silence speaks for an owner's end: an idle one commits nothing.

    Raises:
        AlreadyRunning: It has not said that it leaves, and its process may live.
    """
    left = holder.get("kind") in (None, "create", "release")
    owner = OwnerIdentity.from_json(holder.get("identity") or {})
    if not left and not owner.provably_dead():
        raise AlreadyRunning(
            f"{root}: {owner} has not said that it leaves the table, and whether it lives cannot "
            "be told from here",
            hint="connect to its Ray cluster (RAY_ADDRESS), or stop it with `raylake stop FILE`; "
            "if its host is gone, `raylake run FILE --take-over --available-now` ends its claim",
            pipeline=owner.pipeline,
        )


def _says_that_it_ended(root: Place, pipeline: str, clock: Clock) -> bool:
    """Whether the pipeline's status document lies where it mostly does, and says so.

    Raises:
        AlreadyRunning: It says that the pipeline runs.
    """
    if not pipeline:
        return False
    try:
        # <lake>/<layer>/<name>, and <lake>/_raylake/status/<pipeline>.json
        found = run_status(root.parent.parent / "_raylake" / "status" / f"{pipeline}.json", clock)
    except ConfigError:
        return False
    if found.life in ("alive", "elsewhere"):
        raise AlreadyRunning(
            f"{root}: pipeline {pipeline!r}, which feeds the table, runs elsewhere, as far as can "
            f"be told: run {found.document.get('run_id')}, process {found.pid} on "
            f"{found.document.get('job', {}).get('host')}",
            hint="connect to its Ray cluster (RAY_ADDRESS), or stop it with `raylake stop FILE`; "
            "if its host is gone, `raylake run FILE --take-over --available-now` ends its claim",
            pipeline=pipeline,
        )
    return True
