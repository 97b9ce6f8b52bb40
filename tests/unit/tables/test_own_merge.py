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
from raylake.tables.requests import Append, Create, Read, UpdateUnmatched, Upsert
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
        ({"properties": {"delta.enableChangeDataFeed": "true"}}, {}, "change feed"),
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
    table = made()
    engine.execute(table, Append(rows(4, 5)))
    before = data_files(table)

    def full(*args: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raylake.tables.cow_upsert.write_data_files", full)
    with pytest.raises(errors.NotEnoughSpace, match="No space left"):
        engine.execute(table, Upsert(rows(1, 4, 9, n=5), ("id",)))
    assert data_files(table) == before
    assert found(engine, table) == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}


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
