"""``retain``: rows of a pipeline's tables that are older than they may be leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from raylake.client.deletions import Deletions
from raylake.client.quarantine import Service
from raylake.client.replay_tables import plan_of
from raylake.client.tables import pipeline_tables
from raylake.clock import Clock, SystemClock
from raylake.config import Pipeline
from raylake.config.bronze import BronzeTable
from raylake.config.derived import AnyDerived, AppendTable
from raylake.delta.ledger import states_of
from raylake.delta.log_reader import LogReader
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError, RayLakeError, Refused
from raylake.layers.graph import Graph, graph_of
from raylake.near import did_you_mean
from raylake.storage.place import place
from raylake.tables.expressions import quoted
from raylake.tables.pins import schema_at


@dataclass(frozen=True, slots=True)
class Retained:
    """What retention took, or would take, of one table.

    Attributes:
        table: ``layer.name``.
        column: What says how old a row is.
        before: Rows from before this time leave, ISO 8601.
        rows: How many.
        version: The version without them; None where nothing was changed.
        error: Why it could not be done, as plain data; None where it was.
    """

    table: str
    column: str
    before: str
    rows: int = 0
    version: int | None = None
    error: dict[str, Any] | None = None


def retain_tables(
    config: Pipeline,
    *,
    table: str | None = None,
    dry_run: bool = False,
    by: Service | None = None,
    clock: Clock | None = None,
) -> tuple[Retained, ...]:
    """Delete rows that are older than ``retain`` says; each table stands alone.

    Tables that follow from one lose the rows, keys and groups that came from those rows alone, as a
    full refresh would leave them.

    Args:
        config: The pipeline.
        table: Only this one, ``layer.name``.
        dry_run: Only count.
        by: The cluster of tables that have an owner.
        clock: Time.

    Raises:
        ConfigError: That table has no ``retain``.
    """
    clock = clock or SystemClock()
    kept = list(_kept(config))
    if table is not None:
        names = [one[0] for one in kept]
        if table not in names:
            raise ConfigError(f"{table} has no `retain`", hint=did_you_mean(table, names))
        kept = [one for one in kept if one[0] == table]
    graph, found = graph_of(config), []
    with Deletions(config, clock, by or Service()) as deletions:
        for name, path, section in kept:
            moment = datetime.fromtimestamp(clock.now() - (section.retain_s or 0.0), UTC)
            said = Retained(name, section.retain_by, moment.isoformat())
            try:
                where = _older(name, path, section.retain_by, moment)
                refuse_refusing(graph, name)
                rows = deletions.count(path, where)
                version = None
                if rows and not dry_run:
                    done = deletions.delete(path, where)
                    rows, version = done.rows.deleted or rows, done.version_after
                found.append(Retained(said.table, said.column, said.before, rows, version))
            except RayLakeError as error:
                found.append(Retained(said.table, said.column, said.before, error=error.to_dict()))
    return tuple(found)


def kept_names(config: Pipeline) -> tuple[str, ...]:
    """The tables that are there and have a ``retain``, as ``layer.name``."""
    return tuple(name for name, _, _ in _kept(config))


def refuse_refusing(graph: Graph, name: str) -> None:
    """Refuse to take rows from under a table that stops when rows of its source leave.

    Raises:
        Refused: Naming it.
    """
    if name not in graph.nodes:
        return
    for reader in graph.readers(name):
        node = graph.node(reader).table
        if isinstance(node, AppendTable) and node.on_source_delete == "refuse":
            raise Refused(
                f"{name}: {reader} (mode append) stops when rows leave {name}; nothing was changed",
                hint=f"set `on_source_delete: ignore` on {reader}",
            )


def bronze_tables(config: Pipeline) -> Iterator[tuple[str, str, BronzeTable]]:
    """The tables that topics feed, those of fan-outs too: name, address and section."""
    with suppress(ConfigError):
        for one in pipeline_tables(config):
            topics = {source.topic for _, source in states_of(LogReader(one.path).snapshot().txns)}
            plan = plan_of(config, str(one.name), sorted(topics))
            if plan is not None:
                yield plan.name, one.path, plan.config


def _kept(config: Pipeline) -> Iterator[tuple[str, str, BronzeTable | AnyDerived]]:
    """The tables with ``retain`` that are there: name, address and section."""
    for name, path, section in bronze_tables(config):
        if section.retain_s is not None:
            yield name, path, section
    for node in graph_of(config).derived:
        if node.table is not None and node.table.retain_s is not None and is_table(node.address):
            yield node.name, node.address, node.table


def _older(name: str, path: str, column: str, moment: datetime) -> str:
    schema = schema_at(place(path), LogReader(path).snapshot().version)
    if column not in schema.names:
        raise ConfigError(
            f"{name}: retain_by: there is no column {column!r}",
            hint=did_you_mean(column, schema.names),
        )
    kind = schema.field(column).type
    if pa.types.is_date(kind):
        return f"{quoted(column)} < date '{moment.date().isoformat()}'"
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        # delta-rs's delete compares a column of microseconds with `timestamp '…'` not at all.
        return f"{quoted(column)} < '{moment.isoformat()}'"
    raise ConfigError(
        f"{name}: retain_by: {column} is a {kind}", hint="name a column of timestamps or dates"
    )
