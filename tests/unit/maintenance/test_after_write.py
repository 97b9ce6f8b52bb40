"""What follows a write: only what the log says is worth it, and never instead of the write."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import raylake
from raylake.errors import RayLakeError
from raylake.maintenance.after_write import AfterWrite, worth
from raylake.maintenance.policy import Policy
from raylake.tables.errors import WriteFailed
from raylake.tables.requests import Append, Create
from raylake.tables.service import DirectTables
from raylake.tables.upkeep_requests import Compact, ZOrder

SCHEMA = pa.schema([("id", pa.int64()), ("day", pa.date32()), ("n", pa.int64())])
FEW = Policy(small_files=2)
DAY = dt.date(2026, 1, 31)


def rows(*ids: int, day: dt.date | None = DAY) -> pa.Table:
    return pa.Table.from_pylist([{"id": one, "day": day, "n": one % 7} for one in ids], SCHEMA)


def made(path: Path, *batches: pa.Table, partition_by: tuple[str, ...] = ()) -> str:
    tables, address = DirectTables(), str(path / "t")
    tables.execute(address, Create(SCHEMA, partition_by))
    for one in batches:
        tables.execute(address, Append(one))
    return address


def files(address: str) -> int:
    return len(DeltaTable(address).file_uris())


@pytest.mark.spec("C5")
def test_small_files_are_compacted_once_there_are_more_than_are_let_be(tmp_path: Path) -> None:
    address = made(tmp_path, rows(1), rows(2))
    wanted = AfterWrite("compact", FEW)
    version = DeltaTable(address).version()
    assert wanted(DirectTables(), address, "auto").startswith("no compact: 1 partitions have 2")
    assert DeltaTable(address).version() == version
    DirectTables().execute(address, Append(rows(3)))
    assert wanted(DirectTables(), address, "auto") == "compact: 3 files became 1, by delta-rs"
    assert files(address) == 1
    # Nothing is to gain any more.
    version = DeltaTable(address).version()
    assert wanted(DirectTables(), address, "auto") == ""
    assert DeltaTable(address).version() == version


@pytest.mark.spec("C5")
def test_only_partitions_that_have_decayed_are_laid_along_the_curve(tmp_path: Path) -> None:
    other = DAY + dt.timedelta(days=1)
    wide = [rows(*range(n, 100, 6)) for n in range(6)]
    apart = [rows(n, n + 1, day=other) for n in range(0, 12, 2)]
    address = made(tmp_path, *wide, *apart, partition_by=("day",))
    wanted = AfterWrite("zorder", Policy(zorder=("id",), small_files=100))
    requests, why = worth(address, wanted)
    assert requests == [ZOrder(("id",), "(\"day\" = date '2026-01-31')")]
    assert any("lies in 4 files or fewer" in one for one in why)
    assert "zorder: 6 files became 1" in wanted(DirectTables(), address, "auto")
    assert files(address) == 1 + len(apart)
    # The same again would gain nothing.
    assert worth(address, wanted)[0] == []


@pytest.mark.spec("C5")
@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        (pa.string(), "o'x", "\"p\" = 'o''x'"),
        (pa.string(), None, '"p" IS NULL'),
        (pa.int32(), 7, '"p" = 7'),
        (pa.bool_(), True, None),
    ],
)
def test_partitions_are_named_by_their_values_where_that_is_plain(
    tmp_path: Path, schema: pa.DataType, value: Any, said: str | None
) -> None:
    columns = pa.schema([("id", pa.int64()), ("p", schema)])
    address = str(tmp_path / "t")
    tables = DirectTables()
    tables.execute(address, Create(columns, ("p",)))
    for n in range(6):
        some = [{"id": one, "p": value} for one in range(n, 60, 6)]
        tables.execute(address, Append(pa.Table.from_pylist(some, columns)))
    [request], _ = worth(address, AfterWrite("zorder", Policy(zorder=("id",))))
    assert request.where == (None if said is None else f"({said})")
    assert tables.execute(address, request).files.added == 1


@pytest.mark.spec("C5")
def test_a_partition_larger_than_a_job_is_left_to_upkeep(tmp_path: Path) -> None:
    address = made(tmp_path, *(rows(*range(n, 5000, 6)) for n in range(6)))
    size = DeltaTable(address).get_add_actions().column("size_bytes").to_pylist()
    policy = Policy(zorder=("id",), max_job_bytes=sum(size) - 1)
    requests, why = worth(address, AfterWrite("zorder", policy))
    assert requests == []
    assert "more than a job's cap" in why[-1]


@pytest.mark.spec("C5")
def test_a_write_stays_done_where_what_follows_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(DirectTables):
        def execute(self, table: str, operation: Any, **more: Any) -> Any:
            if isinstance(operation, Compact):
                raise WriteFailed("the disk is full", hint="make room")
            return super().execute(table, operation, **more)

    address = made(tmp_path, rows(1), rows(2), rows(3))
    with caplog.at_level(logging.WARNING):
        told = AfterWrite("compact", FEW)(Failing(), address, "auto")
    assert told == "the write is done, its files were not put in order: the disk is full"
    assert "the disk is full" in caplog.text
    assert files(address) == 3


@pytest.mark.spec("C5")
def test_writes_of_a_program_choose_what_follows(tmp_path: Path) -> None:
    table = raylake.connect(tmp_path).table("silver.t")
    table.create(SCHEMA, properties={"delta.targetFileSize": "64mb"})
    for n in range(32):
        done = table.append(rows(n), optimize_after_write=Compact())
    assert "after it: no compact" in done.note
    assert files(table.address) == 32
    done = table.merge(rows(5, 99), "id", optimize_after_write=Compact())
    assert "after it: compact: " in done.note
    assert files(table.address) == 1
    assert table.version == done.version_after + 1
    assert table.read().to_arrow().num_rows == 33
    # Nothing was written, so nothing follows.
    empty = table.merge(rows(), "id", optimize_after_write=Compact())
    assert not empty.changed
    assert "after it" not in empty.note
    with pytest.raises(RayLakeError, match="no column 'idd'"):
        table.run(ZOrder(("idd",)))
    done = table.overwrite(rows(1, 2), optimize_after_write=ZOrder(("idd",)))
    assert "the write is done" in done.note
    assert "idd" in done.note
