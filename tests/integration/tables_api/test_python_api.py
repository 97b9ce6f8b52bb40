"""Tables from Python: what a notebook types."""

from __future__ import annotations

import datetime as dt
import io
import threading
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from rich.console import Console

import raylake
from raylake.client.lake_table import Table
from raylake.errors import ConfigError, DependencyUnreachable
from raylake.tables import errors
from raylake.tables.requests import DeleteUnmatched, Scd2
from raylake.tables.scd2 import table_for
from tests.integration.tables_api.conftest import FEED, SCHEMA, ids, rows, vacuum

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


@pytest.mark.spec("C2", "C3")
def test_100_rows_then_50_updates_and_50_inserts_gives_150(hundred: Table) -> None:
    now = hundred.read().to_arrow()
    assert ids(now) == list(range(150))
    by_amount = now.group_by("amount").aggregate([("id", "count")]).to_pylist()
    assert {one["amount"]: one["id_count"] for one in by_amount} == {1: 50, 2: 100}
    (last,) = hundred.history(1)
    assert last.metrics["num_target_rows_updated"] == 50
    assert last.metrics["num_target_rows_inserted"] == 50


@pytest.mark.spec("C3")
def test_time_travel_over_50_100_and_150_by_version_and_by_time(orders: Table) -> None:
    for first in (0, 50, 100):
        orders.append(rows(range(first, first + 50)))
    made = {line.version: line.at for line in orders.history()}
    for version, count in ((1, 50), (2, 100), (3, 150)):
        assert orders.read(version=version).to_arrow().num_rows == count
        assert orders.read(at=made[version]).to_arrow().num_rows == count
        assert orders.read(at=made[version].isoformat()).version == version
    with pytest.raises(errors.VersionAndTime):
        orders.read(version=1, at=made[1])
    with pytest.raises(errors.TimeWithoutZone, match="has no zone"):
        orders.read(at="2026-01-31T12:00:00")
    with pytest.raises(errors.TimeWithoutZone):
        orders.changes(from_time=NOON.replace(tzinfo=None))


@pytest.mark.spec("C3")
def test_every_end_gives_the_same_rows(hundred: Table) -> None:
    found = hundred.read("amount = 2 AND id < 60", ["id"])
    wanted = list(range(50, 60))
    assert found.schema == pa.schema([("id", pa.int64())])
    assert ids(found.to_arrow()) == wanted
    assert sorted(found.to_polars()["id"].to_list()) == wanted
    assert sorted(found.to_pandas()["id"].tolist()) == wanted
    relation = found.to_duckdb()
    assert relation.aggregate("count(*), max(id)").fetchall() == [(10, 59)]
    assert relation.aggregate("count(*), max(id)").fetchall() == [(10, 59)]
    with duckdb.connect() as mine:
        assert found.to_duckdb(mine).filter("id = 51").fetchall() == [(51,)]
    assert sum(batch.num_rows for batch in found.to_batches()) == 10


@pytest.mark.spec("C3", "C6")
def test_a_reading_stays_at_the_version_that_was_the_newest_when_it_was_made(
    hundred: Table,
) -> None:
    before = hundred.read()
    hundred.delete("true")
    assert before.version == 2
    assert before.to_arrow().num_rows == 150
    assert hundred.read().to_arrow().num_rows == 0
    with pytest.raises(errors.UnknownColumn, match="has no column 'amuont'"):
        hundred.read(columns=["amuont"])
    with pytest.raises(errors.BadExpression):
        hundred.read("id = 1; DROP TABLE x")
    with pytest.raises(errors.BadRequest, match="is a list of names"):
        hundred.read(columns="id")
    with pytest.raises(errors.VersionUnknown, match="the newest is 3"):
        hundred.read(version=17)


