"""Runners and owners that die in the middle: what is reported is what the log holds, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake import faults
from raylake.delta import log_files
from raylake.delta.ledger import OWNER_APP, owner_epoch
from raylake.storage.place import place
from raylake.tables import errors
from raylake.tables.child import LimitedRunner
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Read, Update, Upsert
from raylake.tables.routing import MIB, Allowance
from raylake.tables.running import MemoryExceeded, Order, RunnerLost
from tests.harness.waiting import until
from tests.integration.tables.client import Client
from tests.integration.tables.conftest import rows

Held = Callable[[], dict[int, int]]
Two = tuple[Client, Client]
MORE = Update({"n": "n + 1"})
WIDE = 300_000
TIGHT = 190 * MIB
IN_A_CHILD = Allowance(in_process_bytes=0)


@pytest.fixture(params=["worker", pytest.param("child", marks=pytest.mark.long)])
def client(clients: Two, request: pytest.FixtureRequest) -> Iterator[Client]:
    """One that runs its operations in its worker, and one that does so in a child process."""
    if request.param == "child":
        clients[0].do("allow", IN_A_CHILD)
    yield clients[0]
    clients[0].do("allow", Allowance())


def operations(table: str) -> int:
    return len([one for one in DeltaTable(table).history() if one["operation"] == "UPDATE"])


def stopped(folder: Path, table: str) -> int:
    """The process that a fault stopped at this table; 0 while there is none."""
    found = [one["pid"] for one in faults.fired(folder) if one["table"] == table]
    if not found:
        return 0
    return int(found[0]) if psutil.Process(found[0]).status() == psutil.STATUS_STOPPED else 0


@pytest.mark.spec("C6")
def test_killed_before_its_commit_it_is_not_done_and_says_so(
    client: Client, table: str, held: Held, faults_folder: Path
) -> None:
    faults.arm(faults_folder, "tables.before_commit", match={"table": table})
    with pytest.raises(errors.WriteFailed, match="was not done") as caught:
        client.do("execute", table, MORE)
    assert caught.value.table_changed is False
    assert held() == {1: 0, 2: 0, 3: 0}
    # The slot is closed in the log: the process could have been alive.
    kinds = [log_files.our_metadata(_commit(table, v)) for v in (2, 3)]
    assert [one and one["kind"] for one in kinds] == ["epoch", "slot_closed"]
    assert client.do("execute", table, MORE).changed
    assert held() == {1: 1, 2: 1, 3: 1}


@pytest.mark.spec("C6")
def test_failure_24_killed_after_its_commit_it_is_done_once_and_says_so(
    client: Client, table: str, held: Held, faults_folder: Path
) -> None:
    faults.arm(faults_folder, "tables.after_operation", match={"table": table})
    result = client.do("execute", table, MORE)
    assert (result.version_before, result.version_after) == (2, 3)
    assert "lost after the commit" in result.why
    assert result.rows.updated == 3
    assert held() == {1: 1, 2: 1, 3: 1}
    assert operations(table) == 1


@pytest.mark.spec("C2", "C6")
def test_failure_24_a_merge_of_our_own_killed_around_its_commit_is_done_once_or_not(
    client: Client, table: str, held: Held, faults_folder: Path
) -> None:
    merge = Upsert(rows(2, 3, 4, n=5), ("id",))
    faults.arm(faults_folder, "merge.written", match={"table": table})
    with pytest.raises(errors.WriteFailed, match="was not done") as caught:
        client.do("execute", table, merge)
    assert caught.value.table_changed is False
    assert held() == {1: 0, 2: 0, 3: 0}
    faults.arm(faults_folder, "merge.committed", match={"table": table})
    result = client.do("execute", table, merge)
    assert "lost after the commit" in result.why
    assert (result.rows.updated, result.rows.inserted) == (2, 1)
    assert held() == {1: 0, 2: 5, 3: 5, 4: 5}
    assert unchanged(table) == (4, 1)


@pytest.mark.spec("C6")
def test_an_old_owners_operation_in_flight_writes_nothing_once_a_new_one_has_the_epoch(
    clients: Two, table: str, held: Held, faults_folder: Path
) -> None:
    slow, other = clients
    slow.do("execute", table, MORE)
    faults.arm(faults_folder, "tables.before_commit", action="stop", match={"table": table})
    slow.begin("execute", table, MORE)
    frozen = until(lambda: stopped(faults_folder, table), "the first one is about to commit")
    other.do("kill_owner", table)
    # The second client's operation brings a new owner, and that one's epoch.
    assert other.do("execute", table, Append(rows(4, n=10))).changed
    os.kill(frozen, signal.SIGCONT)
    with pytest.raises(errors.SlotClosed, match="newer owner") as caught:
        slow.answer()
    assert caught.value.table_changed is False
    assert held() == {1: 1, 2: 1, 3: 1, 4: 10}
    assert owner_epoch(DeltaTable(table).transaction_version(OWNER_APP)) == 2


@pytest.mark.spec("C6")
def test_an_owner_that_dies_while_its_slot_is_used_leaves_the_answer_to_the_log(
    clients: Two, table: str, held: Held, faults_folder: Path
) -> None:
    client, other = clients
    client.do("execute", table, MORE)
    faults.arm(faults_folder, "tables.after_operation", action="stop", match={"table": table})
    client.begin("execute", table, MORE)
    frozen = until(lambda: stopped(faults_folder, table), "it has committed and not reported")
    other.do("kill_owner", table)
    os.kill(frozen, signal.SIGCONT)
    assert client.answer().changed
    assert held() == {1: 2, 2: 2, 3: 2}
    assert operations(table) == 2


@pytest.mark.spec("C6")
def test_a_client_that_dies_while_it_has_a_slot_keeps_nobody_waiting(
    clients: Two, ray_cluster: object, table: str, held: Held, faults_folder: Path
) -> None:
    environment = {**os.environ, **ray_cluster.environment, faults.ENV: str(faults_folder)}  # type: ignore[attr-defined]
    short_lived = Client(environment, silent_s=10.0).ready()
    faults.arm(faults_folder, "tables.before_commit", action="stop", match={"table": table})
    short_lived.begin("execute", table, MORE)
    until(lambda: stopped(faults_folder, table), "its runner is frozen")
    os.kill(short_lived.process.pid, signal.SIGKILL)
    short_lived.process.wait()
    assert clients[0].do("execute", table, MORE).changed
    assert held() == {1: 1, 2: 1, 3: 1}


@pytest.fixture
def wide(tmp_path: Path) -> str:
    """A table whose merge takes some hundred MiB."""
    address = str(tmp_path / "wide")
    engine = DeltaRsEngine()
    source = wide_rows(WIDE)
    engine.execute(address, Create(source.schema))
    engine.execute(address, Append(source))
    return address


def wide_rows(count: int, text: str = "x") -> pa.Table:
    ids = pa.array(range(count), pa.int64())
    return pa.table({"id": ids, "text": [f"{text}{one:0100}" for one in range(count)]})


def unchanged(table: str) -> tuple[int, int]:
    found = DeltaRsEngine().read(table, Read(columns=("id",))).read_all().num_rows
    return found, len([h for h in DeltaTable(table).history() if h["operation"] == "MERGE"])


@pytest.mark.spec("C6")
def test_a_child_that_takes_more_memory_than_it_may_is_ended_and_the_table_is_unchanged(
    clients: Two, wide: str
) -> None:
    client = clients[0]
    merge = Upsert(wide_rows(2_000, "y"), ("id",), update_when="source.text <> target.text")
    client.do("allow", Allowance(in_process_bytes=0, least_limit_bytes=TIGHT, at_most_bytes=1))
    with pytest.raises(errors.OutOfMemory, match="table is unchanged") as caught:
        client.do("execute", wide, merge)
    assert caught.value.table_changed is False
    assert "engine: spark" in caught.value.hint
    assert unchanged(wide) == (WIDE, 0)
    client.do("allow", IN_A_CHILD)
    result = client.do("execute", wide, merge)
    assert result.rows.updated == 2_000
    assert unchanged(wide) == (WIDE, 1)
    client.do("allow", Allowance())


@pytest.mark.spec("C6")
def test_heavy_work_has_its_memory_reserved_while_it_runs(
    clients: Two, table: str, faults_folder: Path
) -> None:
    client, other = clients
    until(lambda: other.do("reserved_bytes") == 0, "nothing is reserved")
    client.do("allow", IN_A_CHILD)
    faults.arm(faults_folder, "tables.before_commit", action="stop", match={"table": table})
    client.begin("execute", table, MORE)
    frozen = until(lambda: stopped(faults_folder, table), "its child is frozen")
    limit_bytes = IN_A_CHILD.least_limit_bytes
    until(lambda: other.do("reserved_bytes") >= limit_bytes, "its limit is reserved")
    os.kill(frozen, signal.SIGCONT)
    assert client.answer().changed
    until(lambda: other.do("reserved_bytes") == 0, "it is given back")
    client.do("allow", Allowance())


def test_a_child_ends_by_its_limit_and_not_before(wide: str) -> None:
    merge = Upsert(wide_rows(1_000, "z"), ("id",))
    started: list[int] = []
    with pytest.raises(MemoryExceeded, match=r"took \d+ MiB of 190 MiB"):
        LimitedRunner(TIGHT, started.append).run(Order(wide, merge, "tried"))
    (pid,) = started
    assert not Path(f"/proc/{pid}").exists()
    assert unchanged(wide) == (WIDE, 0)
    done = LimitedRunner(2048 * MIB).run(Order(wide, merge, "tried"))
    assert done.rows.updated == 1_000
    assert done.why.startswith("tried")


def test_a_child_that_somebody_else_ends_is_lost_and_not_out_of_memory(
    table: str, faults_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(faults.ENV, str(faults_folder))
    faults.arm(faults_folder, "tables.before_operation", match={"table": table})
    with pytest.raises(RunnerLost, match="status -9") as caught:
        LimitedRunner(1024 * MIB).run(Order(table, MORE, "tried"))
    assert not isinstance(caught.value, MemoryExceeded)


def _commit(table: str, version: int) -> list[dict[str, object]]:
    return log_files.read_commit(place(table), version) or []
