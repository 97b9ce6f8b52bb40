"""What every table engine does for a table's upkeep, run against each of them."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction

from raylake.delta.ledger import OWNER_APP
from raylake.delta.log_reader import LogReader
from raylake.errors import LogDamaged
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import Fence, TableEngine
from raylake.tables.requests import (
    Append,
    Changes,
    Create,
    Delete,
    Read,
    Restore,
    Update,
    Upsert,
    Write,
)
from raylake.tables.service import DirectTables
from raylake.tables.upkeep_requests import (
    AddColumns,
    AddConstraint,
    Checkpoint,
    Clone,
    Compact,
    Convert,
    DropColumn,
    DropConstraint,
    RenameColumn,
    Repartition,
    SetNotNull,
    SetProperties,
    Vacuum,
    WidenColumns,
    ZOrder,
)
from tests.harness.spark import SPARK_IN_LONG
from tests.harness.tables import FEED, SCHEMA, Table, orders
from tests.harness.vectors import delete_by_vector

NO_ENGINE = pytest.mark.parametrize("engine", ["delta-rs"], indirect=True)
"""What no engine has a part in, or is checked before one: the same code runs on Spark
(``test_what_needs_no_engine_is_done_without_one``)."""


@pytest.fixture
def table(engine: TableEngine, tmp_path: Path) -> Table:
    """An empty table with a change feed."""
    made = Table(engine, tmp_path / "orders")
    ready(made).do(Create(SCHEMA, properties=FEED))
    return made


@pytest.fixture
def hundred(table: Table) -> Table:
    """The ids 0 to 99, in version 1."""
    ready(table).do(Append(orders(range(100))))
    return table


def ready(table: Table) -> Table:
    """The same table, for what only makes it ready: what an engine does with it is asked here."""
    return Table(DeltaRsEngine(), table.path)


NOT_NULL = "setnotnull"


def refused(table: Table, kind: type[errors.TableError], operation: Write) -> errors.TableError:
    """The error of an operation that leaves the table as it is, and says so."""
    before, files = table.version, live(table)
    with pytest.raises(kind) as caught:
        table.do(operation)
    assert type(caught.value) is kind
    assert caught.value.to_dict()["table_changed"] is False
    assert (table.version, live(table)) == (before, files)
    return caught.value


def checksum(table: Table, **request: Any) -> Counter[str]:
    """The rows as a multiset."""
    return Counter(json.dumps(row, default=str, sort_keys=True) for row in table.rows(**request))


def filled(table: Table, appends: Iterable[Iterable[int]]) -> Table:
    for ids in appends:
        ready(table).do(Append(orders(ids)))
    return table


def live(table: Table) -> list[str]:
    """The files of the newest version."""
    return DeltaTable(table.path).file_uris()


# -- properties


@pytest.mark.spec("C5")
@NO_ENGINE
def test_properties_are_set_and_unset(hundred: Table) -> None:
    wanted = {
        "delta.targetFileSize": "32mb",
        "delta.checkpointInterval": "7",
        "delta.dataSkippingStatsColumns": "id,amount",
        "team": "orders",
    }
    result = hundred.do(SetProperties(wanted))
    assert (result.version_before, result.version_after) == (1, 2)
    assert DeltaTable(hundred.path).metadata().configuration == {**FEED, **wanted}
    assert not hundred.do(SetProperties(wanted)).changed
    hundred.do(SetProperties(unset=("team", "delta.checkpointInterval")))
    left = DeltaTable(hundred.path).metadata().configuration
    assert set(left) == {*FEED, "delta.targetFileSize", "delta.dataSkippingStatsColumns"}
    hundred.do(Append(orders([200])))
    assert len(hundred.ids()) == 101


@pytest.mark.spec("C5")
@NO_ENGINE
def test_the_change_feed_counts_from_when_it_is_switched_on(engine: Any, tmp_path: Path) -> None:
    made = Table(engine, tmp_path / "t")
    made.do(Create(SCHEMA))
    made.do(SetProperties(FEED))
    made.do(Append(orders([1])))
    made.do(Update({"amount": "5"}, where="id = 1"))
    assert [line[1] for line in made.changes(from_version=2)] == [
        "insert",
        "update_postimage",
        "update_preimage",
    ]


@pytest.mark.spec("C5")
@NO_ENGINE
def test_deletion_vectors_are_allowed_and_nothing_else_that_nobody_asked_for(
    hundred: Table,
) -> None:
    hundred.do(SetProperties({"delta.enableDeletionVectors": "true"}))
    protocol = DeltaTable(hundred.path).protocol()
    assert protocol.reader_features == ["deletionVectors"]
    assert "variantType" not in (protocol.writer_features or ())
    hundred.do(Delete("id < 50"))
    assert hundred.ids() == list(range(50, 100))


@pytest.mark.spec("C5")
@NO_ENGINE
def test_unknown_and_reserved_properties_are_refused_by_name(hundred: Table) -> None:
    for properties, said in (
        ({"delta.targetFilesize": "1mb"}, "targetFileSize"),
        ({"delta.constraints.x": "id > 0"}, "AddConstraint"),
        ({"delta.minWriterVersion": "7"}, "reserved"),
        ({"delta.setTransactionRetentionDuration": "interval 1 days"}, "expire"),
        ({"delta.checkpointInterval": "often"}, "number"),
        ({"delta.enableChangeDataFeed": "yes"}, "true or false"),
        ({"delta.dataSkippingStatsColumns": "idd"}, "'id'"),
        ({"checkpointInterval": "7"}, "delta.checkpointInterval"),
    ):
        with pytest.raises(errors.BadRequest) as caught:
            hundred.do(SetProperties(properties))
        assert said in f"{caught.value.message} {caught.value.hint}"
        assert hundred.version == 1


@pytest.mark.spec("C5")
@NO_ENGINE
@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("delta.clusteringColumns", "liquid clustering"),
        ("delta.feature.clustering", "liquid clustering"),
        ("delta.bloomFilter.enabled", "bloom filters"),
    ],
)
def test_what_no_engine_writes_is_refused_by_name(hundred: Table, key: str, what: str) -> None:
    error = refused(hundred, errors.FeatureUnsupported, SetProperties({key: "true"}))
    assert f"nothing here sets up {what}" in error.message
    assert "Z-order" in error.hint


@pytest.mark.spec("C5")
def test_properties_that_only_spark_honours_are_spark_s(hundred: Table) -> None:
    wanted = {"delta.autoOptimize.optimizeWrite": "true"}
    if hundred.engine.name == "spark":
        assert "Spark's own" in hundred.do(SetProperties(wanted)).why
        assert DeltaTable(hundred.path).metadata().configuration == {**FEED, **wanted}
        assert not hundred.do(SetProperties(wanted)).changed
        hundred.do(SetProperties(unset=tuple(wanted)))
        assert DeltaTable(hundred.path).metadata().configuration == FEED
        return
    for key in (*wanted, "delta.columnMapping.mode", "delta.checkpointPolicy"):
        error = refused(hundred, errors.FeatureUnsupported, SetProperties({key: "true"}))
        assert key in error.message
        assert "spark" in error.hint


# -- constraints


@SPARK_IN_LONG
@pytest.mark.spec("C7")
def test_a_constraint_is_added_when_every_row_fulfils_it(hundred: Table) -> None:
    hundred.do(Append(orders([200, 201], amount=-1)))
    wanted = AddConstraint("positive", "amount >= 0")
    error = refused(hundred, errors.ValuesRefused, wanted)
    assert error.context["rows"] == 2
    hundred.do(Update({"amount": "0"}, where="amount < 0"))
    hundred.do(wanted)
    refused(hundred, errors.ValuesRefused, Append(orders([300], amount=-1)))
    refused(hundred, errors.BadRequest, AddConstraint("Positive", "id > 0"))
    hundred.do(DropConstraint("positive"))
    hundred.do(Append(orders([300], amount=-1)))
    refused(hundred, errors.BadRequest, DropConstraint("positive"))
    refused(hundred, errors.UnknownColumn, AddConstraint("x", "amuont > 0"))


@SPARK_IN_LONG
@pytest.mark.spec("C7")
def test_not_null_is_set_when_every_row_has_a_value(hundred: Table) -> None:
    hundred.do(Append(orders([200], region=[None])))
    error = refused(hundred, errors.ValuesRefused, SetNotNull("region"))
    assert error.context["rows"] == 1
    hundred.do(Update({"region": "'x'"}, where="id = 200"))
    hundred.do(SetNotNull("region"))
    error = refused(hundred, errors.ValuesRefused, Append(orders([201], region=[None])))
    assert "'region'" in error.message
    assert not hundred.do(SetNotNull("region")).changed
    hundred.do(SetNotNull("region", required=False))
    hundred.do(Append(orders([201], region=[None])))
    assert hundred.ids(where="region is null") == [201]
    refused(hundred, errors.UnknownColumn, SetNotNull("regoin"))


# -- schema


@pytest.mark.spec("C7")
@NO_ENGINE
def test_columns_are_added_and_old_versions_stay_as_they_were(hundred: Table) -> None:
    note = pa.field("note", pa.string(), metadata={"comment": "by hand"})
    hundred.do(AddColumns(pa.schema([note, pa.field("seen", pa.timestamp("us"))])))
    assert hundred.rows(where="id = 1")[0]["note"] is None
    assert "note" not in hundred.rows(where="id = 1", version=1)[0]
    fields = {one.name: one for one in DeltaTable(hundred.path).schema().fields}
    assert fields["note"].metadata == {"comment": "by hand"}
    hundred.do(Append(orders([200], note=["n"], seen=[dt.datetime(2026, 1, 1)])))  # noqa: DTZ001
    assert hundred.rows(where="id = 200")[0]["note"] == "n"
    refused(hundred, errors.BadColumnName, AddColumns(pa.schema([("Region", pa.string())])))
    refused(hundred, errors.BadColumnName, AddColumns(pa.schema([("_change_type", pa.string())])))
    required = pa.schema([pa.field("must", pa.int32(), nullable=False)])
    refused(hundred, errors.ValuesRefused, AddColumns(required))


@SPARK_IN_LONG
@pytest.mark.spec("C7")
def test_columns_are_widened_by_a_rewrite_and_old_versions_stay(
    engine: Any, tmp_path: Path
) -> None:
    made = Table(engine, tmp_path / "t")
    schema = pa.schema(
        [
            pa.field("id", pa.int32(), nullable=False),
            ("price", pa.decimal128(9, 2)),
            ("ratio", pa.float32()),
            ("day", pa.date32()),
            ("part", pa.int32()),
        ]
    )
    made.do(Create(schema, ("part",), FEED, {"low": "id >= 0"}))
    day = dt.date(2026, 1, 31)
    values = {
        "id": [1, 2],
        "price": [decimal.Decimal("1.25"), None],
        "ratio": [0.5, None],
        "day": [day, None],
        "part": [7, None],
    }
    made.do(Append(pa.table(values, schema=schema)))
    made.do(Append(pa.table(values, schema=schema)))
    wanted = {
        "id": pa.int64(),
        "price": pa.decimal128(18, 4),
        "ratio": pa.float64(),
        "day": pa.timestamp("us"),
        "part": pa.int64(),
    }
    before = made.version
    result = made.do(WidenColumns(wanted))
    assert result.rows.copied == 4
    now = made.engine.read(str(made.path), Read()).read_all()
    assert {one.name: one.type for one in now.schema} == wanted
    assert not now.schema.field("id").nullable
    assert sorted(now.column("ratio").to_pylist(), key=str) == [0.5, 0.5, None, None]
    assert Counter(now.column("part").to_pylist()) == {7: 2, None: 2}
    old = made.engine.read(str(made.path), Read(version=before)).read_all()
    assert old.schema.field("id").type == pa.int32()
    assert old.num_rows == 4
    assert not made.do(WidenColumns({"id": pa.int64()})).changed
    made.do(Append(pa.table({"id": [2**40], "part": [2**40]})))
    assert made.ids(where=f"id = {2**40}") == [2**40]
    seen = made.engine.changes(
        str(made.path), Changes(from_version=result.version_after, to_version=result.version_after)
    )
    assert seen.read_all().num_rows == 0


@pytest.mark.spec("C7")
@NO_ENGINE
def test_failure_30_a_type_is_not_narrowed(hundred: Table) -> None:
    refused(hundred, errors.SchemaNarrowed, WidenColumns({"id": pa.int32()}))
    refused(hundred, errors.SchemaNarrowed, WidenColumns({"id": pa.float64()}))
    refused(hundred, errors.SchemaMismatch, WidenColumns({"id": pa.string()}))
    refused(hundred, errors.SchemaMismatch, WidenColumns({"at": pa.date32()}))
    refused(hundred, errors.UnknownColumn, WidenColumns({"idd": pa.int64()}))


@pytest.mark.spec("C7")
def test_renaming_and_dropping_need_column_mapping(hundred: Table) -> None:
    for operation in (RenameColumn("region", "area"), DropColumn("region")):
        error = refused(hundred, errors.FeatureUnsupported, operation)
        assert "columnMapping" in error.message
        assert "spark" in error.hint
        with pytest.raises(errors.NoEngine, match="columnMapping"):
            DirectTables().explain(str(hundred.path), operation)


@SPARK_IN_LONG
@pytest.mark.spec("C7")
def test_partition_columns_are_changed_by_a_rewrite(hundred: Table) -> None:
    before = checksum(hundred)
    result = hundred.do(Repartition(("region",)))
    assert result.rows.copied == 100
    assert checksum(hundred) == before == checksum(hundred, version=1)
    assert len(live(hundred)) == 10
    assert all("region=r" in one for one in live(hundred))
    hundred.do(Append(orders([200, 201])))
    hundred.do(Repartition(("amount", "region")))
    assert len(hundred.ids()) == 102
    hundred.do(Repartition(()))
    assert len(hundred.ids()) == 102
    assert len(live(hundred)) == 1
    assert checksum(hundred, version=2) == before
    refused(hundred, errors.UnknownColumn, Repartition(("regoin",)))
    refused(hundred, errors.BadRequest, Repartition(("place",)))


# -- what needs no engine


@pytest.mark.spec("C5", "C7", "F1")
def test_what_needs_no_engine_is_done_without_one(hundred: Table, tmp_path: Path) -> None:
    ready(hundred).do(AddConstraint("low", "id >= 0"))
    asked = (
        SetProperties({"delta.targetFileSize": "32mb"}),
        SetProperties(unset=("delta.targetFileSize",)),
        AddColumns(pa.schema([("note", pa.string())])),
        SetNotNull("id", required=False),
        DropConstraint("low"),
        Checkpoint(),
        Vacuum(dry_run=True),
    )
    results = [hundred.do(one) for one in asked]
    made = [one.version_after - one.version_before for one in results]
    assert made == [1, 1, 1, 1, 1, 0, 0]
    copy = Table(hundred.engine, tmp_path / "copy")
    results.append(copy.do(Clone(str(hundred.path))))
    folder = Table(hundred.engine, tmp_path / "folder")
    folder.path.mkdir()
    pq.write_table(orders(range(5)), folder.path / "a.parquet")
    results.append(folder.do(Convert()))
    assert (ready(copy).ids(), ready(folder).ids()) == (list(range(100)), list(range(5)))
    assert {one.engine for one in results} == {hundred.engine.name}
    if hundred.engine.name == "spark":
        assert all("without an engine" in one.why for one in results if one.operation != NOT_NULL)
    said = hundred.engine.history(str(hundred.path), 1)[0]
    assert (said.operation, said.engine) == ("DROP CONSTRAINT", "RayLake")


# -- compaction and Z-order


@SPARK_IN_LONG
@pytest.mark.spec("F1")
def test_small_files_become_one_and_the_rows_stay(table: Table) -> None:
    filled(table, [range(n * 10, n * 10 + 10) for n in range(6)])
    before = checksum(table)
    result = table.do(Compact())
    assert (result.files.removed, result.files.added) == (6, 1)
    assert result.rows.copied == 60
    assert checksum(table) == before == checksum(table, version=6)
    assert table.changes(from_version=result.version_after) == []
    again = table.do(Compact())
    assert not again.changed
    assert "nothing to gain" in again.note
    table.do(Restore(version=3))
    assert table.ids() == list(range(30))


@SPARK_IN_LONG
@pytest.mark.spec("F1")
def test_partitions_are_compacted_apart_and_as_asked(engine: Any, tmp_path: Path) -> None:
    made = Table(engine, tmp_path / "t")
    made.do(Create(SCHEMA, ("region",)))
    filled(made, [range(n * 20, n * 20 + 20) for n in range(3)])
    made.do(Append(orders([1000, 1001], region=[None, None])))
    made.do(Append(orders([1002], region=[None])))
    before = checksum(made)
    assert len(live(made)) == 32
    result = made.do(Compact(where="region in ('r1', 'r2')"))
    assert (result.files.removed, result.files.added) == (6, 2)
    result = made.do(Compact(where="region is null"))
    assert (result.files.removed, result.files.added) == (2, 1)
    made.do(Compact())
    assert len(live(made)) == 11
    assert checksum(made) == before
    assert made.ids(where="region is null") == [1000, 1001, 1002]
    refused(made, errors.BadRequest, Compact(where="id = 1"))
    refused(made, errors.BadRequest, Compact(target_file_bytes=0))


@pytest.mark.spec("F1")
def test_bins_keep_to_the_target_size(table: Table) -> None:
    filled(table, [range(n * 10, n * 10 + 10) for n in range(6)])
    size = max(int(Path(one).stat().st_size) for one in live(table))
    result = table.do(Compact(target_file_bytes=2 * size))
    assert (result.files.removed, result.files.added) == (6, 3)
    assert table.ids() == list(range(60))


@pytest.mark.spec("F1")
def test_rows_that_a_vector_took_stay_away(hundred: Table) -> None:
    delete_by_vector(hundred.path, [3, 5, 8])
    gone = [n for n in range(100) if n not in (3, 5, 8)]
    assert hundred.ids() == gone
    hundred.do(Append(orders([200])))
    result = hundred.do(Compact())
    assert (result.files.removed, result.files.added, result.rows.copied) == (2, 1, 98)
    assert hundred.ids() == [*gone, 200]
    assert hundred.ids(version=2) == gone
    hundred.do(Checkpoint())
    assert hundred.ids() == [*gone, 200]


@SPARK_IN_LONG
@pytest.mark.spec("F1")
def test_a_file_with_many_deleted_rows_is_written_anew_alone(hundred: Table) -> None:
    delete_by_vector(hundred.path, [1])
    assert not hundred.do(Compact()).changed
    delete_by_vector(hundred.path, list(range(20)))
    result = hundred.do(Compact())
    assert (result.files.removed, result.files.added) == (1, 1)
    assert hundred.ids() == list(range(20, 100))


@pytest.mark.spec("F1", "C5")
def test_z_order_brings_near_values_together(engine: Any, tmp_path: Path) -> None:
    made = Table(engine, tmp_path / "t")
    schema = pa.schema([("x", pa.int64()), ("y", pa.string()), ("v", pa.int64())])
    made.do(Create(schema, properties={"delta.dataSkippingStatsColumns": "v"}))
    side = 32
    points = [(x, y) for x in range(side) for y in range(side)]
    for start in range(4):
        some = points[start::4]
        rows = {
            "x": [x for x, _ in some],
            "y": [f"k{y:03d}" for _, y in some],
            "v": [1] * len(some),
        }
        made.do(Append(pa.table(rows, schema=schema)))
    before = checksum(made)
    result = made.do(ZOrder(("x", "y")))
    assert result.files.removed == 4
    assert checksum(made) == before
    # Whatever else the table keeps statistics of: by these files can be left out now.
    commit = LogReader(str(made.path)).commit(result.version_after)
    (kept,) = (json.loads(one["stats"]) for one in commit.adds())
    assert (kept["minValues"]["x"], kept["maxValues"]["y"], kept["minValues"]["v"]) == (
        0,
        "k031",
        1,
    )
    assert made.engine.history(str(made.path), 1)[0].operation == "OPTIMIZE"
    refused(made, errors.UnknownColumn, ZOrder(("xx",)))
    refused(made, errors.BadRequest, ZOrder(()))


# -- vacuum


def _old(table: Table, days: int = 30) -> None:
    """Everything in the table's folder, and in its log, was made so long ago."""
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    stamp = int(past.timestamp())
    for path in table.path.rglob("*"):
        if path.suffix == ".json" and path.stem.isdigit():
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for one in lines:
                if "commitInfo" in one:
                    one["commitInfo"]["timestamp"] = stamp * 1000 + int(path.stem)
                if "remove" in one:
                    one["remove"]["deletionTimestamp"] = stamp * 1000
            path.write_text("\n".join(json.dumps(one) for one in lines) + "\n")
        if path.is_file():
            os.utime(path, (stamp, stamp))


