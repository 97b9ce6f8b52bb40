"""What every table engine does, run against each of them."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction

from raylake.delta.ledger import OWNER_APP
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import TableEngine
from raylake.tables.requests import (
    Append,
    Changes,
    Create,
    Delete,
    DeleteUnmatched,
    Overwrite,
    Read,
    Restore,
    Update,
    UpdateUnmatched,
    Upsert,
    Write,
)
from raylake.tables.upkeep_requests import AddColumns
from tests.harness.spark import SPARK_IN_LONG
from tests.harness.tables import FEED, NAIVE, NOON, SCHEMA, Table, orders


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each engine's first tables are kept, of which tests take copies."""
    return tmp_path_factory.mktemp("templates")


def copy_of(templates: Path, make: Callable[[Table], None], wanted: Table) -> Table:
    """A table as the engine made it; it makes each kind once."""
    made = Table(wanted.engine, templates / f"{wanted.engine.name}-{make.__name__}")
    if not made.path.exists():
        make(made)
    shutil.copytree(made.path, wanted.path)
    return wanted


def empty(made: Table) -> None:
    made.do(Create(SCHEMA, properties=FEED))


def filled(made: Table) -> None:
    empty(made)
    made.do(Append(orders(range(100))))


def without_a_feed(made: Table) -> None:
    made.do(Create(SCHEMA))
    made.do(Append(orders(range(100))))


def in_three(made: Table) -> None:
    empty(made)
    for start in (0, 50, 100):
        made.do(Append(orders(range(start, start + 50))))


def merged_and_deleted(made: Table) -> None:
    filled(made)
    made.do(Upsert(orders([0, 100], 2), ("id",)))
    made.do(Delete("id = 5"))


@pytest.fixture
def table(engine: TableEngine, templates: Path, tmp_path: Path) -> Table:
    """An empty table with a change feed."""
    return copy_of(templates, empty, Table(engine, tmp_path / "orders"))


@pytest.fixture
def hundred(engine: TableEngine, templates: Path, tmp_path: Path) -> Table:
    """The ids 0 to 99, in version 1."""
    return copy_of(templates, filled, Table(engine, tmp_path / "orders"))


@pytest.fixture
def unfed(engine: TableEngine, templates: Path, tmp_path: Path) -> Table:
    """The same without a change feed, where an engine may merge in another way."""
    return copy_of(templates, without_a_feed, Table(engine, tmp_path / "unfed"))


def refused(table: Table, kind: type[errors.TableError], operation: Write) -> errors.TableError:
    """The error of an operation that leaves the table as it is, and says so."""
    before = files_of(table.path)
    with pytest.raises(kind) as caught:
        table.do(operation)
    assert type(caught.value) is kind
    assert caught.value.to_dict()["table_changed"] is False
    after = files_of(table.path)
    assert before.items() <= after.items()
    assert not [name for name in after.keys() - before.keys() if name.endswith(".json")]
    return caught.value


def files_of(path: Path) -> dict[str, int]:
    """The files of a table and their sizes, the log's among them."""
    return {str(file.relative_to(path)): file.stat().st_size for file in path.rglob("*.*")}


# -- writing whole rows


@pytest.mark.spec("C1", "C6")
def test_append_adds_rows_and_says_what_it_did(table: Table) -> None:
    result = table.do(Append(orders(range(100))))
    assert table.ids() == list(range(100))
    assert (result.operation, result.engine) == ("append", table.engine.name)
    assert (result.version_before, result.version_after, result.changed) == (0, 1, True)
    assert (result.rows.source, result.rows.inserted, result.rows.deleted) == (100, 100, 0)
    assert (result.files.added, result.files.removed) == (1, 0)
    assert result.files.added_bytes == sum(f.stat().st_size for f in table.path.glob("*.parquet"))
    assert result.duration_s > 0
    assert result.why


def test_nothing_to_append_makes_no_version(hundred: Table) -> None:
    result = hundred.do(Append(orders([])))
    assert not result.changed
    assert hundred.version == 1


@pytest.mark.spec("C1")
def test_overwrite_replaces_all_rows(hundred: Table) -> None:
    result = hundred.do(Overwrite(orders(range(200, 230))))
    assert hundred.ids() == list(range(200, 230))
    assert (result.rows.inserted, result.rows.deleted) == (30, 100)


@SPARK_IN_LONG
@pytest.mark.spec("C1")
def test_overwrite_where_replaces_those_rows_alone(hundred: Table) -> None:
    result = hundred.do(Overwrite(orders(range(10, 15), amount=7), where="id >= 10 and id < 20"))
    assert hundred.ids() == [*range(15), *range(20, 100)]
    assert [hundred.amounts()[n] for n in (9, 10, 14, 20)] == [1, 7, 7, 1]
    assert (result.rows.inserted, result.rows.deleted) == (5, 10)


def test_rows_outside_of_where_are_refused(hundred: Table) -> None:
    error = refused(hundred, errors.ValuesRefused, Overwrite(orders([50]), where="id < 20"))
    assert "condition" in error.message


