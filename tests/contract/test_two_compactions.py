"""Two compactions of the same files, one of them frozen in between (FAILURES 21, 23)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from deltalake import CommitProperties, DeltaTable, Transaction

from raylake.delta.ledger import OWNER_APP
from raylake.faults import arm, fired
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Delete, Update
from raylake.tables.upkeep_requests import Compact, Vacuum, ZOrder
from tests.contract.test_table_upkeep import checksum
from tests.harness.tables import SCHEMA, Table, orders
from tests.harness.waiting import until

RUN = """
import os, sys
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import TableError
from raylake.tables.port import Fence
from raylake.tables.upkeep_requests import Compact, ZOrder
what, _, number = sys.argv[2].partition(" ")
asked = Compact() if what == "compact" else ZOrder(("id",))
fence = Fence("raylake/owner", int(number)) if number else None
try:
    result = DeltaRsEngine().execute(sys.argv[1], asked, fence=fence)
    print(result.version_before, result.version_after, result.attempts, result.note)
except TableError as error:
    print(type(error).__name__)
sys.stdout.flush(); os._exit(0)
"""


def made(path: Path) -> Table:
    table = Table(DeltaRsEngine(), path / "t")
    table.do(Create(SCHEMA))
    for start in range(0, 40, 10):
        table.do(Append(orders(range(start, start + 10))))
    return table


class Frozen:
    """A process that stops itself at a crash point, and goes on when it is told."""

    def __init__(self, table: Table, what: str, faults: Path, point: str) -> None:
        arm(faults, point, action="stop")
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(table.path), what],
            env={**os.environ, "RAYLAKE_FAULTS": str(faults)},
            stdout=subprocess.PIPE,
            text=True,
        )
        until(lambda: fired(faults), "the process is frozen")

    def goes_on(self) -> list[str]:
        """What it printed at its end."""
        self._process.send_signal(signal.SIGCONT)
        out, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        return out.split(maxsplit=3)


@pytest.mark.parametrize("point", ["rewrite.written", "rewrite.checked"])
@pytest.mark.parametrize("what", ["compact", "zorder"])
def test_failure_23_one_of_two_compactions_loses_and_nothing_is_doubled(
    tmp_path: Path, point: str, what: str
) -> None:
    table = made(tmp_path)
    before = checksum(table)
    frozen = Frozen(table, what, tmp_path / "faults", point)
    assert table.do(Compact()).files.added == 1
    _, _, attempts, *_ = frozen.goes_on()
    assert int(attempts) == 2
    assert checksum(table) == before
    # A compaction finds nothing left to do; a Z-order is done again, on what is there now.
    assert table.version == (5 if what == "compact" else 6)
    assert len(DeltaTable(table.path).file_uris()) == 1
    mine = {Path(one).name for one in DeltaTable(table.path).file_uris()}
    orphans = table.do(
        Vacuum(retention_hours=0, allow_short_retention=True, orphans=True, keep_versions=(4, 5))
    )
    assert not mine & set(orphans.paths)
    assert orphans.paths == ()


def test_failure_21_appends_and_a_compaction_do_not_disturb_each_other(tmp_path: Path) -> None:
    table = made(tmp_path)
    frozen = Frozen(table, "compact", tmp_path / "faults", "rewrite.checked")
    table.do(Append(orders(range(40, 50))))
    table.do(Append(orders(range(50, 60))))
    before, after, attempts, *_ = frozen.goes_on()
    assert (int(before), int(after), int(attempts)) == (6, 7, 1)
    assert table.ids() == list(range(60))
    assert len(DeltaTable(table.path).file_uris()) == 3


def test_failure_21_and_23_rows_are_exact_while_all_happens_at_once(tmp_path: Path) -> None:
    table = made(tmp_path)
    failures: list[BaseException] = []

    def work(start: int) -> None:
        mine = Table(DeltaRsEngine(), table.path)
        try:
            for step in range(4):
                mine.do(Append(orders([start + step])))
                if start == 1000:
                    mine.do(Compact())
                elif start == 2000:
                    mine.do(ZOrder(("id",)))
                else:
                    mine.do(Update({"amount": "amount + 1"}, where="id = 5"))
        except errors.TableError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert table.ids() == [*range(40), *(n + k for n in (1000, 2000, 3000) for k in range(4))]
    assert table.amounts(where="id = 5") == {5: 5}


def test_failure_23_a_file_that_a_delete_took_is_not_brought_back(tmp_path: Path) -> None:
    table = made(tmp_path)
    frozen = Frozen(table, "compact", tmp_path / "faults", "rewrite.checked")
    table.do(Delete("id = 5"))
    assert int(frozen.goes_on()[2]) == 2
    assert table.ids() == [n for n in range(40) if n != 5]
    assert len(DeltaTable(table.path).file_uris()) == 1


def test_failure_27_a_writer_paused_between_upload_and_commit_keeps_its_files(
    tmp_path: Path,
) -> None:
    table = made(tmp_path)
    before = checksum(table)
    frozen = Frozen(table, "compact", tmp_path / "faults", "rewrite.written")
    assert len(list(table.path.glob("*.parquet"))) == 5
    assert table.do(Vacuum(orphans=True)).paths == ()
    assert int(frozen.goes_on()[1]) == 5
    assert checksum(table) == before
    assert len(DeltaTable(table.path).file_uris()) == 1


def test_failure_23_a_new_owner_s_epoch_in_between_fences_a_compaction(tmp_path: Path) -> None:
    table = made(tmp_path)
    own(table, 7)
    before = checksum(table)
    frozen = Frozen(table, "compact 8", tmp_path / "faults", "rewrite.written")
    own(table, 2**32)
    assert frozen.goes_on() == ["SlotClosed"]
    assert checksum(table) == before
    assert len(DeltaTable(table.path).file_uris()) == 4
    assert DeltaTable(table.path).transaction_version(OWNER_APP) == 2**32


def own(table: Table, number: int) -> None:
    handle = DeltaTable(table.path)
    mine = CommitProperties(app_transactions=[Transaction(OWNER_APP, number)])
    handle.create_write_transaction([], "append", handle.schema(), commit_properties=mine)
