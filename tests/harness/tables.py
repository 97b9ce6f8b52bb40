"""A table of orders, and the engine that it is worked on with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, Transaction

from raylake.delta.ledger import OWNER_APP, owner_number
from raylake.storage.place import delta_table, place
from raylake.tables.port import Fence, TableEngine
from raylake.tables.requests import Changes, Read, Write
from raylake.tables.results import OperationResult

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("region", pa.string()),
        pa.field("amount", pa.int32(), metadata={"comment": "in cents"}),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("place", pa.struct([pa.field("city", pa.string())])),
    ]
)
FEED = {"delta.enableChangeDataFeed": "true"}
NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
NAIVE = NOON.replace(tzinfo=None)


def orders(ids: Iterable[int], amount: int = 1, **columns: Any) -> pa.Table:
    """Rows of the table: one an id, the region by its last digit."""
    ids = list(ids)
    values = {
        "id": ids,
        "region": [f"r{one % 10}" for one in ids],
        "amount": [amount] * len(ids),
        "at": [NOON + dt.timedelta(minutes=one) for one in ids],
        "place": [{"city": f"c{one}"} for one in ids],
    }
    rows = pa.table(values, schema=SCHEMA)
    for name, column in columns.items():
        at = rows.schema.get_field_index(name)
        found = pa.array(column)
        rows = rows.append_column(name, found) if at < 0 else rows.set_column(at, name, found)
    return rows


def number(n: int, epoch: int) -> Fence:
    """The number of an owner's slot."""
    return Fence(OWNER_APP, owner_number(epoch, n))


def takes_over(path: Path, epoch: int) -> None:
    """A new owner's epoch commit."""
    handle = delta_table(place(str(path)))
    handle.create_write_transaction(
        [],
        "append",
        handle.schema(),
        commit_properties=CommitProperties(
            app_transactions=[Transaction(*number(0, epoch))],
            custom_metadata={"raylake": {"kind": "epoch"}},
        ),
    )


class Table:
    """A table, and the engine that it is worked on with."""

    def __init__(self, engine: TableEngine, path: Path) -> None:
        self.engine = engine
        self.path = path

    def do(self, operation: Write, fence: Fence | None = None) -> OperationResult:
        return self.engine.execute(str(self.path), operation, fence=fence)

    def rows(self, **request: Any) -> list[dict[str, Any]]:
        read = self.engine.read(str(self.path), Read(**request)).read_all()
        return sorted(read.to_pylist(), key=lambda row: [str(v).zfill(9) for v in row.values()])

    def ids(self, **request: Any) -> list[int]:
        return [row["id"] for row in self.rows(columns=("id",), **request)]

    def amounts(self, **request: Any) -> dict[int, int]:
        return {r["id"]: r["amount"] for r in self.rows(columns=("id", "amount"), **request)}

    def changes(self, **request: Any) -> list[tuple[int, str, int, int]]:
        found = self.engine.changes(str(self.path), Changes(**request)).read_all().to_pylist()
        return sorted(
            (r["_commit_version"], r["_change_type"], r["id"], r["amount"]) for r in found
        )

    @property
    def version(self) -> int:
        return self.engine.history(str(self.path), 1)[0].version

    def made_at(self, version: int) -> dt.datetime:
        return next(h.at for h in self.engine.history(str(self.path)) if h.version == version)