@SPARK_IN_LONG
@pytest.mark.spec("C1")
def test_a_partition_is_overwritten_alone(engine: TableEngine, tmp_path: Path) -> None:
    table = Table(engine, tmp_path / "t")
    table.do(Create(SCHEMA, partition_by=("region",)))
    table.do(Append(orders(range(100))))
    result = table.do(Overwrite(orders([3, 13], amount=9), where="region = 'r3'"))
    assert table.ids(where="region = 'r3'") == [3, 13]
    assert len(table.ids()) == 92
    assert (result.rows.inserted, result.rows.deleted) == (2, 10)
    assert (result.files.added, result.files.removed) == (1, 1)


@SPARK_IN_LONG
@pytest.mark.spec("C1", "C7")
def test_overwrite_keeps_properties_constraints_and_comments(
    engine: TableEngine, tmp_path: Path
) -> None:
    table = Table(engine, tmp_path / "t")
    properties = {**FEED, "delta.deletedFileRetentionDuration": "interval 3 days"}
    kept = {"positive": "amount >= 0"}
    table.do(Create(SCHEMA, ("region",), properties, kept, "orders as they came"))
    table.do(Append(orders(range(20))))
    before = DeltaTable(table.path)
    table.do(Overwrite(orders(range(5))))
    table.do(Overwrite(orders([7]), where="region = 'r7'"))
    after = DeltaTable(table.path)
    assert after.metadata().configuration == before.metadata().configuration
    assert after.metadata().configuration.items() >= properties.items()
    assert after.metadata().description == "orders as they came"
    assert after.schema().to_json() == before.schema().to_json()
    refused(table, errors.ValuesRefused, Append(orders([8], amount=-1)))


@SPARK_IN_LONG
@pytest.mark.spec("C1", "C7")
def test_overwrite_gives_another_schema_and_keeps_what_stays(
    engine: TableEngine, tmp_path: Path
) -> None:
    table = Table(engine, tmp_path / "t")
    loose = pa.schema([field.with_nullable(True) for field in SCHEMA])
    table.do(Create(loose, ("region",), FEED, {"positive": "amount >= 0"}, "as they came"))
    table.do(Append(orders(range(20))))
    before = DeltaTable(table.path).metadata()
    wider = orders(range(5), note=["a"] * 5).drop_columns(["place"])
    wider = wider.cast(pa.schema([field.with_nullable(True) for field in wider.schema]))
    table.do(Overwrite(wider, schema="overwrite"))
    after = DeltaTable(table.path)
    assert after.metadata().configuration == before.configuration
    assert after.metadata().description == "as they came"
    assert after.metadata().partition_columns == ["region"]
    fields = {f.name: f for f in after.schema().fields}
    assert list(fields) == ["id", "region", "amount", "at", "note"]
    assert fields["amount"].metadata == {"comment": "in cents"}
    assert [row["note"] for row in table.rows()] == ["a"] * 5
    negative = orders([8], amount=-1).drop_columns(["place"])
    refused(table, errors.ValuesRefused, Append(negative))
    narrower = wider.drop_columns(["amount"])
    refused(table, errors.SchemaMismatch, Overwrite(narrower, schema="overwrite"))


@pytest.mark.spec("C1", "C7")
def test_not_null_is_kept_by_an_overwrite_of_the_schema_or_it_is_refused(hundred: Table) -> None:
    overwrite = Overwrite(orders(range(5), note=["a"] * 5), schema="overwrite")
    if hundred.engine.name == "spark":
        error = refused(hundred, errors.FeatureUnsupported, overwrite)
        assert "engine: delta-rs" in error.hint
        return
    hundred.do(overwrite)
    fields = {f.name: f for f in DeltaTable(hundred.path).schema().fields}
    assert not fields["id"].nullable
    assert fields["note"].nullable


@SPARK_IN_LONG
@pytest.mark.spec("C7")
def test_a_constraint_holds_for_each_operation(engine: TableEngine, tmp_path: Path) -> None:
    table = Table(engine, tmp_path / "t")
    table.do(Create(SCHEMA, constraints={"positive": "amount >= 0"}))
    table.do(Append(orders(range(10))))
    for operation in (
        Append(orders([10], amount=-1)),
        Overwrite(orders([10], amount=-1)),
        Upsert(orders([3], amount=-1), keys=("id",)),
        Update({"amount": "-1"}, where="id = 3"),
    ):
        error = refused(table, errors.ValuesRefused, operation)
        assert "positive" in error.message


# -- upsert


@pytest.mark.spec("C2")
def test_a_hundred_rows_then_fifty_updates_and_fifty_inserts_make_150(unfed: Table) -> None:
    result = unfed.do(Upsert(orders(range(50, 150), amount=2), keys=("id",)))
    assert unfed.amounts() == {n: 1 if n < 50 else 2 for n in range(150)}
    assert (result.rows.inserted, result.rows.updated, result.rows.deleted) == (50, 50, 0)
    assert (result.rows.source, result.rows.duplicates) == (100, 0)
    assert result.version_after == result.version_before + 1 == 2