@pytest.mark.spec("F1", "C9")
@NO_ENGINE
def test_vacuum_deletes_what_no_version_within_the_retention_needs(hundred: Table) -> None:
    hundred.do(Delete("id < 50"))
    _old(hundred)
    hundred.do(Delete("id >= 90"))
    kept = hundred.ids(version=2)
    listed = hundred.do(Vacuum(dry_run=True))
    assert listed.files.removed == len(listed.paths) == 2
    assert all((hundred.path / one).exists() for one in listed.paths)
    result = hundred.do(Vacuum())
    assert result.paths == listed.paths
    assert result.files.removed_bytes > 0
    assert not any((hundred.path / one).exists() for one in listed.paths)
    assert hundred.ids() == list(range(50, 90))
    # The version that was the newest one when the retention began is within it.
    assert hundred.ids(version=2) == kept
    with pytest.raises(errors.VersionGone, match="oldest that is left is 2"):
        hundred.ids(version=1)


@pytest.mark.spec("F1")
@NO_ENGINE
def test_failure_27_vacuum_takes_nothing_from_writers_readers_or_pinned_versions(
    hundred: Table,
) -> None:
    hundred.do(SetProperties({"delta.enableChangeDataFeed": "false"}))
    hundred.do(Delete("id < 50"))
    _old(hundred)
    orphan = hundred.path / "part-crashed.parquet"
    orphan.write_bytes(b"never committed")
    os.utime(orphan, (1, 1))
    notes = hundred.path / "notes.txt"
    notes.write_text("mine")
    os.utime(notes, (1, 1))
    uploading = hundred.path / "part-uploading.parquet"
    uploading.write_bytes(b"not committed yet")
    pinned = hundred.do(Vacuum(keep_versions=(1,), orphans=True, dry_run=True))
    assert pinned.paths == ("part-crashed.parquet",)
    refused(hundred, errors.BadRequest, Vacuum(retention_hours=1))
    hundred.do(Vacuum(keep_versions=(1,)))
    assert orphan.exists()
    assert len(hundred.ids(version=1)) == 100
    hundred.do(Vacuum(keep_versions=(1,), orphans=True))
    assert not orphan.exists()
    assert uploading.exists()
    assert notes.exists()
    hundred.do(Vacuum())
    with pytest.raises(errors.VersionGone):
        hundred.ids(version=1)
    assert hundred.ids() == list(range(50, 100))
    hundred.do(Vacuum(retention_hours=0, allow_short_retention=True, orphans=True))
    assert not uploading.exists()
    assert hundred.ids() == list(range(50, 100))


