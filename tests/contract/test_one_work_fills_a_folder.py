"""Clones and migrations to one target at once: one fills it, the others are refused by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylake.faults import arm, fired
from raylake.storage.place import place
from raylake.tables import errors, migrate
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.filling import MARK, Work, filling
from raylake.tables.migrate import Migrate
from raylake.tables.requests import Append, Create, Read
from raylake.tables.upkeep_requests import Clone, Convert
from tests.harness.store import store, store_lake
from tests.harness.waiting import until

__all__ = ["store", "store_lake"]

pytestmark = pytest.mark.spec("C4")

ENGINE = DeltaRsEngine()
SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string())])
RUN = """
import json, os, sys
from raylake.errors import RayLakeError
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.migrate import Migrate, migrate
from raylake.tables.upkeep_requests import Clone
what, source, target, journal = sys.argv[1:]
try:
    if what == "clone":
        DeltaRsEngine().execute(target, Clone(source))
    else:
        migrate([Migrate(source, target)], journal)
    print("done")
except RayLakeError as error:
    print(type(error).__name__)
sys.stdout.flush(); os._exit(0)
"""


def rows(start: int, count: int = 10) -> pa.Table:
    ids = list(range(start, start + count))
    return pa.table({"id": ids, "part": [f"p{one % 2}" for one in ids]}, schema=SCHEMA)


def table(address: Path | str, start: int) -> str:
    ENGINE.execute(str(address), Create(SCHEMA, ("part",)))
    ENGINE.execute(str(address), Append(rows(start)))
    return str(address)


def folder(path: Path, start: int) -> str:
    path.mkdir(parents=True)
    pq.write_table(rows(start), path / "a.parquet")
    return str(path)


def ids(address: Path | str) -> list[int]:
    found = ENGINE.read(str(address), Read(columns=("id",))).read_all()
    return sorted(found.column("id").to_pylist())


class Other:
    """Another process, which stops itself once it has copied."""

    def __init__(self, path: Path, what: str, source: str, target: str) -> None:
        self.faults = path / "faults"
        point = "clone.copied" if what == "clone" else "migrate.copied"
        arm(self.faults, point, action="stop")
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, what, source, target, str(path / "journal")],
            env={**os.environ, "RAYLAKE_FAULTS": str(self.faults)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def stopped(self) -> None:
        def there() -> bool:
            state = psutil.Process(self.process.pid).status()
            return bool(fired(self.faults)) and state == psutil.STATUS_STOPPED

        until(there, "it has copied")

    def goes_on(self) -> str:
        self.process.send_signal(signal.SIGCONT)
        return self.process.communicate(timeout=60)[0].strip()

    def dies(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["clone", "migration"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Other]:
    """A work on ``tmp_path/target`` whose rows are 0 to 9, held up before they are a table."""
    clone = request.param == "clone"
    source = table(tmp_path / "first", 0) if clone else folder(tmp_path / "first", 0)
    made = Other(tmp_path, request.param, source, str(tmp_path / "target"))
    try:
        made.stopped()
        yield made
    finally:
        made.dies()


def test_the_second_one_is_refused_and_the_first_one_goes_on(other: Other, tmp_path: Path) -> None:
    target = str(tmp_path / "target")
    second = table(tmp_path / "second", 100)
    third = [Migrate(folder(tmp_path / "third", 200), target)]
    for attempt in (
        lambda: ENGINE.execute(target, Clone(second)),
        lambda: ENGINE.execute(target, Clone(second, deep=False)),
        lambda: migrate.migrate(third, str(tmp_path / "other journal")),
        lambda: ENGINE.execute(target, Convert()),
    ):
        with pytest.raises(errors.FolderTaken, match=f"pid {other.process.pid} on") as told:
            attempt()
        assert told.value.table_changed is False
        assert told.value.hint
        assert len(told.value.context["work"]) == 32
    assert not (tmp_path / "other journal").exists()
    assert other.goes_on() == "done"
    assert ids(target) == list(range(10))
    assert not list((tmp_path / "target").glob(f"{MARK}*"))


def test_who_is_ordered_to_takes_over_and_the_first_one_does_no_harm(
    other: Other, tmp_path: Path
) -> None:
    target = str(tmp_path / "target")
    second = table(tmp_path / "second", 100)
    ENGINE.execute(target, Clone(second, take_over=True))
    assert ids(target) == list(range(100, 110))
    held = sorted(tmp_path.glob("target/**/*.parquet"))
    assert other.goes_on() in ("FolderTaken", "WriteConflict")
    assert ids(target) == list(range(100, 110))
    assert sorted(tmp_path.glob("target/**/*.parquet")) == held
    if (tmp_path / "journal").exists():
        migrate.roll_back(str(tmp_path / "journal"))
        assert sorted(tmp_path.glob("target/**/*.parquet")) == held


def test_what_a_killed_clone_left_is_taken_over_and_what_a_killed_migration_left_by_order(
    other: Other, tmp_path: Path
) -> None:
    target, second = str(tmp_path / "target"), table(tmp_path / "second", 100)
    journal = tmp_path / "journal"
    other.dies()
    left = set(tmp_path.glob("target/**/*.parquet"))
    assert left
    if journal.exists():
        # It can go on, by its journal: nobody takes it for over.
        with pytest.raises(errors.FolderTaken, match="journal") as told:
            ENGINE.execute(target, Clone(second))
        assert told.value.context["journal"] == str(journal)
    ENGINE.execute(target, Clone(second, take_over=journal.exists()))
    assert ids(target) == list(range(100, 110))
    assert not left & set(tmp_path.glob("target/**/*.parquet"))


def test_a_migration_that_waits_to_be_switched_keeps_its_target(tmp_path: Path) -> None:
    target, journal = str(tmp_path / "target"), str(tmp_path / "journal")
    moved = [Migrate(folder(tmp_path / "first", 0), target)]
    migrate.migrate(moved, journal, switch=False)
    second = [Migrate(folder(tmp_path / "second", 100), target)]
    with pytest.raises(errors.FolderTaken, match="journal"):
        migrate.migrate(second, str(tmp_path / "other"))
    assert [one.state for one in migrate.migrate([], journal)] == ["switched"]
    assert ids(target) == list(range(10))


def test_a_journal_serves_one_process_at_a_time(tmp_path: Path) -> None:
    source, target = folder(tmp_path / "first", 0), str(tmp_path / "target")
    first = Other(tmp_path, "migration", source, target)
    journal = str(tmp_path / "journal")
    try:
        first.stopped()
        for attempt in (
            lambda: migrate.migrate([], journal),
            lambda: migrate.roll_back(journal),
        ):
            with pytest.raises(errors.FolderTaken, match=f"pid {first.process.pid} on"):
                attempt()
        done = migrate.migrate([], journal, take_over=True)
        assert [one.state for one in done] == ["switched"]
        assert first.goes_on() == "FolderTaken"
        assert ids(target) == list(range(10))
        assert [one.state for one in migrate.migration(journal)] == ["switched"]
    finally:
        first.dies()


def test_a_roll_back_takes_away_its_own_files_and_no_others(tmp_path: Path) -> None:
    target, journal = tmp_path / "target", str(tmp_path / "journal")
    migrate.migrate([Migrate(folder(tmp_path / "first", 0), str(target))], journal)
    (target / "notes.txt").write_text("mine")
    (target / "part-0.parquet").write_bytes(b"mine")
    assert [one.state for one in migrate.roll_back(journal)] == ["rolled_back"]
    left = sorted(one.name for one in target.rglob("*"))
    assert left == ["notes.txt", "part-0.parquet"]


def test_a_roll_back_leaves_another_works_table(tmp_path: Path) -> None:
    target, journal = tmp_path / "target", str(tmp_path / "journal")
    migrate.migrate([Migrate(folder(tmp_path / "first", 0), str(target))], journal, switch=False)
    ENGINE.execute(str(target), Clone(table(tmp_path / "second", 100), take_over=True))
    assert [one.state for one in migrate.roll_back(journal)] == ["rolled_back"]
    assert ids(target) == list(range(100, 110))


def test_a_failed_clone_takes_its_files_back_and_leaves_a_strangers(tmp_path: Path) -> None:
    target, source = tmp_path / "target", place(table(tmp_path / "first", 0))
    work = Work("clone")

    def fails() -> None:
        with filling(place(str(target)), work):
            (target / f"{work.prefix}-0.parquet").write_bytes(b"its own")
            (target / "notes.txt").write_text("mine")
            ENGINE.execute(str(target), Create(SCHEMA))
            ENGINE.execute(str(target), Clone(str(source)))

    with pytest.raises(errors.TableExists):
        fails()
    names = sorted(one.name for one in target.iterdir())
    assert names == ["_delta_log", "notes.txt"]
    assert ids(target) == []
    assert ids(str(source)) == list(range(10))


@pytest.fixture(params=["disk", "store"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A lake on a disk, and one in a store."""
    if request.param == "store":
        return str(request.getfixturevalue("store_lake"))
    return str(tmp_path)


def test_of_many_at_once_one_makes_the_table_and_the_others_are_told(lake: str) -> None:
    target = f"{lake}/target"
    sources = [table(f"{lake}/s{start}", start) for start in (0, 100, 200, 300)]

    def attempt(source: str) -> str:
        try:
            ENGINE.execute(target, Clone(source))
        except errors.TableError as error:
            return f"{type(error).__name__} {error.table_changed}"
        return source

    with ThreadPoolExecutor(len(sources)) as pool:
        said = list(pool.map(attempt, sources))
    (winner,) = [one for one in said if one in sources]
    assert ids(target) == ids(winner)
    assert {one for one in said if one != winner} <= {
        "FolderTaken False",
        "TableExists False",
    }
    assert ENGINE.history(target)[0].parameters["source"] == winner