@SPARK_IN_LONG
@pytest.mark.spec("C2")
def test_a_composite_key_matches_by_all_its_columns(unfed: Table) -> None:
    unfed.do(Upsert(orders([1, 2], 5, region=["r1", "other"]), keys=("id", "region")))
    found = [(r["id"], r["region"], r["amount"]) for r in unfed.rows(where="id in (1, 2)")]
    assert sorted(found) == [(1, "r1", 5), (2, "other", 5), (2, "r2", 1)]


@pytest.mark.spec("C2")
def test_conditions_decide_on_update_insert_and_delete(unfed: Table) -> None:
    source = orders(range(90, 110), amount=3, op=["D" if n % 2 else "U" for n in range(90, 110)])
    result = unfed.do(
        Upsert(
            source,
            keys=("id",),
            update_when="source.amount > target.amount and source.id <> 92",
            insert_when="id < 106",
            delete_when="op = 'D'",
        )
    )
    amounts = unfed.amounts()
    assert [n for n in amounts if n >= 90] == [90, 92, 94, 96, 98, 100, 102, 104]
    assert (amounts[90], amounts[92], amounts[100]) == (3, 1, 3)
    assert "op" not in DeltaTable(unfed.path).schema().to_json()
    assert (result.rows.updated, result.rows.inserted, result.rows.deleted) == (4, 3, 5)


@pytest.mark.spec("C2")
def test_column_subsets_leave_the_other_columns_alone(unfed: Table) -> None:
    source = orders([5, 500], amount=9, region=["new", "new"])
    unfed.do(Upsert(source, ("id",), columns=("amount",), insert_columns=("region",)))
    found = {r["id"]: (r["region"], r["amount"]) for r in unfed.rows(where="id in (5, 500)")}
    assert found == {5: ("r5", 9), 500: ("new", None)}


@pytest.mark.spec("C2")
def test_insert_only_leaves_matching_rows_alone(unfed: Table) -> None:
    result = unfed.do(Upsert(orders(range(95, 105), 9), ("id",), insert_only=True))
    assert (result.rows.inserted, result.rows.updated) == (5, 0)
    assert unfed.amounts(where="id >= 95") == {n: 1 if n < 100 else 9 for n in range(95, 105)}


@SPARK_IN_LONG
@pytest.mark.spec("C2")
def test_rows_that_the_source_lacks_are_deleted_or_updated(unfed: Table) -> None:
    gone = UpdateUnmatched({"amount": "-1", "region": "'gone'"}, where="id >= 98")
    result = unfed.do(Upsert(orders(range(10)), ("id",), not_matched_by_source=gone))
    found = {r["id"]: (r["region"], r["amount"]) for r in unfed.rows(where="id >= 97")}
    assert found == {97: ("r7", 1), 98: ("gone", -1), 99: ("gone", -1)}
    assert result.rows.updated == 12
    where = DeleteUnmatched("target.id < 90")
    result = unfed.do(Upsert(orders(range(5)), ("id",), not_matched_by_source=where))
    assert unfed.ids() == [*range(5), *range(90, 100)]
    assert result.rows.deleted == 85


def test_an_upsert_of_nothing_makes_no_version(unfed: Table) -> None:
    assert not unfed.do(Upsert(orders([]), ("id",))).changed
    assert unfed.version == 1


@SPARK_IN_LONG
@pytest.mark.spec("C2", "C7")
def test_upsert_adds_columns_when_asked(hundred: Table) -> None:
    source = orders([1, 200], note=["a", "b"])
    refused(hundred, errors.SchemaMismatch, Upsert(source, ("id",)))
    table = Table(hundred.engine, hundred.path.parent / "nullable")
    table.do(Create(pa.schema([field.with_nullable(True) for field in SCHEMA])))
    table.do(Append(orders(range(100))))
    table.do(Upsert(source, ("id",), schema="merge"))
    found = {r["id"]: r["note"] for r in table.rows(where="id in (1, 2, 200)")}
    assert found == {1: "a", 2: None, 200: "b"}
    if hundred.engine.name == "delta-rs":
        # Its own merge takes every row that it copies for one without the required column.
        computed = "source.amount + 1 > target.amount"
        left = Upsert(source, ("id",), update_when=computed, schema="merge")
        assert "engine: spark" in refused(hundred, errors.FeatureUnsupported, left).hint
    hundred.do(Upsert(source, ("id",), schema="merge"))
    assert {r["id"]: r["note"] for r in hundred.rows(where="id in (1, 2, 200)")} == found


