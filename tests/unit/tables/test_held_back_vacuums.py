"""A vacuum, and the log's clean-up, beside readers that lag."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylake.cli.main import main
from raylake.client.lake import table_at
from raylake.client.lake_table import Table
from raylake.clock import ManualClock
from raylake.delta.checkpoint import checkpoint
from raylake.delta.leases import Leases
from raylake.delta.log_reader import LogReader
from raylake.tables import errors
from raylake.tables.requests import Append, Changes, Create, Delete, Read, Upsert, Write
from raylake.tables.results import OperationResult
from raylake.tables.service import DirectTables
from raylake.tables.upkeep_requests import Checkpoint, Compact, Vacuum

SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.int64())])
FEED = {"delta.enableChangeDataFeed": "true"}
NOW = Vacuum(retention_hours=0, allow_short_retention=True)
DAY_S = 86_400.0


def rows(*ids: int, n: int = 0) -> pa.Table:
    return pa.table({"id": list(ids), "n": [n] * len(ids)}, SCHEMA)


class Lagging:
    """A table, and what it held at each version."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.tables = DirectTables()
        self.do(Create(SCHEMA, properties=FEED))
        self.seen: dict[int, tuple[list[object], list[object]]] = {}

    def do(self, operation: Write) -> OperationResult:
        return self.tables.execute(self.address, operation)

    def rows(self, version: int) -> list[object]:
        found = self.tables.read(self.address, Read(version=version)).read_all()
        return sorted(found.to_pylist(), key=str)

    def changes(self, version: int) -> list[object]:
        asked = Changes(from_version=version, to_version=version)
        return sorted(self.tables.changes(self.address, asked).read_all().to_pylist(), key=str)

    def remember(self) -> int:
        version = self.tables.history(self.address, 1)[0].version
        for one in range(version + 1):
            if one not in self.seen:
                self.seen[one] = (self.rows(one), self.changes(one) if one else [])
        return version

    @property
    def table(self) -> Table:
        return table_at(self.address)


@pytest.fixture
def lagging(tmp_path: Path) -> Lagging:
    made = Lagging(tmp_path / "lake" / "silver" / "orders")
    made.do(Append(rows(1, 2, 3)))
    return made


def _id(lagging: Lagging) -> str:
    return LogReader(lagging.address).snapshot(0).metadata.id


@pytest.mark.spec("F1")
def test_a_vacuum_keeps_what_a_lagging_reader_needs_and_says_so(lagging: Lagging) -> None:
    reader = lagging.table.reader("mart", start=1)
    with reader.read_new() as new:
        assert new.to_arrow().num_rows == 3
    lagging.do(Upsert(rows(2, n=5), ("id",)))
    lagging.do(Delete("id = 3"))
    result = lagging.do(NOW)
    assert result.paths == ()
    assert "reader mart holds version 1 and later ones" in result.note
    with reader.read_new() as new:
        kinds = sorted(new.to_arrow().column("_change_type").to_pylist())
        assert kinds == ["delete", "update_postimage", "update_preimage"]
    result = lagging.do(NOW)
    assert len(result.paths) >= 2
    assert "reader" not in result.note
    with pytest.raises(errors.VersionGone):
        lagging.rows(1)


@pytest.mark.spec("F1")
def test_a_reader_that_has_been_silent_for_too_long_is_passed_over(lagging: Lagging) -> None:
    clock = ManualClock(time.time() - 8 * DAY_S)
    Leases(Path(lagging.address), clock).renew("gone", _id(lagging), 1, 7 * DAY_S)
    lagging.do(Delete("id = 3"))
    dry = lagging.do(Vacuum(retention_hours=0, allow_short_retention=True, dry_run=True))
    assert dry.note.startswith("a dry run: nothing was deleted; reader gone was passed over")
    result = lagging.do(NOW)
    assert result.paths == dry.paths != ()
    assert "has been silent for 8d (max_hold 7d)" in result.note


def test_a_reader_that_asks_for_nothing_holds_nothing(lagging: Lagging) -> None:
    lagging.table.reader("free", start=1, max_hold_s=0).read_new().commit()
    lagging.do(Delete("id = 3"))
    assert lagging.do(NOW).paths != ()


