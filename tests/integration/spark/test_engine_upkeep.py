"""Upkeep by Spark: its work is done aside, and RayLake commits it, or not at all (ADR 32)."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from raylake.delta.ledger import OWNER_APP, owner_number
from raylake.errors import RayLakeError
from raylake.spark.engine import SparkEngine
from raylake.spark.engine_sessions import one_session
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import Fence
from raylake.tables.requests import Append, Changes, Create, Delete, Scd2
from raylake.tables.scd2 import table_for
from raylake.tables.upkeep_requests import (
    AddColumns,
    AddConstraint,
    Compact,
    DropColumn,
    DropConstraint,
    RenameColumn,
    Repartition,
    SetNotNull,
    SetProperties,
    Vacuum,
    ZOrder,
)
from tests.contract.test_table_upkeep import checksum, live
from tests.harness.tables import FEED, NOON, SCHEMA, Table, orders
from tests.harness.vectors import delete_by_vector
from tests.integration.spark.test_engine_fences import takes_over

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

VERSIONS = pa.schema([("k", pa.string()), ("v", pa.int64()), ("at", pa.timestamp("us", "UTC"))])


@pytest.fixture
def table(spark: SparkSession, tmp_path: Path) -> Table:
    """Forty rows in four files, by Spark's engine."""
    made = Table(SparkEngine(one_session(spark)), tmp_path / "t")
    by_delta_rs(made).do(Create(SCHEMA))
    fill(made)
    return made


def by_delta_rs(table: Table) -> Table:
    return Table(DeltaRsEngine(), table.path)


def fill(table: Table) -> None:
    for start in range(0, 40, 10):
        by_delta_rs(table).do(Append(orders(range(start, start + 10))))


def between(spark: SparkSession, table: Table, act: Callable[[], object]) -> Table:
    """The same table by an engine; ``act`` happens once, after it has looked at the table."""
    left = [act]

    def sessions(_: str) -> SparkSession:
        while left:
            left.pop()()
        return spark.newSession()

    return Table(SparkEngine(sessions), table.path)


def leftovers(table: Table) -> list[str]:
    """Data files that no version names, and logs in folders of the table."""
    named = {Path(one).name for one in live(table)}
    for version in range(table.version):
        named |= {Path(one).name for one in DeltaTable(table.path, version=version).file_uris()}
    found = [one.name for one in table.path.rglob("*.parquet") if one.name not in named]
    return found + [str(one) for one in table.path.rglob("*/_delta_log")]


def info(table: Table) -> dict[str, Any]:
    last = table.path / "_delta_log" / f"{table.version:020d}.json"
    actions = [json.loads(line) for line in last.read_text().splitlines()]
    found: dict[str, Any] = next(one["commitInfo"] for one in actions if "commitInfo" in one)
    return found


def changes(*rows: tuple[str, int, int]) -> Scd2:
    found = [{"k": k, "v": v, "at": NOON + dt.timedelta(minutes=m)} for k, v, m in rows]
    return Scd2(pa.Table.from_pylist(found, schema=VERSIONS), ("k",), ("at",), track=("v",))


@pytest.mark.spec("F1", "C6")
def test_spark_writes_the_files_and_the_commit_says_so(table: Table) -> None:
    before = checksum(by_delta_rs(table))
    result = table.do(Compact())
    assert (result.engine, result.files.removed, result.files.added) == ("spark", 4, 1)
    assert (result.rows.copied, result.version_after) == (40, 5)
    said = info(table)
    assert said["operation"] == "OPTIMIZE"
    assert "Apache-Spark/3.5" in said["engineInfo"]
    assert "Delta-Lake/3.3" in said["engineInfo"]
    (file,) = live(table)
    footer = pq.read_metadata(file)
    assert b"org.apache.spark.version" in footer.metadata
    assert checksum(by_delta_rs(table)) == before == checksum(table)
    assert leftovers(table) == []
    table.do(ZOrder(("region", "id")))
    assert "Apache-Spark/3.5" in info(table)["engineInfo"]
    assert checksum(by_delta_rs(table)) == before
    assert leftovers(table) == []