@pytest.mark.spec("C2")
def test_failure_25_duplicate_source_keys_are_refused_or_resolved(unfed: Table) -> None:
    source = pa.concat_tables([orders([1, 2], 5), orders([1, 300], 6)])
    error = refused(unfed, errors.DuplicateMergeKeys, Upsert(source, ("id",)))
    assert "id=1" in error.message
    ordered = source.append_column("seq", pa.array([2, 1, 1, 1]))
    result = unfed.do(Upsert(ordered, ("id",), sequence_by=("seq",)))
    assert unfed.amounts(where="id in (1, 2, 300)") == {1: 5, 2: 5, 300: 6}
    assert (result.rows.source, result.rows.duplicates) == (4, 1)
    tied = source.append_column("seq", pa.array([1, 1, 1, 1]))
    refused(unfed, errors.DuplicateMergeKeys, Upsert(tied, ("id",), sequence_by=("seq",)))


@pytest.mark.spec("C2")
def test_wrong_merge_keys_are_refused_by_name(unfed: Table) -> None:
    rows = orders([1])
    refused(unfed, errors.BadMergeKeys, Upsert(rows, ()))
    error = refused(unfed, errors.BadMergeKeys, Upsert(rows, ("idd",)))
    assert "'id'" in error.hint
    extra = rows.append_column("key", pa.array([1]))
    error = refused(unfed, errors.BadMergeKeys, Upsert(extra, ("key",)))
    assert "the table has no column 'key'" in error.message
    nulls = orders([1, 2], region=["r1", None])
    error = refused(unfed, errors.NullMergeKeys, Upsert(nulls, ("id", "region")))
    assert "1 of 2 rows" in error.message
    assert "'region'" in error.message


@SPARK_IN_LONG
@pytest.mark.spec("C2")
def test_keys_of_every_kind_prune_and_match(engine: TableEngine, tmp_path: Path) -> None:
    day, text = dt.date(2026, 1, 1), 'it\'s \\ "x" -- ;'
    keys = {
        "s": (pa.string(), [text, "b"]),
        "d": (pa.date32(), [day, day + dt.timedelta(1)]),
        "t": (pa.timestamp("us", tz="UTC"), [NOON, NOON + dt.timedelta(microseconds=1)]),
        "n": (pa.timestamp("us"), [NAIVE, NAIVE.replace(year=3000)]),
        "x": (pa.decimal128(9, 2), pa.array([1, 2]).cast(pa.decimal128(21, 2)).to_pylist()),
        "b": (pa.binary(), [b"\x00", b"'"]),
    }
    schema = pa.schema([*((name, kind) for name, (kind, _) in keys.items()), ("v", pa.int32())])
    table = Table(engine, tmp_path / "t")
    table.do(Create(schema))
    table.do(Append(pa.table({**{n: v for n, (_, v) in keys.items()}, "v": [0, 0]}, schema=schema)))
    for step, (name, (kind, values)) in enumerate(keys.items(), start=1):
        one = pa.table(
            {name: values[:1], "v": [step]}, pa.schema([(name, kind), ("v", pa.int32())])
        )
        result = table.do(Upsert(one, (name,)))
        assert (result.rows.updated, result.rows.inserted) == (1, 0), name
    found = {row["s"]: row for row in table.rows()}
    assert {s: row["v"] for s, row in found.items()} == {text: len(keys), "b": 0}
    assert [found[text][n] for n in keys] == [values[0] for _, values in keys.values()]


# -- delete and update


@pytest.mark.spec("C2", "C6")
def test_delete_takes_the_rows_that_a_condition_names(hundred: Table) -> None:
    result = hundred.do(Delete("region = 'r3' or id between 90 and 99"))
    assert hundred.ids() == [n for n in range(90) if n % 10 != 3]
    assert result.rows.deleted == 19
    nothing = hundred.do(Delete("id = 12345"))
    assert not nothing.changed
    everything = hundred.do(Delete("true"))
    assert (hundred.ids(), everything.rows.deleted) == ([], 81)


@pytest.mark.spec("C2", "C6")
def test_update_gives_columns_new_values(hundred: Table) -> None:
    sets = {"amount": "amount + id", "region": "upper(region) || '!'"}
    result = hundred.do(Update(sets, where="id < 3"))
    found = {r["id"]: (r["region"], r["amount"]) for r in hundred.rows(where="id < 4")}
    assert found == {0: ("R0!", 1), 1: ("R1!", 2), 2: ("R2!", 3), 3: ("r3", 1)}
    assert result.rows.updated == 3
    hundred.do(Update({"at": "timestamp '2027-01-01T01:00:00+02:00'"}, where="id < 50"))
    hundred.do(Update({"at": "'2027-01-01T00:00:00Z'"}, where="id >= 50"))
    found = {r["id"]: r["at"] for r in hundred.rows()}
    assert {found[n] for n in range(50)} == {dt.datetime(2026, 12, 31, 23, tzinfo=dt.UTC)}
    assert {found[n] for n in range(50, 100)} == {dt.datetime(2027, 1, 1, tzinfo=dt.UTC)}


