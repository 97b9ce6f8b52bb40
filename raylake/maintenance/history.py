"""The history of upkeep: ``<lake>/_maintenance/history``, a row for each action that was run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from raylake.delta.tables_there import is_table
from raylake.errors import RayLakeError
from raylake.maintenance.outcomes import Outcome
from raylake.maintenance.price import Price
from raylake.maintenance.subjects import Subject
from raylake.tables.errors import TableExists
from raylake.tables.requests import Append, Create, Read
from raylake.tables.service import DirectTables
from raylake.tables.upkeep_requests import Compact

FOLDER: Final = "_maintenance/history"
_PRICED: Final = ("bytes_read", "bytes_written", "bytes_freed", "files_before", "files_after")
SCHEMA: Final = pa.schema(
    [
        ("run_id", pa.string()),
        ("table", pa.string()),
        ("address", pa.string()),
        ("action", pa.string()),
        ("partition", pa.string()),
        ("reason", pa.string()),
        ("outcome", pa.string()),
        ("version", pa.int64()),
        *((f"planned_{name}", pa.int64()) for name in _PRICED),
        ("planned_cpu_s", pa.float64()),
        *((name, pa.int64()) for name in _PRICED),
        ("cpu_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("waited_s", pa.float64()),
        ("note", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
    ]
)
"""The columns; ``partition`` is JSON, ``planned_…`` what the plan had said."""
_COMPACT_EACH: Final = 200


class History:
    """The history of one lake.

    Args:
        lake: Its address.
    """

    def __init__(self, lake: str) -> None:
        self.address = f"{lake.rstrip('/')}/{FOLDER}"
        self._tables = DirectTables()

    def add(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        """Add rows, in one commit.

        Raises:
            RayLakeError: They cannot be written; the tables are as the outcomes say.
        """
        if not outcomes:
            return
        if not is_table(self.address):
            self._create()
        rows = pa.Table.from_pylist([_row(run_id, one) for one in outcomes], SCHEMA)
        made = self._tables.execute(self.address, Append(rows), engine="delta-rs").version_after
        if made % _COMPACT_EACH == 0:
            self._tables.execute(self.address, Compact(), engine="delta-rs")

    def read(self) -> pa.Table:
        """All rows; none where nothing was run yet.

        Raises:
            RayLakeError: They cannot be read.
        """
        if not is_table(self.address):
            return SCHEMA.empty_table()
        return self._tables.read(self.address, Read()).read_all()

    def last(self, action: str) -> dict[str, float]:
        """When each table's newest action of a kind ended well; seconds since the epoch.

        Args:
            action: As ``vacuum``.

        Raises:
            RayLakeError: It cannot be read.
        """
        if not is_table(self.address):
            return {}
        wanted = Read("outcome <> 'failed'", ("table", "action", "at"))
        found: dict[str, float] = {}
        for row in self._tables.read(self.address, wanted).read_all().to_pylist():
            if row["action"] == action:
                at_s = row["at"].timestamp()
                found[row["table"]] = max(found.get(row["table"], at_s), at_s)
        return found

    def _create(self) -> None:
        try:
            self._tables.execute(self.address, Create(SCHEMA), engine="delta-rs")
        except TableExists:
            return


def write_history(
    run_id: str, subjects: Sequence[Subject], outcomes: Sequence[Outcome]
) -> tuple[str, ...]:
    """Write down what became of actions, each in its lake's history.

    Returns:
        Why some are not in it.
    """
    notes = []
    lakes = {one.address: one.lake for one in subjects}
    for lake in sorted(set(lakes.values()) - {""}):
        mine = [one for one in outcomes if lakes[one.address] == lake]
        try:
            History(lake).add(run_id, mine)
        except RayLakeError as error:
            notes.append(f"the history was not written: {error.message}")
    return tuple(notes)


def _row(run_id: str, one: Outcome) -> dict[str, object]:
    action = one.action
    return {
        "run_id": run_id,
        "table": one.table,
        "address": one.address,
        "action": action.kind,
        "partition": None if action.partition is None else json.dumps(dict(action.partition)),
        "reason": action.reason,
        "outcome": one.ending,
        "version": one.version,
        **{f"planned_{name}": value for name, value in _figures(action.price).items()},
        **_figures(one.real),
        "duration_s": one.duration_s,
        "waited_s": one.waited_s,
        "note": one.note,
        "at": datetime.fromtimestamp(one.at_s, UTC),
    }


def _figures(price: Price) -> dict[str, float]:
    told = asdict(price)
    return {name: told[name] for name in (*_PRICED, "cpu_s")}