@pytest.mark.spec("C1")
def test_a_partition_is_overwritten_and_the_others_stay(lake: raylake.Lake) -> None:
    table = lake.table("gold.sales")
    table.create(SCHEMA, partition_by=["region"])
    table.append(rows(range(100)))
    result = table.overwrite([{"id": 1000, "region": "r3", "amount": 9}], where="region = 'r3'")
    assert (result.rows.inserted, result.rows.deleted) == (1, 10)
    assert ids(table.read("region = 'r3'").to_arrow()) == [1000]
    assert table.read().to_arrow().num_rows == 91
    with pytest.raises(errors.ValuesRefused) as refused:
        table.overwrite([{"id": 1, "region": "r4", "amount": 9}], where="region = 'r3'")
    assert refused.value.table_changed is False


@pytest.mark.spec("C3")
def test_changes_by_version_and_by_time(hundred: Table) -> None:
    hundred.delete("id = 7")
    made = {line.version: line.at for line in hundred.history()}

    def kinds(**asked: Any) -> dict[str, int]:
        found = hundred.changes(**asked).to_arrow().group_by("_change_type")
        counts = found.aggregate([("id", "count")]).to_pylist()
        return {one["_change_type"]: one["id_count"] for one in counts}

    merged = {"insert": 50, "update_preimage": 50, "update_postimage": 50}
    assert kinds(from_version=2, to_version=2) == merged
    assert kinds(from_version=2) == {**merged, "delete": 1}
    assert kinds(from_time=made[2], to_time=made[2]) == merged
    assert kinds(from_version=2, ignore_deletes=True) == merged
    assert kinds(from_version=2, ignore_changes=True) == {"insert": 50}
    feed = hundred.changes(from_version=2)
    hundred.delete("id = 8")
    assert feed.to_arrow().num_rows == 151


@pytest.mark.spec("C2", "C4")
def test_updates_deletes_conditions_and_a_restore(hundred: Table) -> None:
    assert hundred.update({"amount": "amount * 10"}, "id < 3").rows.updated == 3
    assert hundred.read("amount = 10").to_arrow().num_rows == 3
    result = hundred.merge(
        rows(range(10)),
        ["id"],
        update_when="source.amount <> target.amount",
        not_matched_by_source=DeleteUnmatched("amount = 2"),
        sequence_by="amount",
    )
    assert (result.rows.updated, result.rows.deleted) == (3, 100)
    assert hundred.delete("id = 0").rows.deleted == 1
    restored = hundred.restore(2)
    assert restored.version_after == hundred.version == 6
    assert ids(hundred.read().to_arrow()) == list(range(150))
    assert [line.operation for line in hundred.history(2)] == ["RESTORE", "DELETE"]
    with pytest.raises(errors.TimeWithoutZone):
        hundred.restore(at="2026-01-31")


@pytest.mark.spec("C2")
def test_versions_of_rows_by_changes_in_any_order(lake: raylake.Lake) -> None:
    table = lake.table("gold.customers")
    changes = [
        {"id": 1, "country": country, "at": NOON + dt.timedelta(hours=hour)}
        for hour, country in ((2, "DE"), (0, "NO"), (1, "NO"))
    ]
    request = Scd2(pa.Table.from_pylist(changes), ("id",), ("at",), track=("country",))
    assert table.explain(table_for(request)).engine == "delta-rs"
    table.run(table_for(request))
    for one in changes:
        table.scd2([one], "id", "at", track=["country"])
    found = table.read().to_arrow().sort_by("valid_from").to_pylist()
    assert [(one["country"], one["is_current"]) for one in found] == [("NO", False), ("DE", True)]
    assert found[0]["valid_to"] == found[1]["valid_from"] == NOON + dt.timedelta(hours=2)


@pytest.mark.spec("C1")
def test_rows_may_come_in_any_form(orders: Table) -> None:
    table = pa.table({"id": [1], "region": ["a"], "amount": pa.array([1], pa.int32())})
    forms = [
        table,
        table.to_batches()[0],
        pa.RecordBatchReader.from_batches(table.schema, table.to_batches()),
        table.to_pandas().set_index(pd.Index([17])),
        pl.from_arrow(table),
        pl.from_arrow(table).lazy(),
        duckdb.sql("SELECT 1::BIGINT AS id, 'a' AS region, 1::INTEGER AS amount"),
        [{"id": 1, "region": "a", "amount": 1}],
        {"id": 1, "region": "a", "amount": 1},
    ]
    for form in forms:
        orders.append(form)
    orders.append(orders.read(version=1))
    found = orders.read().to_arrow().to_pylist()
    assert found == [{"id": 1, "region": "a", "amount": 1}] * (len(forms) + 1)