@pytest.mark.spec("C6")
def test_a_value_that_does_not_fit_its_column_is_refused(hundred: Table) -> None:
    refused(hundred, errors.SchemaNarrowed, Update({"amount": "1.5"}))
    refused(hundred, errors.SchemaNarrowed, Update({"amount": "amount * 1.5"}))
    refused(hundred, errors.SchemaNarrowed, Update({"amount": "'7'"}))
    refused(hundred, errors.SchemaMismatch, Update({"region": "id"}))
    refused(hundred, errors.UnknownColumn, Update({"amonut": "1"}))
    refused(hundred, errors.WriteFailed, Update({"amount": "id + 3000000000"}))


NO_CONDITIONS = (
    "id = 1; drop table x",
    "id in (select id from target)",
    "exists(select 1)",
    "id = 1 or load_extension('x')",
    "now() > at",
    "id = :id",
    "{{ id }}",
    "*",
    "id as x",
    "id +",
    "amount / 2",
    "",
    "id",
    "'true'",
    "id = 1 -- or\n id = 2; delete",
)


@pytest.mark.spec("C2")
def test_what_is_no_plain_condition_is_refused(hundred: Table) -> None:
    for text in NO_CONDITIONS:
        refused(hundred, errors.BadExpression, Delete(text))
        with pytest.raises(errors.BadExpression):
            hundred.rows(where=text)


@SPARK_IN_LONG
@pytest.mark.spec("C2")
def test_values_in_conditions_stay_values(hundred: Table) -> None:
    odd = ["it's", 'a"b', "a\\", "x' or '1'='1", "-- x", "%", "ü\n"]
    hundred.do(Append(orders(range(200, 207), region=odd)))
    texts = ["'" + text.replace("'", "''") + "'" for text in odd]
    assert hundred.ids(where=f"region in ({', '.join(texts)})") == list(range(200, 207))
    each = " or ".join(f"id = {at} and region = {text}" for at, text in enumerate(texts, start=200))
    assert hundred.ids(where=each) == list(range(200, 207))
    hundred.do(Delete("region = 'x'' or ''1''=''1'"))
    assert len(hundred.ids()) == 106


@pytest.mark.spec("C3")
def test_conditions_reach_into_structs_and_compare_times(hundred: Table) -> None:
    assert hundred.ids(where="place.city = 'c7'") == [7]
    assert hundred.ids(where="at < '2026-01-31T13:03:00+01:00'") == [0, 1, 2]
    assert hundred.ids(where="ID < 2 AND NOT Region IS NULL") == [0, 1]
    assert hundred.ids(where="id % 50 = 1 and region like 'r_' and amount is not null") == [1, 51]
    for text in ("at < '2026-01-31 12:03:00'", "at > timestamp '2026-01-31T12:03:00'"):
        with pytest.raises(errors.TimeWithoutZone):
            hundred.rows(where=text)
    with pytest.raises(errors.UnknownColumn, match="did you mean 'region'"):
        hundred.rows(where="regoin = 'r1'")
    with pytest.raises(errors.UnknownColumn, match="no column 'nope'"):
        hundred.rows(columns=("nope",))


# -- schema


@SPARK_IN_LONG
@pytest.mark.spec("C7")
def test_new_columns_are_added_when_asked_and_old_versions_stay_as_they_were(
    hundred: Table,
) -> None:
    wider = orders([100], note=["hello"])
    error = refused(hundred, errors.SchemaMismatch, Append(wider))
    assert "'note'" in error.message
    hundred.do(Append(wider, schema="merge"))
    assert [r["note"] for r in hundred.rows(where="id >= 99")] == ["hello", None][::-1]
    assert "note" not in hundred.rows(version=1)[0]
    assert "note" in hundred.rows(version=2)[0]


@SPARK_IN_LONG
@pytest.mark.spec("C7")
def test_a_column_that_needs_a_feature_takes_no_rule_off_the_table(
    engine: TableEngine, tmp_path: Path
) -> None:
    table = Table(engine, tmp_path / "t")
    table.do(Create(SCHEMA, properties=FEED, constraints={"positive": "amount >= 0"}))
    table.do(Append(orders([1])))
    wider = Append(orders([2], local=[NAIVE]), schema="merge")
    error = refused(table, errors.FeatureUnsupported, wider)
    assert "AddColumns" in error.hint
    add = AddColumns(pa.schema([("local", pa.timestamp("us"))]))
    DeltaRsEngine().execute(str(table.path), add)
    table.do(wider)
    features = set(DeltaTable(table.path).protocol().writer_features)
    assert features >= {"changeDataFeed", "checkConstraints", "invariants", "timestampNtz"}
    refused(table, errors.ValuesRefused, Append(orders([3], amount=-1)))
    assert [row["local"] for row in table.rows()] == [None, NAIVE]


@pytest.mark.spec("C7")
def test_failure_30_a_narrowing_change_is_refused(hundred: Table) -> None:
    for column in ([1.5], [2**40]):
        wide = orders([200]).drop_columns(["amount"]).append_column("amount", pa.array(column))
        error = refused(hundred, errors.SchemaNarrowed, Append(wide))
        assert "'amount'" in error.message
        refused(hundred, errors.SchemaNarrowed, Overwrite(wide))
        refused(hundred, errors.SchemaNarrowed, Upsert(wide, ("id",)))
    refused(
        hundred,
        errors.SchemaMismatch,
        Append(orders([200]).drop_columns(["amount"]).append_column("amount", pa.array(["7"]))),
    )
    hundred.do(
        Append(
            orders([200]).drop_columns(["amount"]).append_column("amount", pa.array([7], pa.int8()))
        )
    )
    assert hundred.amounts(where="id = 200") == {200: 7}


