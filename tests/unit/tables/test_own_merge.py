"""RayLake's own merge: what it takes on, what it leaves to delta-rs, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from raylake.clock import ManualClock
from raylake.ingest.retry import RetryPolicy
from raylake.storage.place import place
from raylake.tables import delta_rs, errors
from raylake.tables.cow_upsert import WHY
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import (
    Append,
    Changes,
    Create,
    Overwrite,
    Read,
    UpdateUnmatched,
    Upsert,
)
from raylake.tables.upserting import upsert_task

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("n", pa.int32()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)


def rows(*ids: int, n: int | None = 1, **more: Any) -> pa.Table:
    table = pa.table({"id": list(ids), "n": [n] * len(ids), "at": [0] * len(ids)}, schema=SCHEMA)
    for name, values in more.items():
        table = table.append_column(name, pa.array(values))
    return table


@pytest.fixture
def engine() -> DeltaRsEngine:
    return DeltaRsEngine()


@pytest.fixture
def made(engine: DeltaRsEngine, tmp_path: Path) -> Callable[..., str]:
    """Makes a table of the ids 1, 2, 3."""

    def make(**properties: Any) -> str:
        address = str(tmp_path / f"t{len(list(tmp_path.iterdir()))}")
        engine.execute(address, Create(SCHEMA, **properties))
        engine.execute(address, Append(rows(1, 2, 3)))
        return address

    return make


def found(engine: DeltaRsEngine, table: str) -> dict[int, int]:
    return {r["id"]: r["n"] for r in engine.read(table, Read()).read_all().to_pylist()}


def data_files(table: str) -> set[str]:
    return {one.name for one in Path(table).glob("*.parquet")}


def change_files(table: str) -> set[str]:
    return {one.name for one in Path(table, "_change_data").rglob("*.parquet")}


FEED = {"delta.enableChangeDataFeed": "true"}


@pytest.mark.spec("C2", "C6")
def test_the_commit_tells_what_delta_rs_would_tell(
    engine: DeltaRsEngine, made: Callable[..., str]
) -> None:
    table = made()
    result = engine.execute(table, Upsert(rows(3, 4, n=7), ("id",)), why="small")
    assert result.why == f"small; {WHY}"
    assert found(engine, table) == {1: 1, 2: 1, 3: 7, 4: 7}
    line = engine.history(table, 1)[0]
    assert (line.operation, line.engine) == ("MERGE", "RayLake")
    peer = made()
    DeltaRsEngine(merge_by="delta-rs").execute(peer, Upsert(rows(3, 4, n=7), ("id",)))
    theirs = engine.history(peer, 1)[0]
    assert set(line.metrics) == set(theirs.metrics)
    same = [k for k in line.metrics if "time" not in k and not k.endswith("files_added")]
    assert {k: line.metrics[k] for k in same} == {k: theirs.metrics[k] for k in same}
    assert json.loads(line.parameters["matchedPredicates"]) == [{"actionType": "update"}]


@pytest.mark.spec("C6")
@pytest.mark.parametrize(
    ("properties", "request_", "why"),
    [
        ({"constraints": {"even": "n % 2 = 1"}}, {}, "'even'"),
        ({}, {"update_when": "source.n + 1 > target.n"}, "calculated by delta-rs"),
        ({}, {"insert_when": "cast(source.n as string) = '9'"}, "delta-rs"),
        ({}, {"update_when": "source.n > source.at"}, "different kinds"),
        ({}, {"not_matched_by_source": UpdateUnmatched({"n": "n"})}, "updated by delta-rs"),
    ],
)
def test_what_it_does_not_do_exactly_is_left_to_delta_rs_and_said(
    engine: DeltaRsEngine,
    made: Callable[..., str],
    properties: dict[str, Any],
    request_: dict[str, Any],
    why: str,
) -> None:
    table = made(**properties)
    task = upsert_task(place(table), DeltaTable(table), Upsert(rows(3, n=9), ("id",), **request_))
    assert task is not None
    assert task.why.startswith("merge of delta-rs: ")
    assert why in task.why


def test_a_table_with_deletion_vectors_is_left_to_delta_rs(made: Callable[..., str]) -> None:
    table = made()
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
    Path(table, "_delta_log", f"{2:020d}.json").write_text(json.dumps(protocol) + "\n")
    task = upsert_task(place(table), DeltaTable(table), Upsert(rows(3, n=9), ("id",)))
    assert task is not None
    assert "deletion vectors" in task.why


@pytest.mark.spec("C7")
def test_not_null_and_constraints_hold(engine: DeltaRsEngine, made: Callable[..., str]) -> None:
    table = made(constraints={"positive": "n > 0"})
    before = data_files(table)
    for request in (
        Upsert(rows(3, n=0), ("id",)),
        Upsert(rows(4, n=-1), ("id",)),
        Upsert(rows(4, n=None), ("id",)),
        Upsert(pa.table({"n": pa.array([5], pa.int32())}), ("n",)),
    ):
        with pytest.raises(errors.ValuesRefused):
            engine.execute(table, request)
    assert data_files(table) == before
    only = Upsert(rows(1, 9, n=-1), ("id",), update_when="target.n > 5", insert_when="source.n > 5")
    assert not engine.execute(table, only).changed


@pytest.mark.spec("C2", "C7")
def test_columns_are_added_to_a_table_with_required_ones(
    engine: DeltaRsEngine, made: Callable[..., str]
) -> None:
    table = made()
    engine.execute(table, Upsert(rows(3, 4, note=["x", "y"]), ("id",), schema="merge"))
    read = engine.read(table, Read(columns=("id", "note"))).read_all().to_pylist()
    assert {r["id"]: r["note"] for r in read} == {1: None, 2: None, 3: "x", 4: "y"}
    assert "note" not in engine.read(table, Read(version=1)).schema.names
    assert not engine.read(table, Read()).schema.field("id").nullable


def test_a_lost_race_leaves_no_files_and_starts_again(
    made: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made()
    times = iter([True, True])
    opened_for = delta_rs.opened_for

    def opened(*args: Any) -> DeltaTable:
        handle = opened_for(*args)
        if next(times, False):
            write_deltalake(table, rows(100), mode="append")
        return handle

    monkeypatch.setattr(delta_rs, "opened_for", opened)
    engine = DeltaRsEngine(ManualClock(), conflicts=RetryPolicy(attempts=4))
    result = engine.execute(table, Upsert(rows(1, 100, n=5), ("id",)))
    assert (result.attempts, result.rows.updated, result.rows.inserted) == (3, 3, 0)
    assert result.why.endswith(WHY)
    live = set(pa.table(DeltaTable(table).get_add_actions())["path"].to_pylist())
    removed = result.files.removed
    assert len(data_files(table)) == len(live) + removed


def test_a_failed_write_leaves_no_files(
    engine: DeltaRsEngine, made: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made(properties=FEED)
    engine.execute(table, Append(rows(4, 5)))
    before = data_files(table)

    def full(*args: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raylake.tables.cow_upsert.write_data_files", full)
    with pytest.raises(errors.NotEnoughSpace, match="No space left"):
        engine.execute(table, Upsert(rows(1, 4, 9, n=5), ("id",)))
    assert data_files(table) == before
    assert change_files(table) == set()
    assert found(engine, table) == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    # The files of the change feed are the last to be written.
    monkeypatch.undo()
    monkeypatch.setattr("raylake.tables.cow_feed.by_value", full)
    with pytest.raises(errors.NotEnoughSpace, match="No space left"):
        engine.execute(table, Upsert(rows(1, 4, 9, n=5), ("id",)))
    assert (data_files(table), change_files(table)) == (before, set())


def feed(engine: DeltaRsEngine, table: str, version: int) -> list[tuple[str, int, int]]:
    """What a version recorded: what became of each row, its id, its n."""
    request = Changes(from_version=version, to_version=version)
    found = engine.changes(table, request).read_all().to_pylist()
    return sorted((r["_change_type"], r["id"], r["n"]) for r in found)


@pytest.mark.spec("C2", "C3")
def test_a_table_with_a_change_feed_is_merged_into_here_too(
    engine: DeltaRsEngine, made: Callable[..., str]
) -> None:
    table = made(properties=FEED)
    protocol = DeltaTable(table).protocol()
    result = engine.execute(table, Upsert(rows(3, 4, n=7), ("id",)))
    assert result.why.endswith(WHY)
    changed = [("insert", 4, 7), ("update_postimage", 3, 7), ("update_preimage", 3, 1)]
    assert feed(engine, table, 2) == changed
    assert len(change_files(table)) == 2
    assert data_files(table).isdisjoint(change_files(table))
    # What only inserts is told by the files that it adds.
    assert engine.execute(table, Upsert(rows(5, n=7), ("id",))).rows.inserted == 1
    assert feed(engine, table, 3) == [("insert", 5, 7)]
    assert len(change_files(table)) == 2
    taken = engine.execute(table, Upsert(rows(1, 2, n=0), ("id",), delete_when="source.n = 0"))
    assert taken.rows.deleted == 2
    assert feed(engine, table, 4) == [("delete", 1, 1), ("delete", 2, 1)]
    now = DeltaTable(table).protocol()
    assert (now.min_writer_version, now.writer_features) == (
        protocol.min_writer_version,
        protocol.writer_features,
    )


@pytest.mark.spec("C3")
def test_changes_of_partitions_with_odd_names_can_be_read(
    engine: DeltaRsEngine, tmp_path: Path
) -> None:
    """Of files in folders of their own delta-rs finds none whose name is encoded."""
    table = str(tmp_path / "t")
    schema = pa.schema([("id", pa.int64()), ("n", pa.int64()), ("p", pa.string())])
    engine.execute(table, Create(schema, ("p",), FEED))
    odd = ["v w", "ü", "a:b", "50%", "x/y", None]
    first = pa.table({"id": range(6), "n": [1] * 6, "p": pa.array(odd)}, schema=schema)
    engine.execute(table, Append(first))
    moved = pa.table({"id": range(7), "n": [2] * 7, "p": [*odd[1:], "v w", "new one"]})
    engine.execute(table, Upsert(moved.cast(schema), ("id",)))
    request = Changes(from_version=2)
    rows = engine.changes(table, request).read_all().to_pylist()
    of_kind = {
        kind: [r["p"] for r in sorted(rows, key=lambda r: r["id"]) if r["_change_type"] == kind]
        for kind in ("update_preimage", "update_postimage", "insert")
    }
    assert of_kind == {
        "update_preimage": odd,
        "update_postimage": [*odd[1:], "v w"],
        "insert": ["new one"],
    }


@pytest.mark.spec("C2", "C3")
def test_changed_rows_are_recorded_a_row_group_at_a_time(
    engine: DeltaRsEngine, made: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raylake.tables.cow_files.ROW_GROUP_ROWS", 10)
    monkeypatch.setattr("raylake.tables.cow_feed._ROW_GROUP_ROWS", 10)
    table = made(properties=FEED)
    engine.execute(table, Overwrite(rows(*range(100))))
    engine.execute(table, Upsert(rows(*range(0, 100, 2), n=4), ("id",)))
    recorded = feed(engine, table, 3)
    assert recorded == [
        *(("update_postimage", n, 4) for n in range(0, 100, 2)),
        *(("update_preimage", n, 1) for n in range(0, 100, 2)),
    ]
    (file,) = Path(table, "_change_data").glob("*.parquet")
    assert pq.ParquetFile(file).metadata.num_row_groups == 10


@pytest.mark.spec("C2")
def test_the_commit_carries_the_txn_of_a_slot(made: Callable[..., str]) -> None:
    table = made()
    task = upsert_task(place(table), DeltaTable(table), Upsert(rows(1, n=2), ("id",)))
    assert task is not None
    assert task.why == WHY
    task.run(CommitProperties(app_transactions=[Transaction("slot", 17)]))
    assert DeltaTable(table).transaction_version("slot") == 17


def test_checkpoints_come_at_the_tables_interval(
    engine: DeltaRsEngine, made: Callable[..., str]
) -> None:
    table = made(properties={"delta.checkpointInterval": "3"})
    for step in range(5):
        engine.execute(table, Upsert(rows(1, n=step), ("id",)))
    checkpoints = sorted(
        p.name[:20] for p in Path(table, "_delta_log").glob("*.checkpoint.parquet")
    )
    assert [int(one) for one in checkpoints] == [2, 5]


@pytest.mark.spec("C2")
def test_files_without_matches_stay_as_they_are(
    engine: DeltaRsEngine, made: Callable[..., str]
) -> None:
    table = made()
    engine.execute(table, Append(rows(10, 30)))
    engine.execute(table, Append(rows(20)))
    before = set(pa.table(DeltaTable(table).get_add_actions())["path"].to_pylist())
    result = engine.execute(table, Upsert(rows(20, 25, n=4), ("id",)))
    assert (result.rows.updated, result.rows.inserted, result.rows.copied) == (1, 1, 0)
    after = set(pa.table(DeltaTable(table).get_add_actions())["path"].to_pylist())
    assert len(before & after) == 2
    metrics = engine.history(table, 1)[0].metrics
    assert metrics["num_target_files_scanned"] == 2
    only = engine.execute(table, Upsert(rows(20, 26, n=4), ("id",), insert_only=True))
    assert (only.files.added, only.files.removed, only.rows.inserted) == (1, 0, 1)


def test_statistics_that_are_missing_or_cut_hide_no_row(
    engine: DeltaRsEngine, tmp_path: Path
) -> None:
    address = str(tmp_path / "t")
    schema = pa.schema([("k", pa.string()), ("t", pa.timestamp("us", "UTC")), ("x", pa.float64())])
    engine.execute(address, Create(schema, properties={"delta.dataSkippingNumIndexedCols": "1"}))

    def one(key: str, micros: int, x: float) -> pa.Table:
        return pa.table({"k": [key], "t": [micros], "x": [x]}, schema=schema)

    long = "k" * 40
    engine.execute(address, Append(one(long + "b", 1_999, 1.0)))
    for step in range(3):
        nan = float("nan") if step else 2.0
        result = engine.execute(address, Upsert(one(long + "b", 1_999, nan), ("k", "t")))
        assert (result.rows.updated, result.rows.inserted) == (1, 0)
    adds = pa.table(DeltaTable(address).get_add_actions(flatten=True)).to_pylist()[0]
    assert adds["max.k"] >= long + "b"
    assert "max.x" not in adds
    result = engine.execute(address, Upsert(one(long + "a", 1_999, 3.0), ("k", "t")))
    assert (result.rows.updated, result.rows.inserted) == (0, 1)


def test_times_in_sparks_old_form_are_read_as_they_are_meant(
    engine: DeltaRsEngine, tmp_path: Path
) -> None:
    address = str(tmp_path / "t")
    engine.execute(address, Create(SCHEMA))
    engine.execute(address, Append(rows(1, 2)))
    file = next(Path(address).glob("*.parquet"))
    size = file.stat().st_size
    old = pq.read_table(file)
    pq.write_table(old, file, use_deprecated_int96_timestamps=True)
    entry = Path(address, "_delta_log", f"{1:020d}.json")
    entry.write_text(entry.read_text().replace(f'"size":{size}', f'"size":{file.stat().st_size}'))
    result = engine.execute(address, Upsert(rows(2, n=7), ("id",), columns=("n",)))
    assert result.why.endswith(WHY)
    read = engine.read(address, Read()).read_all().to_pylist()
    assert {(r["id"], r["n"], r["at"].timestamp()) for r in read} == {(1, 1, 0.0), (2, 7, 0.0)}