def test_python_values_that_would_lose_something_are_refused(lake: raylake.Lake) -> None:
    table = lake.table("silver.typed")
    table.create(pa.schema([("n", pa.int32()), ("at", pa.timestamp("us", tz="UTC"))]))
    wrong: list[tuple[Any, type[errors.TableError]]] = [
        ([{"n": 1.5}], errors.SchemaNarrowed),
        ([{"n": 2**40}], errors.SchemaNarrowed),
        ([{"n": "x"}], errors.SchemaMismatch),
        ([{"n": True}], errors.SchemaMismatch),
        ([{"at": NOON.replace(tzinfo=None)}], errors.TimeWithoutZone),
        ([{"m": 1}], errors.SchemaMismatch),
        ([1, 2], errors.BadRequest),
        ("rows", errors.BadRequest),
    ]
    for given, kind in wrong:
        with pytest.raises(kind) as refused:
            table.append(given)
        assert refused.value.table_changed is False
    assert table.version == 0
    table.append([{"n": 1, "at": NOON}, {"n": None}])
    assert table.read().to_arrow().to_pylist() == [{"n": 1, "at": NOON}, {"n": None, "at": None}]


@pytest.mark.spec("C3")
def test_failure_44_a_query_reads_one_version_while_others_are_committed(
    orders: Table, lake: raylake.Lake
) -> None:
    orders.append(rows(range(100), amount=0))
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        mine = raylake.connect(lake.where).table("silver.orders")
        while not stop.is_set():
            written.append(mine.update({"amount": "amount + 1"}).version_after)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            reading = orders.read()
            found = reading.to_arrow()
            # Each update moves every row: two versions in one result would show as two amounts.
            assert set(found.column("amount").to_pylist()) == {reading.version - 1}
            assert found.num_rows == 100
    finally:
        stop.set()
        writer.join()
    assert len(written) > 3


@pytest.mark.spec("C3")
def test_failure_44_a_query_whose_files_vacuum_took_is_held_against_the_newest_version_once(
    hundred: Table,
) -> None:
    newest, asked, begun = hundred.read(), hundred.read(version=2), hundred.read()
    assert begun.to_arrow().num_rows == 150
    hundred.delete("id >= 10")
    vacuum(hundred)
    assert ids(newest.to_arrow()) == list(range(10))
    # Vacuum itself made two versions.
    assert newest.version == 5
    for other in (asked, begun):
        with pytest.raises(errors.VersionGone, match="version 2 is gone") as gone:
            other.to_arrow()
        assert gone.value.context["oldest"] == 3


def test_a_file_that_somebody_deleted_is_named_and_not_read_around(hundred: Table) -> None:
    file = min(DeltaTable(hundred.address).file_uris())
    Path(file).unlink()
    with pytest.raises(DependencyUnreachable, match="a data file cannot be read"):
        hundred.read().to_arrow()


@pytest.mark.spec("C3")
def test_versions_say_until_when_they_can_be_read(lake: raylake.Lake) -> None:
    table = lake.table("silver.kept")
    table.create(SCHEMA, properties={"delta.deletedFileRetentionDuration": "interval 2 days"})
    table.append(rows(range(10)))
    table.append(rows(range(10, 20)))
    table.delete("id < 5")
    table.delete("id < 15")
    at = {line.version: line.at for line in table.versions()}
    until = {line.version: (line.readable_until, line.taken_by) for line in table.versions()}
    two_days, month = dt.timedelta(days=2), dt.timedelta(days=30)
    assert until[4] == (None, "")
    # Version 1 and 2 have the file that version 3 removed; version 3 has what version 4 removed.
    for version, remover in ((1, 3), (2, 3), (3, 4)):
        moment, by = until[version]
        assert by == "vacuum"
        assert moment is not None
        assert abs(moment - at[remover] - two_days) < dt.timedelta(seconds=2)
    assert until[0] == (at[0] + month, "log clean-up")
    vacuum(table)
    assert [line.version for line in table.versions()] == [6, 5, 4]
    with pytest.raises(errors.VersionGone):
        table.read(version=3).to_arrow()


