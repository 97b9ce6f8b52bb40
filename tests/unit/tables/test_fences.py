"""A table with an owner is written under the number of a slot, once, and not after it is over."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction

from raylake.clock import ManualClock
from raylake.delta.ledger import OWNER_APP, owner_number
from raylake.tables import delta_rs, errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import Fence
from raylake.tables.requests import Append, Create, Delete, Read, Restore, Update, Upsert, Write

SCHEMA = pa.schema([("id", pa.int64())])
FIRST = owner_number(3, 7)


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids)}, schema=SCHEMA)


def own(table: str, number: int, **more: int) -> None:
    """The owner commits a number."""
    txns = [Transaction(OWNER_APP, number), *(Transaction(k, v) for k, v in more.items())]
    DeltaTable(table).alter.set_table_properties(
        {"delta.logRetentionDuration": "interval 9 days"},
        commit_properties=CommitProperties(app_transactions=txns),
    )


@pytest.fixture
def table(tmp_path: Path) -> str:
    address = str(tmp_path / "t")
    engine = DeltaRsEngine()
    engine.execute(address, Create(SCHEMA))
    engine.execute(address, Append(rows(1, 2, 3)))
    own(address, FIRST)
    return address


def ids(table: str) -> list[int]:
    return sorted(DeltaRsEngine().read(table, Read()).read_all().column("id").to_pylist())


@pytest.mark.parametrize(
    "operation",
    [Append(rows(9)), Upsert(rows(9), ("id",)), Delete("id = 1"), Update({"id": "4"})],
)
def test_each_operation_carries_the_number_of_its_slot(table: str, operation: Write) -> None:
    engine = DeltaRsEngine()
    with pytest.raises(errors.OwnerOnly, match="has an owner"):
        engine.execute(table, operation)
    fence = Fence(OWNER_APP, FIRST + 1)
    assert engine.execute(table, operation, fence=fence).changed
    assert DeltaTable(table).transaction_version(OWNER_APP) == FIRST + 1
    left = ids(table)
    with pytest.raises(errors.SlotClosed, match="is over") as caught:
        engine.execute(table, operation, fence=fence)
    assert caught.value.table_changed is False
    assert ids(table) == left


def test_after_a_new_owners_epoch_an_old_slot_writes_nothing(table: str) -> None:
    own(table, owner_number(4, 0))
    with pytest.raises(errors.SlotClosed, match="newer owner"):
        DeltaRsEngine().execute(table, Append(rows(9)), fence=Fence(OWNER_APP, FIRST + 1))
    assert ids(table) == [1, 2, 3]


@pytest.mark.parametrize("operation", [Append(rows(9)), Delete("id = 1")])
def test_also_where_the_epoch_comes_between_check_and_commit(
    table: str, operation: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = delta_rs.opened_for
    fired = []

    def then_the_epoch(*args: object) -> DeltaTable:
        handle = checked(*args)  # type: ignore[arg-type]
        if not fired:
            fired.append(True)
            own(table, owner_number(4, 0))
        return handle

    monkeypatch.setattr(delta_rs, "opened_for", then_the_epoch)
    engine = DeltaRsEngine(ManualClock())
    with pytest.raises(errors.SlotClosed, match="newer owner"):
        engine.execute(table, operation, fence=Fence(OWNER_APP, FIRST + 1))
    assert fired
    assert ids(table) == [1, 2, 3]


def test_a_fence_on_a_table_without_that_number_is_refused(tmp_path: Path) -> None:
    address = str(tmp_path / "plain")
    engine = DeltaRsEngine()
    engine.execute(address, Create(SCHEMA))
    with pytest.raises(errors.SlotClosed, match="is None"):
        engine.execute(address, Append(rows(1)), fence=Fence(OWNER_APP, FIRST + 1))


@pytest.mark.spec("C6")
@pytest.mark.parametrize(
    ("txn", "counts"),
    [
        ("raylake/shop/orders/topic-id/0/next", "offsets of topic 'orders'"),
        ("raylake/0f0e0d0c-0b0a-0908-0706-050403020100", "dead letters"),
    ],
)
def test_what_a_log_counts_is_not_written_under_a_slot_either(
    table: str, txn: str, counts: str
) -> None:
    own(table, FIRST + 1, **{txn: 3})
    fence = Fence(OWNER_APP, FIRST + 2)
    for operation in (Append(rows(9)), Upsert(rows(1), ("id",)), Delete("id = 1")):
        with pytest.raises(errors.OwnerOnly, match=counts):
            DeltaRsEngine().execute(table, operation, fence=fence)
    with pytest.raises(errors.OwnerOnly) as caught:
        DeltaRsEngine().execute(table, Restore(version=0), fence=fence)
    assert "raylake rewind" in caught.value.hint
    assert ids(table) == [1, 2, 3]


def positions(partition: int, next_: int, origin: int = 0) -> dict[str, int]:
    base = f"raylake/shop/orders/topic-id/{partition}"
    return {f"{base}/next": next_, f"{base}/origin": origin}


@pytest.mark.spec("C4")
def test_a_refused_restore_names_the_rewind_that_does_it(table: str) -> None:
    """Partition 2 was not there yet, and partition 1 has not moved since."""
    own(table, FIRST + 1, **positions(0, 40), **positions(1, 7))
    version = DeltaTable(table).version()
    own(table, FIRST + 2, **positions(0, 55), **positions(2, 12, origin=5))

    def hint(version: int) -> str:
        with pytest.raises(errors.OwnerOnly) as caught:
            DeltaRsEngine().execute(table, Restore(version), fence=Fence(OWNER_APP, FIRST + 3))
        return caught.value.hint

    command = "raylake rewind FILE bronze.t --to 'orders[0]=40' --to 'orders[2]=5' --replace"
    assert f"`{command}`" in hint(version)
    assert "'shop'" in hint(version)
    # Before anything was read: each partition to its first offset.
    assert "--to 'orders[0]=0' --to 'orders[1]=0' --to 'orders[2]=5'" in hint(version - 1)
    assert "there is nothing to do" in hint(version + 1)
    assert "there is no version 99" in hint(99)
    own(table, FIRST + 3, **positions(0, 30))
    with pytest.raises(errors.OwnerOnly) as caught:
        DeltaRsEngine().execute(table, Restore(version), fence=Fence(OWNER_APP, FIRST + 4))
    assert "stood at 40, and it stands at 30 now" in caught.value.hint
    assert ids(table) == [1, 2, 3]


@pytest.mark.spec("C4")
def test_positions_that_are_many_are_named_by_their_version(table: str) -> None:
    own(table, FIRST + 1)
    version = DeltaTable(table).version()
    txns = {k: v for n in range(21) for k, v in positions(n, 9).items()}
    own(table, FIRST + 2, **txns)
    with pytest.raises(errors.OwnerOnly) as caught:
        DeltaRsEngine().execute(table, Restore(version), fence=Fence(OWNER_APP, FIRST + 3))
    assert f"raylake rewind FILE bronze.t --to version:{version} --replace" in caught.value.hint