@pytest.mark.long
@pytest.mark.spec("F1")
def test_statistics_of_files_that_spark_wrote_lead_to_the_rows(
    spark: SparkSession, tmp_path: Path
) -> None:
    made = Table(SparkEngine(one_session(spark)), tmp_path / "t")
    schema = pa.schema([("p", pa.string()), ("ratio", pa.float64()), ("text", pa.string())])
    by_delta_rs(made).do(Create(schema, ("p",)))
    odd = ["a b", "a/b", "it's", "ü%", None]
    for start in range(2):
        rows = {
            "p": odd * 4,
            "ratio": [float("nan") if n == 7 else start + n / 20 for n in range(20)],
            "text": [f"{'x' * 40}{n:03d}" for n in range(20)],
        }
        by_delta_rs(made).do(Append(pa.table(rows, schema=schema)))
    before = checksum(by_delta_rs(made))
    assert made.do(Compact()).files.added == len(odd)
    for reader in (made, by_delta_rs(made)):
        assert checksum(reader) == before
        # 0.95, those from one on, and both NaN, which are above every number.
        assert len(reader.rows(where="ratio > 0.9")) == 1 + 19 + 2
        assert len(reader.rows(where=f"text >= '{'x' * 40}019'")) == 2
        assert len(reader.rows(where="p = 'a/b' and ratio >= 1")) == 4


@pytest.mark.long
@pytest.mark.spec("F1", "D2")
def test_vectors_that_spark_wrote_are_found_from_beside(
    spark: SparkSession, tmp_path: Path
) -> None:
    made = Table(SparkEngine(one_session(spark)), tmp_path / "a b ü")
    vectors = {"delta.enableDeletionVectors": "true"}
    by_delta_rs(made).do(Create(SCHEMA))
    by_delta_rs(made).do(SetProperties(vectors))
    fill(made)
    made.do(Delete("id in (3, 13)"))
    assert list(made.path.glob("deletion_vector_*.bin"))
    gone = [n for n in range(40) if n not in (3, 13)]
    assert made.do(Compact()).rows.copied == len(gone)
    assert by_delta_rs(made).ids() == gone == made.ids()

    kept = Table(made.engine, tmp_path / "c d ü")
    by_delta_rs(kept).do(table_for(changes(("a", 1, 0))))
    by_delta_rs(kept).do(SetProperties(vectors))
    by_delta_rs(kept).do(changes(("a", 1, 0), ("b", 1, 0), ("c", 1, 0)))
    kept.do(Delete("k = 'c'"))
    assert list(kept.path.glob("deletion_vector_*.bin"))
    kept.do(changes(("a", 2, 5)))
    found = sorted((row["k"], row["v"]) for row in by_delta_rs(kept).rows())
    assert found == [("a", 1), ("a", 2), ("b", 1)]
    assert DeltaTable(kept.path).metadata().configuration == vectors


@pytest.mark.spec("C6")
def test_failure_23_a_compaction_that_lost_is_done_again_and_nothing_is_doubled(
    table: Table, spark: SparkSession
) -> None:
    before = checksum(by_delta_rs(table))
    other = by_delta_rs(table)
    result = between(spark, table, lambda: other.do(Compact())).do(Compact())
    assert (result.attempts, result.changed) == (2, False)
    assert checksum(other) == before
    assert len(live(table)) == 1
    result = between(spark, table, lambda: other.do(ZOrder(("region",)))).do(ZOrder(("id",)))
    assert (result.attempts, result.changed) == (2, True)
    assert checksum(other) == before
    assert leftovers(table) == []


@pytest.mark.long
@pytest.mark.spec("C6")
def test_failure_23_what_was_deleted_meanwhile_is_not_brought_back(
    table: Table, spark: SparkSession
) -> None:
    other = by_delta_rs(table)
    # The file keeps its name, and rows of it are deleted: Delta's own retry would not notice.
    late = between(spark, table, lambda: delete_by_vector(table.path, [0, 1]))
    assert late.do(Compact()).attempts == 2
    assert other.ids() == list(range(2, 40))
    other.do(Append(orders(range(40, 50))))
    late = between(spark, table, lambda: other.do(Delete("id = 5")))
    assert late.do(Compact()).attempts == 2
    assert other.ids() == [n for n in range(2, 50) if n != 5]
    assert leftovers(table) == []