@pytest.mark.spec("C3")
def test_tables_of_a_lake_by_name(lake: raylake.Lake, hundred: Table, tmp_path: Path) -> None:
    lake.table("gold.sales").create(SCHEMA)
    (tmp_path / "lake" / "_raylake" / "status").mkdir(parents=True)
    (tmp_path / "lake" / "silver" / "no_table").mkdir()
    assert [one.name for one in lake.tables()] == ["gold.sales", "silver.orders"]
    assert [one.name for one in lake.tables("silver")] == ["silver.orders"]
    assert hundred.address == str((tmp_path / "lake/silver/orders").resolve())
    with pytest.raises(errors.TableMissing, match="did you mean"):
        lake.require("silver.order")
    with pytest.raises(errors.TableMissing):
        lake.table("silver.order").read()
    for wrong in ("orders", "silver.", ".orders", "../silver.x", "silver.a/b", "_raylake.status"):
        with pytest.raises(ConfigError):
            lake.table(wrong)


def test_the_lake_of_a_pipeline_file_has_its_tables_where_it_says(tmp_path: Path) -> None:
    file = tmp_path / "clicks.yaml"
    file.write_text(
        f"pipeline: clicks\nlake: {tmp_path}/lake\nkafka: {{bootstrap: 'localhost:9'}}\n"
        f"bronze:\n  clicks: {{topics: [clicks], path: {tmp_path}/far/clicks}}\n"
    )
    lake = raylake.Lake.from_pipeline(file)
    assert list(lake.tables()) == []
    table = lake.table("bronze.clicks")
    assert table.address == str((tmp_path / "far/clicks").resolve())
    table.create(SCHEMA)
    assert [one.name for one in lake.tables("bronze")] == ["bronze.clicks"]


def test_access_that_is_none_is_refused_without_its_values(tmp_path: Path) -> None:
    for storage in (
        {"s3://lake": {"secret_access_key": "PLAIN", "access_key_id": "x"}},
        {"s3://lake": {"nonsense": "PLAIN"}},
        {str(tmp_path): {"region": "PLAIN"}},
    ):
        with pytest.raises(ConfigError) as refused:
            raylake.connect("s3://lake/prod", storage=storage)
        assert "PLAIN" not in str(refused.value)
    with pytest.raises(ConfigError):
        raylake.connect("ftp://lake")


@pytest.mark.spec("C3")
def test_values_are_escaped_where_they_are_shown(lake: raylake.Lake) -> None:
    table = lake.table("silver.evil")
    evil = "<script>alert(1)</script>"
    table.create(pa.schema([("text", pa.string())]), properties=FEED, description=evil)
    table.append([{"text": evil}, {"text": "[red]a[/red]\x1b[31m"}])
    shown = [
        table.read()._repr_html_(),
        table.read(f"text = '{evil}'")._repr_html_(),
        table.changes(from_version=1)._repr_html_(),
        table.reader("mart").read_new()._repr_html_(),
        table.history()._repr_html_(),
        table.versions()._repr_html_(),
        table._repr_html_(),
        lake._repr_html_(),
    ]
    assert all("<table>" in one and "<script" not in one for one in shown)
    assert "&lt;script&gt;alert(1)" in shown[0]
    console = Console(file=io.StringIO(), width=200, record=True)
    for one in (table, lake, table.read(), table.history(), table.versions()):
        console.print(one)
    text = console.export_text()
    assert evil in text
    assert "[red]a[/red]\\x1b[31m" in text


def test_a_notebook_shows_why_rows_cannot_be_shown(hundred: Table) -> None:
    asked = hundred.read(version=1)
    vacuum(hundred)
    assert "version 1 is gone" in asked._repr_html_()