@pytest.mark.spec("C7")
def test_a_missing_value_of_a_required_column_is_refused(hundred: Table) -> None:
    error = refused(hundred, errors.ValuesRefused, Append(orders([1, 2], id=[1, None])))
    assert "'id' is NOT NULL, and 1 of 2" in error.message
    refused(hundred, errors.ValuesRefused, Append(orders([1]).drop_columns(["id"])))
    hundred.do(Append(orders([1000]).drop_columns(["region"])))
    assert hundred.rows(where="id = 1000")[0]["region"] is None


def test_times_without_a_zone_do_not_become_points_in_time(hundred: Table) -> None:
    naive = orders([1], at=[NAIVE])
    refused(hundred, errors.TimeWithoutZone, Append(naive))


def test_reserved_and_clashing_names_are_refused(hundred: Table) -> None:
    for name in ("_change_type", "_Commit_Version", "Region", "a b", "a.b", ""):
        rows = orders([1]).append_column(name, pa.array(["x"]))
        refused(hundred, errors.BadColumnName, Append(rows, schema="merge"))
        refused(hundred, errors.BadColumnName, Overwrite(rows, schema="overwrite"))
        refused(hundred, errors.BadColumnName, Upsert(rows, ("id",), schema="merge"))
        new = Table(hundred.engine, hundred.path.parent / "new")
        with pytest.raises(errors.BadColumnName):
            new.do(Create(rows.schema))
        assert not new.path.exists()


# -- versions


@pytest.fixture
def three(engine: TableEngine, templates: Path, tmp_path: Path) -> Table:
    """50 rows in version 1, 100 in version 2, 150 in version 3."""
    return copy_of(templates, in_three, Table(engine, tmp_path / "orders"))


@SPARK_IN_LONG
@pytest.mark.spec("C3")
def test_time_travel_over_50_100_and_150_rows(three: Table) -> None:
    for version, count in ((0, 0), (1, 50), (2, 100), (3, 150)):
        assert len(three.ids(version=version)) == count
        made = three.made_at(version)
        assert len(three.ids(at=made)) == count
        assert len(three.ids(at=made.isoformat())) == count
    assert len(three.ids()) == 150
    assert len(three.ids(at=dt.datetime.now(dt.UTC))) == 150


@pytest.mark.spec("C3")
def test_versions_and_times_that_contradict_or_miss_are_refused(three: Table) -> None:
    with pytest.raises(errors.VersionAndTime):
        three.rows(version=1, at=NOON)
    with pytest.raises(errors.TimeWithoutZone):
        three.rows(at=NAIVE)
    with pytest.raises(errors.TimeWithoutZone):
        three.rows(at="2026-01-01T00:00:00")
    with pytest.raises(errors.BadRequest, match="is not a time"):
        three.rows(at="yesterday")
    for version in (4, -1):
        with pytest.raises(errors.VersionUnknown, match="the newest is 3"):
            three.rows(version=version)
    with pytest.raises(errors.VersionGone, match="version 0 is the oldest"):
        three.rows(at="1999-01-01T00:00:00Z")
    refused(three, errors.VersionAndTime, Restore(version=1, at=NOON))
    refused(three, errors.BadRequest, Restore())
    refused(three, errors.VersionUnknown, Restore(version=9))


@SPARK_IN_LONG
@pytest.mark.spec("C3")
def test_a_version_that_vacuum_took_names_the_oldest_that_is_left(three: Table) -> None:
    three.do(Delete("id < 60"))  # version 4: rewrites files of versions 1 and 2
    handle = DeltaTable(three.path)
    handle.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    left = three.ids(version=4)
    assert len(left) == 90
    for version in (1, 2, 3):
        with pytest.raises(errors.VersionGone, match="the oldest that is left is 4") as caught:
            three.rows(version=version)
        assert caught.value.context["oldest"] == 4
    refused(three, errors.VersionGone, Restore(version=2))
    assert three.ids() == left


@pytest.mark.spec("C3")
def test_a_version_that_the_logs_clean_up_took_names_the_oldest_that_is_left(
    three: Table,
) -> None:
    DeltaTable(three.path).create_checkpoint()
    for version in (0, 1, 2):
        (three.path / "_delta_log" / f"{version:020d}.json").unlink()
    with pytest.raises(errors.VersionGone, match="the oldest that is left is 3"):
        three.rows(version=1)
    assert len(three.ids(version=3)) == 150


