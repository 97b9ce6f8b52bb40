"""Takes a derived table through its steps, its progress kept in memory."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from raylake.layers.bronze import METADATA
from raylake.layers.derived import NEVER, Begun, Deed, Rejected, Shaped, SideWrite, SourceRows
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.row_wise import derivation_of
from raylake.layers.side_writes import write_side
from raylake.layers.source_changes import look_for, read
from raylake.layers.source_parts import NO_LIMIT, Limit
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.pins import schema_at
from raylake.tables.requests import Append, Create, Read, Write
from raylake.tables.results import OperationResult
from raylake.tables.service import DirectTables

ENGINE = DeltaRsEngine()
NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def minute(n: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=n)


@dataclass
class LookAt:
    """What a derivation may read in one step."""

    changes: SourceRows
    table: Path
    sides: Path

    def source(self, request: Read) -> pa.RecordBatchReader:
        span = self.changes.span
        return ENGINE.read(span.address, replace(request, version=span.last))

    def target(self, request: Read) -> pa.RecordBatchReader:
        return ENGINE.read(str(self.table), request)

    def target_rows(self) -> int | None:
        return self.target(Read()).read_all().num_rows

    def side(self, name: str, request: Read) -> pa.RecordBatchReader | None:
        path = self.sides / name
        return ENGINE.read(str(path), request) if path.exists() else None

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        raise NotImplementedError(table, request)


@dataclass
class Stepper:
    """A derived table and how far it has come."""

    spec: RowWiseSpec
    source: Path
    target: Path
    good: Callable[[dict[str, Any]], bool] | None = None
    after: int = NEVER
    table_id: str | None = None
    begun: Begun | None = None
    now_s: float = NOON.timestamp()
    handed: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    results: list[OperationResult] = field(default_factory=list)

    def step(self, *, twice: bool = False, limit: Limit = NO_LIMIT) -> bool:
        """One span; ``twice``: its first writes are done, then it is done anew."""
        root = self.source
        span = look_for(
            root, "bronze.t", self.after, table_id=self.table_id, limit=limit, begun=self.begun
        )
        if span is None:
            return False
        derivation = derivation_of(self.spec)
        schema = schema_at(root, span.last)
        if not self.target.exists():
            ENGINE.execute(str(self.target), derivation.table(schema))
        changes = read(span, derivation.columns(schema))
        look = LookAt(changes, self.target, self.target.parent / f"{self.target.name}_beside")
        shaped: Shaped = derivation.shape(changes, look)
        assert len(shaped.origin) == shaped.rows.num_rows
        self.rejected += shaped.rejected
        rows = shaped.rows
        if self.good is not None:
            rows = rows.filter(pa.array([self.good(row) for row in rows.to_pylist()], pa.bool_()))
        deed: Deed = derivation.deed(rows, changes, look)
        for _ in range(2 if twice else 1):
            for one in deed.first:
                self._first(one, look.sides)
        if deed.last is not None:
            self.results.append(ENGINE.execute(str(self.target), deed.last))
        self.handed.append(changes.came.num_rows)
        self.table_id = span.table_id
        self.begun = None if span.part is None else Begun(span.last, span.part.end)
        if span.whole:
            self.after = span.last
        return True

    def _first(self, one: Write | SideWrite, sides: Path) -> None:
        assert isinstance(one, SideWrite)
        write_side(str(sides / one.name), one, DirectTables(), self.now_s)

    def run(self, limit: Limit = NO_LIMIT) -> Stepper:
        while self.step(limit=limit):
            pass
        return self

    def rows(self, *columns: str, **request: Any) -> list[dict[str, Any]]:
        found = ENGINE.read(str(self.target), Read(columns=columns or None, **request)).read_all()
        return sorted(found.to_pylist(), key=repr)


KAFKA = pa.schema([METADATA.field(n) for n in ("_topic", "_partition", "_offset", "_timestamp")])
BRONZE_METADATA = pa.schema([*KAFKA, METADATA.field("_key"), METADATA.field("_tombstone")])


def bronze(path: Path, payload: pa.Schema, **properties: str) -> Path:
    """An empty table as ingestion makes it."""
    schema = pa.schema([*payload, *BRONZE_METADATA])
    ENGINE.execute(str(path), Create(schema, properties=properties))
    return path


def put(path: Path, rows: Iterable[Mapping[str, Any]], payload: pa.Schema) -> None:
    """Append records; what a row does not say is null, or as Kafka would have it."""
    schema = pa.schema([*payload, *BRONZE_METADATA])
    base = {"_topic": "t", "_partition": 0, "_tombstone": False}
    ENGINE.execute(str(path), Append(pa.Table.from_pylist([base | dict(r) for r in rows], schema)))


def rejections(found: Sequence[Rejected]) -> list[tuple[str, str, str | None]]:
    """Rule, column and value of each rejected row."""
    return sorted(
        ((one.rule, one.column, value) for one in found for value in one.values.to_pylist()),
        key=repr,
    )


def forget(table: Path, below: int) -> None:
    """Take a log's files below a version away, as its clean-up does after a checkpoint."""
    for file in (table / "_delta_log").glob("*.json"):
        if file.stem.isdigit() and int(file.stem) < below:
            file.unlink()


def last_metadata(table: Path) -> dict[str, Any]:
    """What the newest commit says of itself."""
    newest = max(f for f in (table / "_delta_log").glob("*.json") if f.stem.isdigit())
    lines = [json.loads(line) for line in newest.read_text().splitlines()]
    return next((one["commitInfo"] for one in lines if "commitInfo" in one), {})