def test_a_lease_of_the_tables_predecessor_holds_nothing(lagging: Lagging) -> None:
    Leases(Path(lagging.address)).renew("old", "another id", 0)
    lagging.do(Delete("id = 3"))
    result = lagging.do(NOW)
    assert result.paths != ()
    assert "reader" not in result.note


def test_a_lease_that_cannot_be_read_stops_vacuum_and_clean_up(lagging: Lagging) -> None:
    folder = Path(lagging.address, "_raylake", "readers")
    folder.mkdir(parents=True)
    (folder / "odd.json").write_text("{}")
    lagging.do(Delete("id = 3"))
    with pytest.raises(errors.RayLakeError, match="not a reader's lease"):
        lagging.do(NOW)
    assert len(lagging.rows(1)) == 3
    _old(Path(lagging.address))
    with pytest.raises(errors.RayLakeError, match="not a reader's lease"):
        checkpoint(lagging.address, keep_from=99)
    assert len(lagging.rows(1)) == 3


def _old(path: Path) -> None:
    for one in (path / "_delta_log").iterdir():
        os.utime(one, (1, 1))


@pytest.mark.spec("F1")
def test_the_logs_clean_up_leaves_what_a_reader_has_not_read(lagging: Lagging) -> None:
    for n in range(3):
        lagging.do(Append(rows(10 + n)))
        lagging.do(Checkpoint())
    Leases(Path(lagging.address)).renew("mart", _id(lagging), 3)
    lagging.do(Append(rows(20)))
    _old(Path(lagging.address))
    checkpoint(lagging.address, keep_from=99)
    assert sorted(row["id"] for row in lagging.rows(3)) == [1, 2, 3, 10, 11]  # type: ignore[index]
    assert len(lagging.changes(4)) == len(lagging.changes(5)) == 1
    with pytest.raises(errors.VersionGone):
        lagging.rows(1)
    Leases(Path(lagging.address)).release("mart")
    checkpoint(lagging.address, keep_from=99)
    with pytest.raises(errors.VersionGone):
        lagging.changes(4)


STEP = st.tuples(
    st.sampled_from(["append", "upsert", "delete", "compact", "checkpoint"]), st.integers(0, 5)
)


def _step(kind: str, n: int, at: int) -> Write:
    made: dict[str, Write] = {
        "append": Append(rows(n, n + 1, n=at)),
        "upsert": Upsert(rows(n, n=at), ("id",)),
        "delete": Delete(f"id = {n}"),
        "compact": Compact(),
        "checkpoint": Checkpoint(),
    }
    return made[kind]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, min_size=2, max_size=7), data=st.data())
def test_whatever_was_done_a_live_lease_keeps_its_version_and_all_later_ones(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lagging = Lagging(Path(folder) / "silver" / "t")
        for at, (kind, n) in enumerate(steps):
            lagging.do(Append(rows(n))) if at == 0 else lagging.do(_step(kind, n, at))
        latest = lagging.remember()
        version = data.draw(st.integers(0, latest))
        expired = data.draw(st.integers(0, version))
        root = Path(lagging.address)
        Leases(root).renew("lagging", _id(lagging), version)
        Leases(root, ManualClock(1.0)).renew("gone", _id(lagging), expired)
        _old(root)
        lagging.do(NOW)
        checkpoint(root, keep_from=latest)
        lagging.do(NOW)
        for one in range(version, latest + 1):
            assert lagging.rows(one) == lagging.seen[one][0]
            if one > version:
                assert lagging.changes(one) == lagging.seen[one][1]


def test_readers_are_listed(lagging: Lagging, capsys: pytest.CaptureFixture[str]) -> None:
    lagging.table.reader("mart", start=1).read_new()
    clock = ManualClock(0.0)
    Leases(Path(lagging.address), clock).renew("gone", _id(lagging), 0, DAY_S)
    lagging.do(Append(rows(9)))
    found = {one.reader: one for one in lagging.table.readers()}
    assert (found["mart"].version, found["mart"].behind, found["mart"].state) == (0, 2, "live")
    assert (found["gone"].state, found["gone"].until.year) == ("expired", 1970)
    assert main(["table", "readers", lagging.address, "-o", "json"]) == 0
    (gone, mart) = json.loads(capsys.readouterr().out)["readers"]
    assert (gone["reader"], mart["reader"], mart["behind"]) == ("gone", "mart", 2)
    assert main(["table", "readers", lagging.address]) == 0
    assert "expired" in capsys.readouterr().out
