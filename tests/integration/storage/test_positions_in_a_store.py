"""Positions of a table in an object store are moved as those of one on a disk."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raylake.clock import SystemClock
from raylake.delta.files import write_data_files
from raylake.delta.identity import OwnerIdentity
from raylake.delta.log_reader import LogReader
from raylake.delta.moves import Adopt, Skip
from raylake.delta.owned_table import OwnedTable
from raylake.delta.rewinding import Rewind
from raylake.delta.spec import TableSpec, bronze_properties
from raylake.delta.verify import verify
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit

P0 = SourcePartition("orders", "topic-id", 0)
SCHEMA = pa.schema(
    [
        ("p", pa.string()),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
    ]
)


def ingest(owner: OwnedTable, start: int, end: int) -> None:
    rows = end - start
    columns = [
        pa.array([("a b", "ü%/x", "")[o % 3] for o in range(start, end)]),
        pa.array(["orders"] * rows),
        pa.array([0] * rows, pa.int32()),
        pa.array(range(start, end), pa.int64()),
    ]
    files = write_data_files(owner.path, pa.table(columns, schema=SCHEMA), owner.schema, ("p",))
    span = OffsetRange(P0, start, end, Counts(rows=rows))
    unit = Unit("orders", "consumer-0", 1, owner.fingerprint, (span,), files)
    assert owner.commit([unit])[0].status == "committed"


@pytest.mark.spec("A13", "C8")
def test_positions_of_a_table_in_a_store_are_moved(store_lake: str) -> None:
    path = f"{store_lake}/bronze/orders"
    spec = TableSpec(path, SCHEMA, ("p",), bronze_properties(stats_columns=("_offset",)))
    identity = OwnerIdentity.of_this_process("orders", "run-1")
    owner = OwnedTable.attach(spec, identity, clock=SystemClock())
    owner.move(Adopt("orders", {P0: 10}))
    ingest(owner, 10, 40)
    ingest(owner, 40, 50)
    owner.move(Skip("orders", {P0: 60}))
    owner.move(Rewind("orders", {P0: 25}, replace=True))
    assert owner.states()[P0].totals == Counts(rows=15)
    ingest(owner, 25, 33)
    report = verify(path, None, "orders", "data")
    assert report.ok, report.findings
    assert report.totals == Counts(rows=23)
    assert LogReader(path).snapshot().metadata.configuration["delta.appendOnly"] == "true"
