"""Rows of a table in an object store leave between its owner's commits."""

from __future__ import annotations

import uuid

import pytest

from raylake.clock import SystemClock
from raylake.delta.files import write_data_files
from raylake.delta.identity import OwnerIdentity
from raylake.delta.log_store import files_of
from raylake.delta.owned_table import OwnedTable
from raylake.delta.spec import TableSpec
from raylake.delta.verify import verify
from raylake.ingest.unit import Unit
from raylake.storage.place import place
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.proposals import propose
from raylake.tables.requests import Delete, Read, Update, Write
from raylake.tables.running import Order
from raylake.tables.upkeep_requests import Compact
from raylake.tables.workplace import FOLDER
from tests.harness.store import store, store_lake
from tests.integration.verify.lake import PIPELINE, ROWS, Span, rows_of_spans

__all__ = ["store", "store_lake"]


@pytest.mark.spec("C6", "C8")
def test_rows_are_deleted_changed_and_compacted_in_a_store(store_lake: str) -> None:
    address = f"{store_lake}/bronze/orders"
    identity = OwnerIdentity.of_this_process(PIPELINE, "run")
    spec = TableSpec(address, ROWS, (), {"delta.appendOnly": "true"})
    owner = OwnedTable.attach(spec, identity, clock=SystemClock())
    owner.admit({Span(0, 0, 0).source: 0})
    for start in (0, 10, 20):
        span = Span(0, start, start + 10)
        files = write_data_files(place(address), rows_of_spans([span]), owner.schema, ())
        unit = Unit(PIPELINE, "c", 1, owner.fingerprint, (span.range(),), files, ())
        assert owner.commit([unit])[0].status == "committed"
    done(owner, address, Delete("_offset >= 5 AND _offset < 15"))
    done(owner, address, Update({"order_id": "'gone'"}, "_offset = 20"))
    done(owner, address, Compact())
    found = DeltaRsEngine().read(address, Read()).read_all()
    assert sorted(found.column("_offset").to_pylist()) == [*range(5), *range(15, 30)]
    assert found.column("order_id").to_pylist().count("gone") == 1
    report = verify(address, None, PIPELINE, "data")
    assert report.ok, report.findings
    assert report.live_files == 1
    assert not [path for path in files_of(address).tree("") if path.startswith(FOLDER)]


def done(owner: OwnedTable, address: str, operation: Write) -> None:
    order = Order(address, operation, "", request=uuid.uuid4().hex)
    found = propose(DeltaRsEngine(), order, SystemClock()).rewritten
    assert found is not None
    owner.rewrites().rewrite(found)
