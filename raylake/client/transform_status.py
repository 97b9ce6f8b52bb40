"""How far derived tables have come: from the tables' logs, and what their run says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from raylake.client.runs import status_document
from raylake.config import Pipeline
from raylake.config.addresses import transform_status_path
from raylake.delta import log_files
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError
from raylake.layers.asked_of_logs import last_said
from raylake.layers.derived import progress_app
from raylake.layers.graph import Graph, Node, graph_of
from raylake.layers.triggers import Fired, Trigger, interval_of
from raylake.storage.place import place

LOOK_BACK_VERSIONS: Final = 1000
"""Of so many versions the rows are counted."""


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """How far a table has come with one of its sources.

    Attributes:
        source: ``layer.name``.
        latest: Its newest version; None: it is not there yet.
        processed: The version that is processed; None: none.
        behind_versions: Versions after that one.
        behind_rows: Rows that these brought; None: too many versions to count, or not counted.
    """

    source: str
    latest: int | None = None
    processed: int | None = None
    behind_versions: int = 0
    behind_rows: int | None = 0


@dataclass(frozen=True, slots=True)
class TableProgress:
    """How a derived table stands.

    Attributes:
        table: ``layer.name``.
        version: Its newest version; None: it is not there yet.
        sources: How far it has come with each of its sources.
        at_ms: When its last step was made, milliseconds since the epoch; None: there was none.
        watermark_ms: The source's watermark then.
        trigger: As the file writes it.
        next: What the next step waits for.
        state: What the last run said of it; empty: no run did.
        error: Why it failed; empty: it did not.
        freshness: How its freshness rules stood in the last run, as
            :class:`raylake.quality.freshness_watch.Standing` has it.
    """

    table: str
    version: int | None
    sources: tuple[SourceProgress, ...]
    at_ms: int | None
    watermark_ms: int | None
    trigger: str
    next: str
    state: str = ""
    error: str = ""
    freshness: tuple[Mapping[str, Any], ...] = ()


def transform_status(config: Pipeline, now_ms: int) -> list[TableProgress]:
    """The derived tables of a pipeline, in the order in which they are made.

    Args:
        config: The pipeline.
        now_ms: Milliseconds since the epoch.

    Raises:
        LogDamaged: A table's log is torn.
        DependencyUnreachable, ConfigError: A store does not answer, or refuses.
    """
    graph, said = graph_of(config), transform_document(config).get("tables", {})
    return [_progress(node, graph, said.get(node.name) or {}, now_ms) for node in graph.derived]


def transform_document(config: Pipeline) -> dict[str, Any]:
    """What the last run of the derived tables said; empty where none has been."""
    try:
        return status_document(place(transform_status_path(config)))
    except ConfigError:
        return {}


def _progress(node: Node, graph: Graph, said: Mapping[str, Any], now_ms: int) -> TableProgress:
    table = node.table
    if table is None:
        raise TypeError(f"{node.name} does not follow from another table")
    own = LogReader(node.address).snapshot() if is_table(node.address) else None
    sources = tuple(_source(graph.node(name), own) for name in node.sources)
    fired = Fired.of(None if own is None else last_said(place(node.address)))
    error = said.get("error") or {}
    return TableProgress(
        table=node.name,
        version=None if own is None else own.version,
        sources=sources,
        at_ms=fired.at_ms,
        watermark_ms=fired.watermark_ms,
        trigger=table.trigger,
        next=Trigger.of(table.trigger, interval_of(table)).next_text(fired, now_ms),
        state=str(said.get("state", "")),
        error=str(error.get("message", "") if isinstance(error, Mapping) else error),
        freshness=tuple(said.get("freshness") or ()),
    )


def _source(node: Node, own: LogSnapshot | None) -> SourceProgress:
    if not is_table(node.address):
        return SourceProgress(node.name)
    source = LogReader(node.address).snapshot()
    processed = None if own is None else own.txns.get(progress_app(source.metadata.id))
    if processed is None:
        rows = _rows_of(source)
        return SourceProgress(node.name, source.version, None, source.version + 1, rows)
    behind = max(0, source.version - processed)
    rows = _rows_after(node.address, processed, source.version)
    return SourceProgress(node.name, source.version, processed, behind, rows)


def _rows_of(snapshot: LogSnapshot) -> int | None:
    total = 0
    for one in snapshot.files.select(["num_records", "deleted_records"]).to_pylist():
        if one["num_records"] is None:
            return None
        total += int(one["num_records"]) - int(one["deleted_records"] or 0)
    return total


def _rows_after(address: str, processed: int, latest: int) -> int | None:
    """Rows of the files that some versions added; an updated row's file counts whole."""
    if latest - processed > LOOK_BACK_VERSIONS:
        return None
    total = 0
    for version in range(processed + 1, latest + 1):
        for action in log_files.read_commit(place(address), version) or []:
            add = action.get("add")
            if add and add.get("dataChange"):
                records = json.loads(add.get("stats") or "{}").get("numRecords")
                if records is None:
                    return None
                total += int(records)
    return total
