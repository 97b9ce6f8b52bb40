"""Conflicts are tried again with back-off, and what became of a commit is read in the log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from raylake.clock import ManualClock
from raylake.delta import log_table
from raylake.ingest.retry import RetryPolicy
from raylake.storage.place import Place
from raylake.tables import delta_rs, errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.delta_rs_tasks import Task
from raylake.tables.requests import Append, Create, Delete, DeleteUnmatched, Read, Update, Upsert

SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.int32())])


def rows(*ids: int, n: int = 1) -> pa.Table:
    return pa.table({"id": list(ids), "n": [n] * len(ids)}, schema=SCHEMA)


class Sleeper(ManualClock):
    """A clock that keeps what was slept."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)


@pytest.fixture
def clock() -> Sleeper:
    return Sleeper()


@pytest.fixture
def engine(clock: Sleeper) -> DeltaRsEngine:
    return DeltaRsEngine(clock, conflicts=RetryPolicy(attempts=4, initial_s=1.0, max_s=8.0))


@pytest.fixture
def table(engine: DeltaRsEngine, tmp_path: Path) -> str:
    address = str(tmp_path / "t")
    engine.execute(address, Create(SCHEMA))
    engine.execute(address, Append(rows(1, 2, 3)))
    return address


def found(engine: DeltaRsEngine, table: str) -> dict[int, int]:
    read = engine.read(table, Read()).read_all().to_pylist()
    return {row["id"]: row["n"] for row in read}


@pytest.fixture
def interfere(monkeypatch: pytest.MonkeyPatch, table: str) -> Callable[[int], None]:
    """Lets another writer commit between an attempt's read and its write, some times."""

    def start(times: int) -> None:
        left = iter(range(times))
        opened_for = delta_rs.opened_for

        def opened(*args: object) -> DeltaTable:
            handle = opened_for(*args)  # type: ignore[arg-type]
            if next(left, None) is not None:
                write_deltalake(table, rows(100), mode="append")
            return handle

        monkeypatch.setattr(delta_rs, "opened_for", opened)

    return start


@pytest.mark.spec("C6")
@pytest.mark.parametrize(
    "operation",
    [Update({"n": "n + 1"}, where="id < 50"), Upsert(rows(1, 2, 3, n=2), ("id",))],
    ids=["update", "upsert"],
)
def test_a_conflict_is_tried_again_with_back_off(
    engine: DeltaRsEngine,
    clock: Sleeper,
    table: str,
    interfere: Callable[[int], None],
    operation: Update | Upsert,
) -> None:
    interfere(3)
    result = engine.execute(table, operation)
    assert (result.attempts, result.rows.updated) == (4, 3)
    assert len(clock.slept) == 3
    assert result.version_after == result.version_before + 1 == 5
    assert found(engine, table) == {1: 2, 2: 2, 3: 2, 100: 1}


@pytest.mark.spec("C6")
def test_too_many_conflicts_end_with_an_error_and_an_unchanged_table(
    engine: DeltaRsEngine, clock: Sleeper, table: str, interfere: Callable[[int], None]
) -> None:
    interfere(4)
    with pytest.raises(errors.WriteConflict) as caught:
        engine.execute(table, Delete("id = 1"))
    assert caught.value.to_dict()["table_changed"] is False
    assert len(clock.slept) == 3
    assert found(engine, table) == {1: 1, 2: 1, 3: 1, 100: 1}
    assert engine.execute(table, Delete("id = 1")).rows.deleted == 1


def ends_with(
    monkeypatch: pytest.MonkeyPatch, ending: Callable[[Task, CommitProperties], None]
) -> None:
    """Lets each task end like that."""
    plan = delta_rs._task

    def planned(*args: object) -> Task | None:
        task = plan(*args)  # type: ignore[arg-type]
        assert task is not None
        return Task(lambda properties: ending(task, properties), task.count, task.retries)

    monkeypatch.setattr(delta_rs, "_task", planned)


