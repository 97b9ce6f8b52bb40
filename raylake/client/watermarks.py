"""A table's watermark from outside: reading it, and its deliberate repair (DESIGN §8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raylake.client.orders import give_order
from raylake.client.quiet_tables import newest_run, own_table, refuse_living_owner
from raylake.client.tables import pipeline_tables
from raylake.clock import Clock
from raylake.config import Pipeline, status_path
from raylake.delta.metadata import last_metadata
from raylake.delta.tables_there import is_table
from raylake.delta.txn_listing import admitted_partitions
from raylake.errors import ConfigError, Refused
from raylake.storage.place import Place, place
from raylake.tables.versions import missing


@dataclass(frozen=True, slots=True)
class TableWatermark:
    """What is known of one table's watermark.

    Attributes:
        table: The table.
        watermark_ms: Milliseconds since the epoch; None while nothing is known.
        source: ``run``: as its owner said last; ``log``: as the table's newest commit says.
        age_s: Seconds since the owner said so; 0 for the log.
    """

    table: str
    watermark_ms: int | None
    source: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Moved:
    """A watermark that was moved, or would be.

    Attributes:
        table: The table.
        was_ms: What it was; milliseconds since the epoch.
        value_ms: What it is now.
        by: ``run``: the running pipeline's owner; ``command``: this process, as the table's owner.
        dry_run: Nothing was changed.
    """

    table: str
    was_ms: int | None
    value_ms: int
    by: str
    dry_run: bool


def watermarks(config: Pipeline, clock: Clock, table: str | None = None) -> list[TableWatermark]:
    """The watermarks of a pipeline's tables, or of one.

    While the pipeline runs, its status document answers, without a look at the tables; else the
    newest commit of each table does.

    Raises:
        ConfigError: The pipeline has no such table.
    """
    run = newest_run(config, clock)
    if run is not None and run.life in ("alive", "elsewhere"):
        shown = run.document.get("tables", {})
        found = [
            TableWatermark(name, one["watermark_ms"], "run", run.age_s)
            for name, one in shown.items()
            if one.get("watermark_ms") is not None and table in (None, name)
        ]
        if found and len(found) == (len(shown) if table is None else 1):
            return found
    places = _places(config)
    names = sorted(places) if table is None else [table]
    return [TableWatermark(n, _committed_ms(_place(places, n)), "log", 0.0) for n in names]


def move_watermark(
    config: Pipeline, table: str, value_ms: int, clock: Clock, *, dry_run: bool, timeout_s: float
) -> Moved:
    """Move a table's watermark, back as well as forward, by a commit of the table's owner.

    A run of the pipeline does it through its own owner. Without one this process takes the table
    over for this one commit, under the rules of any other owner, and releases it.

    Args:
        config: The pipeline.
        table: ``bronze.orders``.
        value_ms: The new watermark, milliseconds since the epoch; not in the future.
        clock: Time.
        dry_run: Only say what would be done.
        timeout_s: How long a run may take to answer.

    Raises:
        ConfigError: There is no such table, or the value cannot be one.
        TableMissing: Its folder is gone, or holds no table.
        AlreadyRunning: Another run owns the table; nothing was changed.
        RayLakeError: Why it was not done.
    """
    if not 0 <= value_ms <= clock.now() * 1000:
        raise ConfigError(
            "a watermark lies between 1970 and now",
            hint="beyond now, everything that arrives would be late",
        )
    run = newest_run(config, clock)
    if run is not None and run.life in ("alive", "elsewhere"):
        arguments = {"table": table, "value_ms": value_ms, "dry_run": dry_run}
        status_file = place(status_path(config))
        said = give_order(status_file, "watermark.set", arguments, clock, timeout_s)
        return Moved(table, said["was_ms"], value_ms, "run", dry_run)
    root = _place(_places(config), table)
    if not is_table(str(root)):
        # A run may have named it in its status, and somebody taken it away since.
        raise missing(str(root))
    holders = {name for name, _ in admitted_partitions(root)} - {config.pipeline}
    if holders:
        raise Refused(f"{table}: the table at {root} belongs to pipeline {min(holders)!r}")
    refuse_living_owner(root)
    was_ms = _committed_ms(root)
    if not dry_run:
        was_ms = _move(config, root, value_ms, clock)
    return Moved(table, was_ms, value_ms, "command", dry_run)


def _move(config: Pipeline, root: Place, value_ms: int, clock: Clock) -> int | None:
    owned = own_table(config, root, clock)
    was_ms = owned.watermark_ms
    owned.set_watermark(value_ms)
    owned.release()
    return was_ms


def _places(config: Pipeline) -> dict[str, Place]:
    return {one.name or one.path: place(one.path) for one in pipeline_tables(config)}


def _place(places: dict[str, Place], table: str) -> Place:
    if table not in places:
        raise ConfigError(
            f"pipeline has no table {table!r} yet", hint="there are: " + ", ".join(sorted(places))
        )
    return places[table]


def _committed_ms(root: Place) -> int | None:
    last: dict[str, Any] = last_metadata(root) or {}
    found: int | None = last.get("watermark_ms")
    return found