@pytest.mark.spec("C6")
def test_failure_21_an_append_does_not_disturb_a_compaction(
    table: Table, spark: SparkSession
) -> None:
    other = by_delta_rs(table)
    act = between(spark, table, lambda: other.do(Append(orders(range(40, 50)))))
    result = act.do(Compact())
    assert (result.attempts, result.version_before, result.files.removed) == (1, 5, 4)
    assert other.ids() == list(range(50))
    assert len(live(table)) == 2


@pytest.mark.long
@pytest.mark.spec("C6")
def test_failure_23_a_new_owner_in_between_fences_a_compaction(
    table: Table, spark: SparkSession
) -> None:
    takes_over(table.path, 3)
    with pytest.raises(errors.OwnerOnly):
        table.do(Compact())
    before = checksum(by_delta_rs(table))
    fence = Fence(OWNER_APP, owner_number(3, 1))
    late = between(spark, table, lambda: takes_over(table.path, 4))
    for operation in (Compact(), ZOrder(("id",)), Repartition(("region",)), SetProperties(FEED)):
        with pytest.raises(errors.SlotClosed) as caught:
            late.do(operation, fence)
        assert caught.value.table_changed is False
        assert len(live(table)) == 4
    assert checksum(by_delta_rs(table)) == before
    assert leftovers(table) == []
    mapping = SetProperties({"delta.columnMapping.mode": "name"})
    with pytest.raises(errors.FeatureUnsupported, match="number"):
        table.do(mapping, Fence(OWNER_APP, owner_number(4, 1)))
    assert table.do(Compact(), Fence(OWNER_APP, owner_number(4, 1))).changed
    assert DeltaTable(table.path).transaction_version(OWNER_APP) == owner_number(4, 1)
    assert table.do(Repartition(("region",)), Fence(OWNER_APP, owner_number(4, 2))).changed
    assert checksum(by_delta_rs(table)) == before


@pytest.mark.long
@pytest.mark.spec("C6")
def test_failure_21_and_23_rows_are_exact_while_both_engines_work(
    table: Table, spark: SparkSession
) -> None:
    failures: list[BaseException] = []

    def work(start: int, engine: Any, operation: Any) -> None:
        mine = Table(engine, table.path)
        try:
            for step in range(3):
                by_delta_rs(table).do(Append(orders([start + step])))
                mine.do(operation)
        except (RayLakeError, AssertionError) as error:
            failures.append(error)

    engine = SparkEngine(one_session(spark))
    doing = (
        (1000, engine, Compact()),
        (2000, engine, ZOrder(("id",))),
        (3000, DeltaRsEngine(), Compact()),
    )
    threads = [threading.Thread(target=work, args=one) for one in doing]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    wanted = [*range(40), *(n + k for n in (1000, 2000, 3000) for k in range(3))]
    assert by_delta_rs(table).ids() == wanted
    assert leftovers(table) == []