@pytest.mark.spec("C4")
def test_history_tells_each_version_newest_first(three: Table) -> None:
    three.do(Delete("id = 1"))
    lines = three.engine.history(str(three.path))
    assert [line.version for line in lines] == [4, 3, 2, 1, 0]
    assert [line.operation for line in lines] == [
        "DELETE",
        "WRITE",
        "WRITE",
        "WRITE",
        lines[-1].operation,
    ]
    assert all(line.at.tzinfo is not None and line.engine for line in lines)
    assert lines == sorted(lines, key=lambda line: line.at, reverse=True)
    assert len(three.engine.history(str(three.path), 2)) == 2


@pytest.mark.spec("C4")
def test_history_counts_versions_whose_writer_said_nothing(three: Table) -> None:
    log = three.path / "_delta_log"
    lines = (log / f"{3:020d}.json").read_text().splitlines()
    (log / f"{3:020d}.json").write_text("".join(f"{x}\n" for x in lines if "commitInfo" not in x))
    three.do(Delete("id = 1"))
    found = three.engine.history(str(three.path))
    assert [(line.version, line.operation) for line in found[:3]] == [
        (4, "DELETE"),
        (3, ""),
        (2, "WRITE"),
    ]
    assert found[1].at.year >= 2024
    assert len(three.ids(version=3)) == 150


@SPARK_IN_LONG
@pytest.mark.spec("C4")
def test_restore_brings_a_version_back_as_a_new_one(three: Table) -> None:
    made = three.made_at(2)
    three.do(Append(orders([500], note=["x"]), schema="merge"))
    result = three.do(Restore(version=1))
    assert three.ids() == list(range(50))
    assert (result.version_before, result.version_after) == (4, 5)
    assert (result.rows.inserted, result.rows.deleted) == (0, 101)
    assert "note" not in three.rows()[0]
    result = three.do(Restore(at=made))
    assert len(three.ids()) == 100
    assert (result.rows.inserted, result.rows.deleted) == (50, 0)
    assert len(three.ids(version=4)) == 151
    assert not three.do(Restore(version=6)).changed


# -- change feed


@pytest.fixture
def changed(engine: TableEngine, templates: Path, tmp_path: Path) -> Table:
    """Version 1 inserts 0 to 99, 2 updates 0 and inserts 100, 3 deletes 5."""
    return copy_of(templates, merged_and_deleted, Table(engine, tmp_path / "orders"))


@pytest.mark.spec("C3")
def test_the_change_feed_tells_what_each_version_did(changed: Table) -> None:
    second = [
        (2, "insert", 100, 2),
        (2, "update_postimage", 0, 2),
        (2, "update_preimage", 0, 1),
    ]
    third = [(3, "delete", 5, 1)]
    assert changed.changes(from_version=2) == second + third
    assert changed.changes(from_version=2, to_version=2) == second
    first = changed.changes(from_version=0, to_version=1)
    assert first == [(1, "insert", n, 1) for n in range(100)]
    times = changed.changes(from_time=changed.made_at(2), to_time=changed.made_at(2))
    assert times == second
    assert changed.changes(from_time=changed.made_at(3) + dt.timedelta(seconds=1)) == []
    feed = changed.engine.changes(str(changed.path), Changes(from_version=3)).read_all()
    assert feed.schema.names == [
        *SCHEMA.names,
        "_change_type",
        "_commit_version",
        "_commit_timestamp",
    ]
    assert feed.column("_commit_timestamp").to_pylist() == [changed.made_at(3)]


@pytest.mark.spec("C3", "C7")
def test_the_change_feed_goes_over_a_change_of_the_schema(changed: Table) -> None:
    changed.do(Append(orders([700], note=["x"]), schema="merge"))
    feed = changed.engine.changes(str(changed.path), Changes(from_version=3)).read_all()
    found = {r["id"]: (r["_change_type"], r.get("note")) for r in feed.to_pylist()}
    assert found == {5: ("delete", None), 700: ("insert", "x")}


@pytest.mark.spec("C3")
def test_deletes_and_changes_are_left_out_when_asked(changed: Table) -> None:
    without = changed.changes(from_version=2, ignore_deletes=True)
    assert [kind for _, kind, _, _ in without] == ["insert", "update_postimage", "update_preimage"]
    inserts = changed.changes(from_version=2, ignore_changes=True)
    assert inserts == [(2, "insert", 100, 2)]


@pytest.mark.spec("C3")
def test_ranges_that_cannot_be_read_are_refused(changed: Table) -> None:
    with pytest.raises(errors.VersionAndTime, match="to_version and to_time"):
        changed.changes(from_version=1, to_version=2, to_time=NOON)
    with pytest.raises(errors.TimeWithoutZone):
        changed.changes(from_time="2026-01-01")
    with pytest.raises(errors.BadRequest, match="no start"):
        changed.changes(to_version=2)
    with pytest.raises(errors.BadRequest, match="comes after"):
        changed.changes(from_version=2, to_version=1)
    with pytest.raises(errors.VersionUnknown):
        changed.changes(from_version=9)
    for file in changed.path.glob("_change_data/*"):
        file.unlink()
    with pytest.raises(errors.VersionGone, match="version 2 is gone"):
        changed.changes(from_version=2)