@pytest.mark.spec("F1")
@NO_ENGINE
def test_vacuum_after_a_checkpoint_knows_what_was_removed(hundred: Table) -> None:
    delete_by_vector(hundred.path, [1, 2])
    hundred.do(Compact())
    hundred.do(Delete("id = 7"))
    hundred.do(Checkpoint())
    for path in sorted((hundred.path / "_delta_log").glob("*.json"))[:-1]:
        path.unlink()
    before = hundred.ids()
    assert hundred.do(Vacuum(dry_run=True)).paths == ()
    result = hundred.do(Vacuum(retention_hours=0, allow_short_retention=True))
    assert len(result.paths) >= 1
    assert hundred.ids() == before


# -- checkpoints


@pytest.mark.spec("F1")
@NO_ENGINE
def test_a_checkpoint_is_written_once(hundred: Table) -> None:
    first = hundred.do(Checkpoint())
    assert (hundred.path / "_delta_log" / f"{1:020d}.checkpoint.parquet").exists()
    assert not first.changed
    assert "already" in hundred.do(Checkpoint()).note
    assert len(hundred.ids()) == 100


@pytest.mark.spec("F1")
@NO_ENGINE
def test_failure_28_a_truncated_checkpoint_is_named_and_repaired(hundred: Table) -> None:
    hundred.do(Checkpoint())
    hundred.do(Append(orders([100])))
    bad = hundred.path / "_delta_log" / f"{1:020d}.checkpoint.parquet"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(LogDamaged, match="1"):
        hundred.do(Checkpoint())
    result = hundred.do(Checkpoint(repair=True))
    assert result.paths == (bad.name,)
    assert not bad.exists()
    assert hundred.ids() == list(range(101))
    assert (hundred.path / "_delta_log" / f"{2:020d}.checkpoint.parquet").exists()


