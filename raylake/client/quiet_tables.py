"""A table that no owner holds now: what a command may change by a commit of its own (I3, I11)."""

from __future__ import annotations

import socket
from typing import Any

import pyarrow as pa

from raylake.client.runs import RunStatus, run_status
from raylake.clock import Clock
from raylake.config import Pipeline, status_path
from raylake.delta.identity import Claim, OwnerIdentity
from raylake.delta.metadata import last_metadata
from raylake.delta.owned_table import OwnedTable
from raylake.delta.spec import TableSpec
from raylake.errors import AlreadyRunning, ConfigError
from raylake.ingest.plan import new_run_id
from raylake.storage.place import Place, delta_table, place


def newest_run(config: Pipeline, clock: Clock) -> RunStatus | None:
    """The pipeline's newest run by its status document; None when it has not run."""
    try:
        return run_status(place(status_path(config)), clock)
    except ConfigError:
        return None


def refuse_living_run(config: Pipeline, clock: Clock) -> None:
    """Refuse while a run of the pipeline lives, as far as can be told.

    Raises:
        AlreadyRunning: One does.
    """
    run = newest_run(config, clock)
    if run is not None and run.life in ("alive", "elsewhere"):
        raise AlreadyRunning(
            f"pipeline {config.pipeline!r} runs: run {run.document.get('run_id')}, process "
            f"{run.pid} on {run.document.get('job', {}).get('host')}; positions are moved while "
            "it does not",
            hint="`raylake stop FILE` drains it; then give the order again"
            if run.life == "alive"
            else "stop it there; if that host is gone, `raylake run FILE --take-over "
            "--available-now` ends its claim",
            run_id=run.document.get("run_id"),
        )


def refuse_living_owner(root: Place) -> None:
    """An owner may outlive its run on a cluster; a run that comes next would find it fenced.

    Raises:
        AlreadyRunning: The table's last owner lives on this machine.
    """
    last: dict[str, Any] = last_metadata(root) or {}
    holder = OwnerIdentity.from_json(last.get("identity") or {})
    left = last.get("kind") in (None, "create", "release")
    if not left and holder.host == socket.gethostname() and not holder.provably_dead():
        raise AlreadyRunning(
            f"{root}: {holder} owns this table, and lives",
            hint="owners of a run that is gone leave by themselves within some minutes",
        )


def own_table(
    config: Pipeline, root: Place, clock: Clock, spec: TableSpec | None = None
) -> OwnedTable:
    """Take the table by an epoch of this process, under the rules of any other owner.

    Args:
        config: The pipeline.
        root: The table's folder.
        clock: Time.
        spec: How the table is created; None for one that is there.

    Raises:
        AlreadyRunning: Somebody else's owner may live; nothing was changed.
    """
    if spec is None:
        columns = tuple(delta_table(root).metadata().partition_columns)
        spec = TableSpec(str(root), pa.schema([]), columns)
    return OwnedTable.attach(
        spec,
        OwnerIdentity.of_this_process(config.pipeline, new_run_id()),
        clock=clock,
        durability=config.ingest.durability,
        claim=Claim(config.ingest.takeover_after_s),
    )
