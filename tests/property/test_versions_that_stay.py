"""What vacuum leaves: versions within the retention, pinned ones, and what readers hold."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake.cli.main import main
from raylake.client.lake import table_at
from raylake.clock import ManualClock
from raylake.delta.leases import Leases, LeaseUnread
from raylake.delta.log_reader import LogReader
from raylake.delta.version_pins import Pins
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Delete, Read, Upsert, Write
from raylake.tables.upkeep_requests import Checkpoint, Compact, Vacuum, ZOrder

SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.int64())])
DAY_S = 86_400.0
START_S = 1_900_000_000.0


def rows(*ids: int, n: int = 0) -> pa.Table:
    return pa.table({"id": list(ids), "n": [n] * len(ids)}, SCHEMA)


class Dated:
    """A table whose versions are a day apart, and the checksum of each version's rows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "t"
        self.clock = ManualClock(START_S)
        self.engine = DeltaRsEngine(self.clock)
        self.sums: list[int] = []
        self.do(Create(SCHEMA))

    @property
    def latest(self) -> int:
        return len(self.sums) - 1

    def do(self, operation: Write) -> None:
        before = set(self.path.rglob("*.parquet"))
        self.engine.execute(str(self.path), operation)
        self.clock.jump(DAY_S)
        now_s = self.clock.now()
        log = self.path / "_delta_log"
        for entry in sorted(log.glob("*.json"))[len(self.sums) :]:
            actions = [json.loads(line) for line in entry.read_text().splitlines()]
            for action in actions:
                for kind, name in (("commitInfo", "timestamp"), ("remove", "deletionTimestamp")):
                    if kind in action:
                        action[kind][name] = int(now_s * 1000)
            entry.write_text("\n".join(map(json.dumps, actions)))
            self.sums.append(self.checksum(int(entry.stem)))
        for file in set(self.path.rglob("*.parquet")) - before:
            os.utime(file, (now_s, now_s))

    def checksum(self, version: int) -> int:
        found = self.engine.read(str(self.path), Read(version=version)).read_all()
        return hash(tuple(sorted((one["id"], one["n"]) for one in found.to_pylist())))

    def vacuum(self, **asked: object) -> tuple[str, ...]:
        return self.engine.execute(str(self.path), Vacuum(**asked)).paths  # type: ignore[arg-type]

    def table_id(self) -> str:
        return LogReader(str(self.path)).snapshot().metadata.id


@contextmanager
def dated() -> Iterator[Dated]:
    with tempfile.TemporaryDirectory() as folder:
        yield Dated(Path(folder))


OPERATIONS = st.sampled_from(
    [
        Append(rows(1, 2, 3)),
        Append(rows(7, 8, n=1)),
        Delete("id = 2"),
        Delete("n = 1"),
        Upsert(rows(1, 9, n=5), ("id",)),
        Compact(),
        ZOrder(("id",)),
        Checkpoint(),
    ]
)


@pytest.mark.spec("F1", "F2")
@settings(deadline=None, max_examples=12)
@given(done=st.lists(OPERATIONS, min_size=4, max_size=12), keep=st.integers(7, 9), data=st.data())
def test_property_17_31_versions_that_are_kept_have_the_same_rows(
    done: list[Write], keep: int, data: st.DataObject
) -> None:
    with dated() as table:
        table.do(Append(rows(*range(20))))
        for one in done:
            table.do(one)
        pinned = data.draw(st.integers(0, table.latest), "pinned")
        read = data.draw(st.integers(0, table.latest), "read")
        until_ms = int((table.clock.now() + 400 * DAY_S) * 1000)
        Pins(table.path, table.clock).pin("p", table.table_id(), pinned, until_ms)
        Leases(table.path, table.clock).renew("r", table.table_id(), read, 400 * DAY_S)
        table.vacuum(retention_hours=keep * 24.0)
        # That of the moment at which the retention began, and all that came after it.
        made_s = [START_S + (version + 1) * DAY_S for version in range(table.latest + 1)]
        horizon_s = table.clock.now() - keep * DAY_S
        within = {v for v, at_s in enumerate(made_s) if at_s > horizon_s}
        within |= {v for v in range(table.latest + 1) if v >= read} | {pinned, table.latest}
        within |= {max((v for v, at_s in enumerate(made_s) if at_s <= horizon_s), default=0)}
        for version in sorted(within):
            assert table.checksum(version) == table.sums[version], version


@pytest.mark.spec("F1", "F2")
def test_property_18_32_vacuum_takes_what_is_past_its_retention_and_nothing_else() -> None:
    with dated() as table:
        table.do(Append(rows(*range(20))))
        first = {one.name for one in table.path.glob("*.parquet")}
        table.do(Delete("id < 10"))
        second = {one.name for one in table.path.glob("*.parquet")} - first
        for _ in range(9):
            table.do(Append(rows(100)))
        table.do(Delete("id >= 10"))
        listed = set(table.vacuum(dry_run=True))
        assert listed == first, "what version 1 had, which a delete took ten days ago"
        assert set(table.vacuum()) == first
        assert all((table.path / one).exists() for one in second)
        with pytest.raises(errors.VersionGone):
            table.checksum(1)
        assert table.checksum(2) == table.sums[2]