@pytest.mark.spec("F1")
@NO_ENGINE
def test_failure_28_a_checkpoint_that_the_log_needs_stays(hundred: Table) -> None:
    hundred.do(Checkpoint())
    hundred.do(Append(orders([100])))
    for version in (0, 1):
        (hundred.path / "_delta_log" / f"{version:020d}.json").unlink()
    bad = hundred.path / "_delta_log" / f"{1:020d}.checkpoint.parquet"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(LogDamaged):
        hundred.do(Checkpoint(repair=True))
    assert bad.exists()


# -- clones


@pytest.mark.spec("C4")
@NO_ENGINE
def test_a_deep_clone_is_a_table_of_its_own(engine: Any, tmp_path: Path) -> None:
    source = Table(engine, tmp_path / "source")
    source.do(Create(SCHEMA, ("region",), FEED, {"positive": "amount >= 0"}, "as they came"))
    source.do(Append(orders(range(20))))
    source.do(Delete("id >= 10"))
    made = Table(engine, tmp_path / "clone")
    result = made.do(Clone(str(source.path), version=source.version - 1))
    assert (result.version_after, result.rows.inserted) == (0, 20)
    assert checksum(made) == checksum(source, version=source.version - 1)
    before, after = (DeltaTable(one.path).metadata() for one in (source, made))
    assert after.id != before.id
    assert after.configuration == before.configuration
    assert (after.description, after.partition_columns) == ("as they came", ["region"])
    refused(made, errors.ValuesRefused, Append(orders([1], amount=-1)))
    made.do(Delete("id < 5"))
    for path in source.path.rglob("*.parquet"):
        path.unlink()
    assert made.ids() == list(range(5, 20))
    refused(made, errors.TableExists, Clone(str(source.path)))