@pytest.mark.spec("F1")
def test_a_compaction_that_fails_leaves_nothing_behind(table: Table) -> None:
    damaged = Path(live(table)[0].removeprefix("file://"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.WriteFailed) as caught:
        table.do(Compact())
    assert caught.value.table_changed is False
    assert (table.version, leftovers(table)) == (4, [])
    damaged.write_bytes(whole)
    assert table.do(Compact()).changed


@pytest.mark.spec("C7", "F1")
def test_columns_are_renamed_and_dropped_by_column_mapping(table: Table) -> None:
    before = by_delta_rs(table).rows(columns=("id", "region"))
    table.do(SetProperties({"delta.columnMapping.mode": "name"}))
    mapped = table.version
    result = table.do(RenameColumn("region", "area"))
    assert result.version_after == mapped + 1
    assert [row["area"] for row in table.rows(where="id < 3")] == ["r0", "r1", "r2"]
    table.do(DropColumn("place"))
    assert "place" not in table.rows(where="id = 1")[0]
    for wrong, kind in (
        (RenameColumn("area", "ID"), errors.BadColumnName),
        (RenameColumn("aera", "x"), errors.UnknownColumn),
        (DropColumn("regoin"), errors.UnknownColumn),
        (Compact(where="area = 'r1'"), errors.FeatureUnsupported),
        (Repartition(("area",)), errors.FeatureUnsupported),
    ):
        with pytest.raises(kind) as caught:
            table.do(wrong)
        assert caught.value.table_changed is False
    table.do(Append(orders([40]).select(["id", "amount"])))
    assert table.do(Compact()).files.added == 1
    assert leftovers_of_mapped(table) == []
    assert [row["area"] for row in table.rows(where="id in (1, 40)")] == ["r1", None]
    assert table.rows(columns=("id", "region"), version=mapped - 1) == before
    with pytest.raises(errors.FeatureUnsupported, match="columnMapping") as refused:
        by_delta_rs(table).do(Delete("id = 1"))
    assert "spark" in refused.value.hint


def leftovers_of_mapped(table: Table) -> list[str]:
    return [str(one) for one in table.path.rglob("*/_delta_log")]


@pytest.mark.long
@pytest.mark.spec("C5", "C7")
def test_a_table_that_only_spark_writes_is_altered_by_spark(
    spark: SparkSession, tmp_path: Path
) -> None:
    made = Table(SparkEngine(one_session(spark)), tmp_path / "t")
    made.do(Create(SCHEMA, properties={}))
    made.do(Append(orders(range(5))))
    made.do(SetProperties({"delta.enableRowTracking": "true"}))
    with pytest.raises(errors.FeatureUnsupported, match=r"rowTracking|domainMetadata") as caught:
        made.do(Compact())
    assert caught.value.table_changed is False
    for wrong, kind in (
        (AddConstraint("low", "id > 3"), errors.ValuesRefused),
        (SetNotNull("none"), errors.UnknownColumn),
        (SetNotNull("amount"), errors.FeatureUnsupported),
    ):
        with pytest.raises(kind):
            made.do(wrong)
    note = pa.field("note", pa.string(), metadata={"comment": "it's \\ mine"})
    made.do(AddColumns(pa.schema([note])))
    made.do(AddConstraint("low", "id >= 0"))
    made.do(SetNotNull("id", required=False))
    with pytest.raises(errors.FeatureUnsupported) as caught:
        made.do(Vacuum(dry_run=True))
    assert "in Spark itself" in caught.value.hint
    with pytest.raises(errors.ValuesRefused):
        made.do(Append(orders([-1])))
    made.do(DropConstraint("low"))
    made.do(Append(orders([-1])))
    made.do(SetProperties({"team": "o'rders"}))
    handle = DeltaTable(made.path)
    assert handle.metadata().configuration["team"] == "o'rders"
    assert handle.schema().fields[-1].metadata == {"comment": "it's \\ mine"}
    assert len(made.ids()) == 6


@pytest.mark.long
@pytest.mark.spec("D2", "C6")
def test_versions_of_rows_are_planned_again_where_another_writer_came_first(
    spark: SparkSession, tmp_path: Path
) -> None:
    made = Table(SparkEngine(one_session(spark)), tmp_path / "t")
    made.do(replace(table_for(changes(("a", 1, 0))), properties=FEED))
    other = by_delta_rs(made)
    other.do(changes(("a", 1, 0), ("b", 1, 0)))
    late = between(spark, made, lambda: other.do(changes(("a", 2, 5))))
    result = late.do(changes(("a", 3, 3), ("b", 2, 1)))
    assert (result.attempts, result.engine) == (2, "spark")
    spans = {
        (row["k"], row["v"], row["valid_from"].minute, row["valid_to"] and row["valid_to"].minute)
        for row in other.rows()
    }
    assert spans == {("a", 1, 0, 3), ("a", 3, 3, 5), ("a", 2, 5, None), ("b", 1, 0, 1)} | {
        ("b", 2, 1, None)
    }
    said = info(made)
    assert said["operation"] == "MERGE"
    assert "Apache-Spark/3.5" in said["engineInfo"]
    only = Changes(from_version=result.version_after, to_version=result.version_after)
    seen = other.engine.changes(str(made.path), only).read_all()
    told = sorted(zip(*(seen.column(n).to_pylist() for n in ("k", "_change_type")), strict=True))
    assert {kind for _, kind in told} == {"insert", "update_postimage", "update_preimage"}
    assert leftovers_of_mapped(made) == []
    other.do(Vacuum(retention_hours=0, allow_short_retention=True))
    assert len(made.rows()) == 5