@pytest.mark.spec("F1")
def test_a_pin_keeps_one_version_and_ends_by_itself() -> None:
    with dated() as table:
        for at in range(4):
            table.do(Append(rows(at)))
            table.do(Compact())
        until_ms = int((table.clock.now() + 30 * DAY_S) * 1000)
        Pins(table.path, table.clock).pin("audit", table.table_id(), 3, until_ms)
        table.clock.jump(10 * DAY_S)
        taken = table.vacuum()
        assert taken, "versions between the pin and the newest are not kept"
        assert table.checksum(3) == table.sums[3]
        with pytest.raises(errors.VersionGone):
            table.checksum(5)
        table.clock.jump(21 * DAY_S)
        table.vacuum()
        with pytest.raises(errors.VersionGone):
            table.checksum(3)


@pytest.mark.spec("F1", "F2")
def test_a_forced_vacuum_says_what_it_breaks_first() -> None:
    with dated() as table:
        table.do(Append(rows(1, 2)))
        table.do(Compact())
        table.do(Append(rows(3)))
        table.do(Compact())
        until_ms = int((table.clock.now() + 30 * DAY_S) * 1000)
        Pins(table.path, table.clock).pin("audit", table.table_id(), 1, until_ms)
        Leases(table.path, table.clock).renew("lagging", table.table_id(), 2)
        forced = Vacuum(0.0, dry_run=True, allow_short_retention=True)
        kind = DeltaRsEngine(table.clock)
        kept = kind.execute(str(table.path), forced)
        assert "lagging holds version 2" in kept.note
        assert "pin audit keeps version 1" in kept.note
        everything = Vacuum(0.0, dry_run=True, allow_short_retention=True, break_holds=True)
        broken = kind.execute(str(table.path), everything)
        assert set(kept.paths) < set(broken.paths)
        for part in ("broken: reader lagging", "pin audit", "versions 1 to", "could no longer"):
            assert part in broken.note
        assert table.checksum(1) == table.sums[1], "a dry run"
        with pytest.raises(errors.BadRequest, match="below 168"):
            table.vacuum(retention_hours=1.0, break_holds=True)


@pytest.mark.spec("F1")
def test_a_pin_that_cannot_be_read_stops_a_vacuum() -> None:
    with dated() as table:
        table.do(Append(rows(1)))
        table.do(Compact())
        folder = table.path / "_raylake" / "pins"
        folder.mkdir(parents=True)
        (folder / "p.json").write_text('{"format": 99}')
        with pytest.raises(LeaseUnread, match="not a pin"):
            table.vacuum()


@pytest.mark.spec("F1", "F2")
def test_no_commit_of_an_operation_takes_log_that_a_reader_or_a_pin_needs(tmp_path: Path) -> None:
    """delta-rs's clean-up after commits knows neither: it is off, and RayLake's does it."""
    quick = {"delta.logRetentionDuration": "interval 1 seconds", "delta.checkpointInterval": "2"}
    address = str(tmp_path / "t")
    engine = DeltaRsEngine()
    engine.execute(address, Create(SCHEMA, properties=quick))
    engine.execute(address, Append(rows(1)))
    log = tmp_path / "t" / "_delta_log"
    table_id = LogReader(address).snapshot().metadata.id
    pins = Pins(tmp_path / "t")
    pins.pin("audit", table_id, 1, int(time.time() * 1000) + 10**7)
    aged(log)
    for at in range(4):
        engine.execute(address, Append(rows(at)))
        engine.execute(address, Delete(f"id = {at}"))
        aged(log)
    assert (log / f"{1:020d}.json").exists()
    assert engine.read(address, Read(version=1)).read_all().num_rows == 1
    pins.unpin("audit")
    engine.execute(address, Append(rows(5)))
    engine.execute(address, Append(rows(6)))
    assert not (log / f"{1:020d}.json").exists(), "nobody needs it: it is past its retention"


def aged(log: Path) -> None:
    for one in log.iterdir():
        os.utime(one, (1_000_000, 1_000_000))


@pytest.mark.spec("F1")
def test_pins_by_command_and_by_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = str(tmp_path / "t")
    engine = DeltaRsEngine()
    engine.execute(address, Create(SCHEMA))
    engine.execute(address, Append(rows(1)))
    until = datetime.fromtimestamp(time.time() + 90_000, UTC).isoformat()
    assert main(["table", "pin", address, "--until", until, "--name", "audit"]) == 0
    capsys.readouterr()
    assert main(["table", "pins", address, "-o", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["pins"]
    assert (shown["name"], shown["version"], shown["state"]) == ("audit", 1, "live")
    (pin,) = table_at(address).pins()
    assert (pin.name, pin.version, pin.state) == ("audit", 1, "live")
    with pytest.raises(errors.BadRequest, match="is over"):
        table_at(address).pin("2020-01-01T00:00:00Z")
    with pytest.raises(errors.VersionUnknown):
        table_at(address).pin(until, version=9)
    assert main(["table", "unpin", address, "audit"]) == 0
    assert main(["table", "unpin", address, "audit"]) == 2
    assert table_at(address).unpin("audit") is False
    assert main(["table", "vacuum", address, "--break-holds"]) == 2
    assert main(["table", "vacuum", address, "--dry-run"]) == 0
    assert main(["table", "repair", address]) == 0
