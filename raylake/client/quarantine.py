"""The quarantine of a pipeline: what is open there, and what is replayed of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from raylake.client.cluster import joined
from raylake.client.cluster_tables import ClusterTables
from raylake.client.runs import STALE_S, status_document
from raylake.client.shown import Listing
from raylake.clock import Clock, SystemClock
from raylake.config import Pipeline
from raylake.config.addresses import quarantine_path, transform_status_path
from raylake.delta.ledger import OWNER_APP
from raylake.delta.log_reader import LogReader
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError
from raylake.ingest.orders import OrderBox, order_folder
from raylake.layers.build import definition
from raylake.layers.graph import graph_of
from raylake.layers.replay import Asked, Replayed, replay
from raylake.layers.step import By
from raylake.layers.transforming import REPLAY
from raylake.quality.quarantine import select
from raylake.storage.place import place
from raylake.tables.requests import Read
from raylake.tables.service import DirectTables, TableService
from raylake.tables.versions import Versions

__all__ = ["COLUMNS", "Asked", "Held", "Replayed", "Service", "held_rows", "replay_rows"]

COLUMNS: Final = ("table", "rule", "column", "value", "reason", "source_version", "at")
ORDER_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Held:
    """A row that is open in the quarantine.

    Attributes:
        quarantine_id: What it is known by.
        table: The table that it was meant for.
        rule: What it breaks.
        column: The column that it is about; empty: the row.
        value: The failing value as text; None: there is none.
        reason: In plain words.
        severity: The rule's.
        source: Where it came from.
        source_version: The version that brought it.
        at: When it was set aside.
        row: The row as JSON.
    """

    quarantine_id: str
    table: str
    rule: str
    column: str
    value: str | None
    reason: str
    severity: str
    source: str
    source_version: int | None
    at: datetime
    row: str


def held_rows(
    config: Pipeline, table: str | None = None, where: str | None = None
) -> Listing[Held]:
    """The open rows of a pipeline's quarantine, the newest first.

    Args:
        config: The pipeline.
        table: Of this table (``layer.name``) only.
        where: A condition on the quarantine's columns, such as ``rule = 'range(amount)'``.

    Raises:
        BadExpression, UnknownColumn: It is no condition on these columns.
    """
    path = quarantine_path(config)
    rows: list[dict[str, Any]] = []
    if is_table(path):
        rows = select(_pinned(path), where).to_pylist()
    mine = [row for row in rows if table is None or row["table"] == table]
    return Listing("quarantine", [_held(row) for row in reversed(mine)], COLUMNS)


def replay_rows(
    config: Pipeline, table: str, asked: Asked, by: Service, clock: Clock | None = None
) -> Replayed:
    """Replay quarantined rows of a table: by the run that brings it up to date, else here.

    Args:
        config: The pipeline file as it is now.
        table: ``layer.name``.
        asked: Which rows, and whether to preview.
        by: Who writes where no run does.
        clock: Time.

    Raises:
        UnknownSource: There is no such table.
        RayLakeError: As :func:`raylake.layers.replay.replay`, or why the run did not do it.
    """
    clock = clock or SystemClock()
    graph = graph_of(config)
    one = definition(config, graph, graph.node(table), clock)
    status = place(transform_status_path(config))
    if not asked.preview and _runs(status, clock):
        box = OrderBox(order_folder(status), clock)
        arguments = {"table": table, "where": asked.where, "whole": one.whole}
        return Replayed.of_document(box.ask(REPLAY, arguments, by.timeout_s))
    if asked.preview or by.tables or (by.address is None and not _has_owner(one.address)):
        return replay(one, By(by.tables or DirectTables(), clock), asked)
    with joined(by.address):
        return replay(one, By(ClusterTables(by.address, config.spark), clock), asked)


@dataclass(frozen=True, slots=True)
class Service:
    """Who replays.

    Attributes:
        address: A Ray cluster for tables that have an owner; None: that of ``RAY_ADDRESS``, or an
            embedded one.
        tables: Writes instead; None: as ``address`` says.
        timeout_s: How long a run may take for it.
    """

    address: str | None = None
    tables: TableService | None = None
    timeout_s: float = ORDER_TIMEOUT_S


def _has_owner(path: str) -> bool:
    """Whether a cluster has written the table: then it is written on a cluster."""
    return is_table(path) and OWNER_APP in LogReader(path).snapshot().txns


def _runs(status: Any, clock: Clock) -> bool:
    """Whether a run brings the pipeline's derived tables up to date now.

    One that has said nothing for long may be gone. If it is not, the table's log lets one of both
    go on.
    """
    try:
        said = status_document(status)
    except ConfigError:
        return False
    return said.get("state") == "running" and clock.now() - float(said["at"]) < STALE_S


def _pinned(path: str) -> Callable[[Read], pa.RecordBatchReader]:
    tables, version = DirectTables(), Versions(place(path)).latest
    return lambda request: tables.read(path, replace(request, version=version))


def _held(row: dict[str, Any]) -> Held:
    names = [name for name in Held.__slots__ if name != "at"]
    return Held(**{name: row[name] for name in names}, at=row["quarantined_at"])