@pytest.mark.spec("C4")
@NO_ENGINE
def test_a_clone_leaves_deleted_rows_and_the_ledger_behind(hundred: Table, tmp_path: Path) -> None:
    delete_by_vector(hundred.path, [1, 2])
    handle = DeltaTable(hundred.path)
    mine = CommitProperties(app_transactions=[Transaction(OWNER_APP, 1)])
    handle.create_write_transaction([], "append", handle.schema(), commit_properties=mine)
    made = Table(hundred.engine, tmp_path / "clone")
    made.do(Clone(str(hundred.path)))
    assert made.ids() == hundred.ids()
    made.do(Append(orders([500])))
    with pytest.raises(errors.OwnerOnly):
        hundred.do(Compact())


@SPARK_IN_LONG
@pytest.mark.spec("C4")
def test_a_shallow_clone_names_the_files_of_its_source(hundred: Table, tmp_path: Path) -> None:
    hundred.do(Append(orders([100])))
    made = Table(hundred.engine, tmp_path / "clone")
    result = made.do(Clone(str(hundred.path), deep=False))
    assert list(made.path.rglob("*.parquet")) == []
    assert "vacuum" in result.note
    assert made.ids() == list(range(101))
    made.do(Append(orders([200])))
    before = checksum(made)
    if made.engine.name == "delta-rs":
        # It takes no file away that lies elsewhere; a compaction of ours brings the rows here.
        for operation in (
            Upsert(orders([5], amount=9), ("id",)),
            Update({"amount": "9"}, where="id = 5"),
            Delete("id = 7"),
        ):
            assert "shallow" in refused(made, errors.FeatureUnsupported, operation).message
    made.do(Compact())
    assert checksum(made) == before
    assert made.ids(version=0) == list(range(101))
    made.do(Upsert(orders([5], amount=9), ("id",)))
    made.do(Delete("id = 7"))
    assert made.amounts(where="id in (5, 7, 200)") == {5: 9, 200: 1}
    assert all(str(made.path) in one for one in live(made))
    assert hundred.ids() == list(range(101))
    deep = Table(hundred.engine, tmp_path / "deep")
    deep.do(Clone(str(made.path), version=0))
    assert deep.ids() == list(range(101))