def test_an_error_after_the_commit_is_no_failure(
    engine: DeltaRsEngine, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(task: Task, properties: CommitProperties) -> None:
        task.run(properties)
        raise OSError("the checkpoint could not be written")

    ends_with(monkeypatch, late)
    result = engine.execute(table, Update({"n": "7"}, where="id = 2"))
    assert (result.changed, result.attempts, result.rows.updated) == (True, 1, 1)
    assert found(engine, table)[2] == 7


def test_an_error_before_the_commit_leaves_the_table_and_is_not_repeated(
    engine: DeltaRsEngine, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def early(task: Task, properties: CommitProperties) -> None:
        tries.append(properties)
        raise OSError("no space left on device")

    ends_with(monkeypatch, early)
    with pytest.raises(errors.WriteFailed, match="no space left"):
        engine.execute(table, Append(rows(9)))
    assert len(tries) == 1
    assert found(engine, table) == {1: 1, 2: 1, 3: 1}


def test_what_cannot_be_told_is_said(
    engine: DeltaRsEngine, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(task: Task, properties: CommitProperties) -> None:
        Path(table, "_delta_log", f"{2:020d}.json").write_text('{"commitInfo"')
        raise OSError("the disk is gone")

    ends_with(monkeypatch, torn)
    with pytest.raises(errors.OutcomeUnread) as caught:
        engine.execute(table, Append(rows(9)))
    assert caught.value.to_dict()["table_changed"] is None


@pytest.mark.parametrize("prunes", [True, False])
def test_files_out_of_the_range_of_the_sources_keys_are_passed_over(
    engine: DeltaRsEngine, table: str, prunes: bool
) -> None:
    for start in (1000, 2000):
        engine.execute(table, Append(rows(*range(start, start + 10))))
    unmatched = None if prunes else DeleteUnmatched("id < 0")
    result = engine.execute(
        table, Upsert(rows(1003, 1004, n=5), ("id",), not_matched_by_source=unmatched)
    )
    assert result.rows.updated == 2
    metrics = engine.history(table, 1)[0].metrics
    skipped, scanned = ("num_target_files_skipped_during_scan", "num_target_files_scanned")
    assert (metrics[skipped], metrics[scanned]) == ((2, 1) if prunes else (0, 3))


@pytest.mark.spec("C6")
def test_an_entry_that_a_store_says_is_anothers_and_that_is_ours_keeps_its_files(
    engine: DeltaRsEngine, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_first = log_table.place_first

    def twice(path: Place, text: str) -> None:
        place_first(path, text)
        # The first answer was lost, and the client's second put finds what the first one made.
        place_first(path, text)

    monkeypatch.setattr(log_table, "place_first", twice)
    result = engine.execute(table, Upsert(rows(2, 4, n=7), ("id",)))
    assert result.attempts == 1
    assert found(engine, table) == {1: 1, 2: 7, 3: 1, 4: 7}


def test_files_of_an_entry_that_lost_are_taken_away(
    engine: DeltaRsEngine, table: str, interfere: Callable[[int], None]
) -> None:
    interfere(1)
    engine.execute(table, Upsert(rows(2, 4, n=7), ("id",)))
    assert found(engine, table) == {1: 1, 2: 7, 3: 1, 4: 7, 100: 1}
    live = {Path(one).name for one in DeltaTable(table).file_uris()}
    left = {one.name for one in Path(table).glob("*.parquet")} - live
    # What the upsert replaced stays for readers of older versions.
    assert len(left) == 1


@pytest.mark.spec("C2")
def test_empty_text_of_a_partition_column_is_no_key(engine: DeltaRsEngine, tmp_path: Path) -> None:
    schema = pa.schema([("region", pa.string()), ("id", pa.int64())])
    address = str(tmp_path / "p")
    engine.execute(address, Create(schema, partition_by=("region",)))
    rows = pa.table({"region": ["", "no"], "id": [7, 8]}, schema=schema)
    with pytest.raises(errors.NullMergeKeys, match="region"):
        engine.execute(address, Upsert(rows, ("region", "id")))
    for _ in range(2):
        engine.execute(address, Upsert(rows, ("id",)))
    assert sorted(engine.read(address, Read()).read_all().to_pylist(), key=lambda r: r["id"]) == [
        {"region": None, "id": 7},
        {"region": "no", "id": 8},
    ]
