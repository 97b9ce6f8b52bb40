"""Which piece of work is next, and what is due by its schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from raylake.clock import ManualClock
from raylake.delta.live_rows import SourceFile
from raylake.maintenance.actions import Action
from raylake.maintenance.history import History
from raylake.maintenance.lease import COUNTS_S, MaintainedElsewhere, MaintenanceLease
from raylake.maintenance.outcomes import Ending, Outcome
from raylake.maintenance.policy import Policy
from raylake.maintenance.price import Price
from raylake.maintenance.queue import Job, Queue
from raylake.maintenance.subjects import Subject
from raylake.maintenance.tending import Schedule
from raylake.tables.aside import Aside

NIGHT = datetime(2026, 1, 31, 0, tzinfo=UTC).timestamp()


def action(kind: str = "compact") -> Action:
    return Action(kind, "why", "gain", Price())  # type: ignore[arg-type]


def job(table: str, pieces: int, size: int = 1) -> Job:
    file = SourceFile("f", size, 1, 0, {})
    one = Aside(table, 0, "", (), {}, ((file,),), (), 1)
    return Job(table, action(), [one] * pieces)


def begin(queue: Queue, count: int) -> list[str]:
    found = []
    for _ in range(count):
        one = queue.next()
        if one is None:
            break
        one.begun += 1
        found.append(one.table)
    return found


def test_no_table_takes_every_slot_while_another_one_has_work() -> None:
    queue = Queue([job("a", 9), job("a", 9), job("b", 1)], 4)
    assert begin(queue, 9) == ["a", "b", "a", "a"]
    alone = Queue([job("a", 9)], 4)
    assert begin(alone, 9) == ["a"] * 4


def test_a_slot_stays_free_for_the_table_that_has_little() -> None:
    jobs = [job("a", 9), job("b", 2)]
    queue = Queue(jobs, 3)
    assert begin(queue, 9) == ["a", "b", "a"]
    jobs[1].ended += 1
    assert begin(queue, 9) == ["b"]


def test_with_one_slot_tables_take_turns_by_what_was_read() -> None:
    jobs = [job("a", 9, size=100), job("b", 9, size=1)]
    queue = Queue(jobs, 1)
    order = []
    for _ in range(4):
        order += begin(queue, 1)
        for one in jobs:
            one.ended = one.begun
    assert order == ["a", "b", "b", "b"]


def test_what_is_not_begun_can_be_dropped() -> None:
    jobs = [job("a", 3)]
    queue = Queue(jobs, 1)
    begin(queue, 1)
    queue.drop_waiting()
    assert (queue.waiting, queue.running) == (False, 1)
    jobs[0].ended = 1
    assert jobs[0].complete


def outcome(kind: str, ending: Ending, at_s: float) -> Outcome:
    return Outcome("silver.t", "/t", action(kind), ending, Price(), None, 0, 0, "", at_s)


def test_vacuum_and_rewrites_come_by_their_schedules(tmp_path: Path) -> None:
    clock = ManualClock(start=NIGHT)
    schedule = Schedule(History(str(tmp_path)), clock)
    subject = Subject("silver.t", "/t", Policy(), None)
    by_debt = {kind: schedule.due(subject, action(kind)) for kind in ("compact", "checkpoint")}
    assert by_debt == {"compact": True, "checkpoint": True}
    assert not schedule.due(subject, action("vacuum"))
    clock.sleep(3 * 3600)
    assert schedule.due(subject, action("vacuum"))
    schedule.done([outcome("vacuum", "failed", clock.now())])
    assert schedule.due(subject, action("vacuum"))
    schedule.done([outcome("vacuum", "nothing", clock.now())])
    assert not schedule.due(subject, action("vacuum"))
    nightly = Subject("silver.t", "/t", Policy(schedule="0 5 * * *"), None)
    assert not schedule.due(nightly, action("zorder"))
    assert schedule.due(nightly, action("checkpoint"))
    clock.sleep(2 * 3600)
    assert schedule.due(nightly, action("zorder"))


def test_a_lease_of_another_machine_counts_until_it_is_old(tmp_path: Path) -> None:
    clock = ManualClock(start=NIGHT)
    other = MaintenanceLease(tmp_path, "another", clock)
    other.take()
    document = tmp_path / "_raylake" / "maintenance.json"
    text = document.read_text()
    mine = MaintenanceLease(tmp_path, "mine", clock)
    with pytest.raises(MaintainedElsewhere, match="another looks after it already"):
        mine.take(wait_s=3)
    host = text.partition('"host": "')[2].partition('"')[0]
    document.write_text(text.replace(host, "elsewhere"))
    clock.sleep(COUNTS_S - 10)
    with pytest.raises(MaintainedElsewhere):
        mine.take()
    clock.sleep(10)
    mine.take()
    # What the other one says now is not its own any more.
    other.renew()
    other.release()
    assert "mine" in document.read_text()
    mine.release()
    assert not document.exists()


def test_a_document_that_says_nothing_counts_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "_raylake").mkdir()
    (tmp_path / "_raylake" / "maintenance.json").write_text("{")
    MaintenanceLease(tmp_path, "mine", ManualClock()).take()