@pytest.mark.spec("C4")
@NO_ENGINE
def test_a_clone_of_what_is_not_there_makes_nothing(hundred: Table, tmp_path: Path) -> None:
    made = Table(hundred.engine, tmp_path / "clone")
    with pytest.raises(errors.TableMissing):
        made.do(Clone(str(tmp_path / "nothing")))
    with pytest.raises(errors.VersionUnknown):
        made.do(Clone(str(hundred.path), version=9))
    with pytest.raises(errors.VersionAndTime):
        made.do(Clone(str(hundred.path), version=1, at="2026-01-01T00:00:00Z"))
    assert not made.path.exists()
    made.path.mkdir()
    (made.path / "something").write_text("of mine")
    with pytest.raises(errors.TableExists):
        made.do(Clone(str(hundred.path)))


# -- tables with an owner


@SPARK_IN_LONG
@pytest.mark.spec("F1")
def test_a_compaction_under_a_slot_carries_the_slot_s_number(hundred: Table) -> None:
    hundred.do(Append(orders([100])))
    accounted = [Transaction(OWNER_APP, 7), Transaction("raylake/shop/orders/topic-id/0/next", 100)]
    handle = DeltaTable(hundred.path)
    mine = CommitProperties(app_transactions=accounted)
    handle.create_write_transaction([], "append", handle.schema(), commit_properties=mine)
    refused(hundred, errors.OwnerOnly, Compact())
    for wrong in (7, 9):
        with pytest.raises(errors.SlotClosed):
            hundred.engine.execute(str(hundred.path), Compact(), fence=Fence(OWNER_APP, wrong))
    before = checksum(hundred)
    result = hundred.engine.execute(str(hundred.path), Compact(), fence=Fence(OWNER_APP, 8))
    assert (result.files.removed, result.files.added) == (2, 1)
    assert checksum(hundred) == before
    after = DeltaTable(hundred.path)
    assert after.transaction_version(OWNER_APP) == 8
    assert after.transaction_version(accounted[1].app_id) == 100
    wider = WidenColumns({"amount": pa.int64()})
    with pytest.raises(errors.OwnerOnly, match="offsets"):
        hundred.engine.execute(str(hundred.path), wider, fence=Fence(OWNER_APP, 9))