@SPARK_IN_LONG
@pytest.mark.spec("C3")
def test_versions_without_a_change_feed_are_named(engine: TableEngine, tmp_path: Path) -> None:
    table = Table(engine, tmp_path / "t")
    table.do(Create(SCHEMA))
    table.do(Append(orders([1])))
    with pytest.raises(errors.ChangesUnavailable, match="version 1 recorded no changes"):
        table.changes(from_version=0)
    DeltaTable(table.path).alter.set_table_properties(FEED)
    table.do(Append(orders([2])))
    assert table.changes(from_version=2) == [(3, "insert", 2, 1)]
    with pytest.raises(errors.ChangesUnavailable, match="from version 2 on") as caught:
        table.changes(from_version=1)
    assert caught.value.context["version"] == 1


# -- tables that must not be written, or are not there


@pytest.mark.spec("C6")
def test_a_table_with_a_ledger_is_written_by_its_owner_alone(hundred: Table) -> None:
    DeltaTable(hundred.path).alter.set_table_properties(
        {"delta.logRetentionDuration": "interval 9 days"},
        commit_properties=CommitProperties(
            app_transactions=[
                Transaction(OWNER_APP, 1),
                Transaction("raylake/shop/orders/topic-id/0/next", 100),
            ]
        ),
    )
    for operation in (
        Append(orders([1])),
        Overwrite(orders([1])),
        Upsert(orders([1]), ("id",)),
        Delete("id = 1"),
        Update({"amount": "1"}),
    ):
        assert "topic 'orders'" in refused(hundred, errors.OwnerOnly, operation).message
    error = refused(hundred, errors.OwnerOnly, Restore(version=0))
    assert "positions" in error.message
    assert "rewind" in error.hint
    assert len(hundred.ids(version=1)) == 100


@SPARK_IN_LONG
@pytest.mark.spec("C6")
def test_an_append_only_table_takes_rows_and_lets_none_go(
    engine: TableEngine, tmp_path: Path
) -> None:
    table = Table(engine, tmp_path / "t")
    table.do(Create(SCHEMA, properties={"delta.appendOnly": "true"}))
    table.do(Append(orders(range(5))))
    for operation in (
        Overwrite(orders([1])),
        Upsert(orders([1]), ("id",)),
        Delete("id = 1"),
        Update({"amount": "1"}),
        Restore(version=0),
    ):
        refused(table, errors.AppendOnlyTable, operation)
    table.do(Upsert(orders([4, 5], 9), ("id",), insert_only=True))
    assert table.amounts() == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 9}


@pytest.mark.spec("C6")
def test_a_feature_that_the_engine_lacks_is_named(hundred: Table) -> None:
    lines = {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["teleport"],
            "writerFeatures": ["teleport"],
        }
    }
    log = hundred.path / "_delta_log"
    (log / f"{2:020d}.json").write_text(json.dumps(lines) + "\n")
    for work in (lambda: hundred.do(Append(orders([1]))), hundred.rows):
        with pytest.raises(errors.FeatureUnsupported, match="teleport") as caught:
            work()
        assert caught.value.context["feature"] == "teleport"
    assert len(list(log.glob("*.json"))) == 3


def test_a_table_that_is_not_there_is_not_made_by_accident(
    engine: TableEngine, tmp_path: Path
) -> None:
    table = Table(engine, tmp_path / "nothing")
    for operation in (Append(orders([1])), Delete("true"), Restore(version=0)):
        with pytest.raises(errors.TableMissing):
            table.do(operation)
    with pytest.raises(errors.TableMissing):
        table.rows()
    with pytest.raises(errors.TableMissing):
        table.engine.history(str(table.path))
    assert not table.path.exists()


def test_a_table_that_is_there_is_not_created_again(hundred: Table) -> None:
    refused(hundred, errors.TableExists, Create(SCHEMA))


# -- several writers


@SPARK_IN_LONG
@pytest.mark.spec("C6")
def test_concurrent_writers_are_serialised(engine: TableEngine, table: Table) -> None:
    table.do(Append(orders(range(4), amount=0)))
    failures: list[BaseException] = []

    def work(which: int) -> None:
        mine = Table(engine, table.path)
        try:
            for step in range(4):
                mine.do(Update({"amount": "amount + 1"}, where=f"id = {which}"))
                mine.do(Append(orders([100 + 10 * which + step])))
        except errors.TableError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert table.amounts(where="id < 4") == {0: 4, 1: 4, 2: 0, 3: 0}
    assert len(table.ids(where="id >= 100")) == 8
    assert table.version == 1 + 16


@pytest.mark.spec("C6")
def test_a_reader_keeps_its_version_while_others_write(hundred: Table) -> None:
    reader = hundred.engine.read(str(hundred.path), Read(columns=("id",)))
    hundred.do(Delete("true"))
    hundred.do(Append(orders(range(500, 600))))
    assert sorted(reader.read_all().column("id").to_pylist()) == list(range(100))
