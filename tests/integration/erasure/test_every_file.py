"""After an erasure no file of a lake has the person: data, changes, rows behind vectors, logs."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from raylake import faults
from raylake.client.erasing import EraseOrder, erase
from raylake.client.lake import connect
from raylake.clock import SystemClock
from raylake.delta.log_reader import LogReader
from raylake.delta.version_pins import Pins
from raylake.errors import RayLakeError
from raylake.tables import errors
from tests.harness.vectors import delete_by_vector
from tests.integration.erasure.shop import PERSON, WHERE, Shop, messages

DO = EraseOrder(WHERE, dry_run=False)
WITH_LOGS = EraseOrder(WHERE, dry_run=False, and_logs=True)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.fill()
    made.transform()
    return made


def hide(table: Path, person: str = PERSON, most: int = 100) -> str:
    """Delete a person's rows by a vector, as Spark does: they stay in the file, which is named."""
    (file,) = map(Path, DeltaTable(table).file_uris())
    people = pq.read_table(file)["customer_id"].to_pylist()
    delete_by_vector(table, [at for at, one in enumerate(people) if one == person][:most])
    return str(file)


@pytest.mark.spec("F4")
def test_rows_behind_deletion_vectors_leave_their_files(shop: Shop) -> None:
    silver = shop.lake / "silver" / "orders"
    file = hide(silver)
    people = {one["customer_id"] for one in shop.read("silver.orders")}
    assert people == {"ann", "bob"}
    planned = erase(shop.loaded, EraseOrder(WHERE))
    assert "1 live files have rows behind" in planned.tables["silver.orders"].searched
    assert Path(file).exists()
    done = erase(shop.loaded, DO)
    assert (done.complete, done.left) == (True, [])
    assert shop.files_with() == []
    assert not Path(file).exists()
    assert {one["customer_id"] for one in shop.read("silver.orders")} == people
    shop.transform()
    assert shop.files_with() == []
    shop.verify()


@pytest.mark.spec("F4")
def test_a_file_with_rows_of_both_kinds_and_one_of_nothing_else(shop: Shop) -> None:
    """Some of the person's rows are behind a vector, others are live; a table is theirs alone."""
    silver, gold = (shop.lake / one for one in ("silver/orders", "gold/customers"))
    hide(silver, most=1)
    kept = sorted(map(repr, shop.read("gold.customers")))
    hide(gold)
    done = erase(shop.loaded, DO)
    assert (done.complete, done.left) == (True, [])
    assert shop.files_with() == []
    left = sorted(map(repr, shop.read("gold.customers")))
    assert left == [one for one in kept if PERSON not in one]


@pytest.mark.spec("F4")
def test_logs_keep_bounds_until_they_are_asked_for_too(shop: Shop) -> None:
    hide(shop.lake / "silver" / "orders")
    before = erase(shop.loaded, DO)
    assert before.complete
    silver = before.tables["silver.orders"]
    logs = shop.logs_with()
    assert len([one for one in logs if one.startswith("silver/")]) == silver.log_files_left > 0
    assert "until the log's clean-up" in silver.searched
    kept = {name: sorted(map(repr, shop.read(name))) for name in ("bronze.orders", "gold.sales")}
    totals = shop.verify().totals
    planned = erase(shop.loaded, EraseOrder(WHERE, and_logs=True))
    assert planned.tables["silver.orders"].versions_lost.startswith("0 to ")
    assert shop.logs_with() == logs, "a dry run"
    done = erase(shop.loaded, WITH_LOGS)
    assert (done.complete, done.left, done.rows) == (True, [], 0)
    assert shop.all_with() == []
    silver = done.tables["silver.orders"]
    assert (silver.log_files_left, silver.log_files_removed > 0) == (0, True)
    assert silver.versions_lost.startswith("0 to ")
    with pytest.raises(errors.VersionGone):
        connect(shop.lake).table("silver.orders").read(version=0).to_arrow()
    assert connect(shop.lake).table("bronze.orders").read(version=0).to_arrow().num_rows == 0
    assert shop.verify().totals == totals
    assert shop.verify("log").totals == totals
    assert kept == {name: sorted(map(repr, shop.read(name))) for name in kept}


@pytest.mark.spec("F4")
@pytest.mark.parametrize(
    "point", [pytest.param("erase.purged", marks=pytest.mark.long), "erase.checkpoints"]
)
def test_what_was_cut_off_is_gone_on_with(
    shop: Shop, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(shop.lake / "silver" / "orders")
    folder = shop.folder / "faults"
    monkeypatch.setenv(faults.ENV, str(folder))
    faults.arm(folder, point, action="error")
    with pytest.raises((OSError, RayLakeError)):
        erase(shop.loaded, WITH_LOGS)
    shop.verify()
    assert erase(shop.loaded, WITH_LOGS).complete
    assert shop.all_with() == []
    shop.verify()


@pytest.mark.spec("F4")
def test_a_pipeline_goes_on_after_its_logs_began_anew(shop: Shop) -> None:
    assert erase(shop.loaded, WITH_LOGS).complete
    assert shop.all_with() == []
    shop.ingest([one for one in messages(21) if b"bob" in one], 21, name="bronze.orders")
    shop.transform()
    assert any(one["order_id"] == "o35" for one in shop.read("silver.orders"))
    shop.verify()
    shop.refresh()
    assert shop.all_with() == []


@pytest.mark.spec("F4")
def test_a_log_that_is_held_stays_and_is_named(shop: Shop) -> None:
    table = connect(shop.lake).table("silver.orders")
    assert erase(shop.loaded, DO).complete
    table.pin("2999-01-01T00:00:00Z", name="audit")
    pinned = table.version
    done = erase(shop.loaded, WITH_LOGS)
    assert not done.complete
    (left,) = done.left
    assert left.startswith("silver.orders: its log is as it was: a reader or a pin needs its log")
    assert [one for one in shop.logs_with() if not one.startswith("silver/")] == []
    assert table.read(version=pinned).to_arrow().num_rows == 6
    Pins(shop.lake / "silver" / "orders", SystemClock()).unpin("audit")
    again = erase(shop.loaded, WITH_LOGS)
    assert (again.erasure_id, again.complete) == (done.erasure_id, True)
    assert shop.all_with() == []
    assert LogReader(str(shop.lake / "silver" / "orders")).snapshot().version > pinned


@pytest.mark.spec("F4")
def test_a_table_that_is_partitioned_by_the_person(tmp_path: Path) -> None:
    """Folders have the name: they leave, and the receipt does not repeat it."""
    shop = Shop(tmp_path, partition_by=["customer_id"])
    shop.fill()
    assert list(shop.lake.rglob(f"*{PERSON}*"))
    done = erase(shop.loaded, WITH_LOGS)
    assert done.complete
    bronze = done.tables["bronze.orders"]
    assert bronze.files_removed[0].startswith("customer_id=…/part-")
    # A checkpoint remembers the names of removed files for the retention: that is said.
    (left,) = shop.all_with()
    assert (left.endswith(".checkpoint.parquet"), bronze.log_files_left) == (True, 1)
    assert list(shop.lake.rglob(f"*{PERSON}*")) == []
    shop.verify()
