"""What a data table's commits ask of the dead letters is done in their order (I5)."""

from __future__ import annotations

from collections.abc import Sequence

from raylake.delta.pending import DeadLetterCommit, PendingDeadLetters, Withdrawal
from raylake.errors import DependencyUnreachable
from raylake.ingest.follow_up import FollowUp
from raylake.ingest.unit import DataFile, SourcePartition
from tests.unit.ingest.pieces import calm_world, owned

P0 = SourcePartition("orders", "id", 0)
FILE = DataFile("a.parquet", 10, 1, {}, "{}")
BACK = Withdrawal("orders", "bronze.orders", {P0: 7}, 3)


class Queue:
    """Takes what it is given, when it can be reached."""

    def __init__(self) -> None:
        self.started = True
        self.reachable = True
        self.done: list[tuple[str, int]] = []

    def ready(self) -> bool:
        return self.started

    def add(self, table_id: str, version: int, files: Sequence[DataFile]) -> None:
        self._take("add", version)

    def withdraw(self, table_id: str, version: int, withdrawal: Withdrawal) -> None:
        assert withdrawal == BACK
        self._take("withdraw", version)

    def _take(self, what: str, version: int) -> None:
        if not self.reachable:
            raise DependencyUnreachable("the store is gone")
        self.done.append((what, version))


def test_letters_that_a_rewind_took_back_leave_between_those_of_before_and_after_it() -> None:
    world = calm_world()
    queue = Queue()
    follow_up = FollowUp("table", queue, owned(world).loop.stores["dead_letters"])
    found = (DeadLetterCommit(5, (FILE,)), DeadLetterCommit(8, (), BACK))
    follow_up.begin(4, PendingDeadLetters(found, 9))
    follow_up.landed(10, [FILE])
    assert (len(follow_up), follow_up.keep_from) == (3, 5)
    queue.reachable = False
    follow_up.push()
    queue.reachable = True
    world.clock.sleep(60)
    follow_up.push()
    assert queue.done == [("add", 5), ("withdraw", 8), ("add", 10)]
    assert (follow_up.done, follow_up.keep_from) == (True, 11)


def test_the_log_is_kept_from_a_rewind_on_whose_letters_are_still_there() -> None:
    world = calm_world()
    queue = Queue()
    queue.reachable = False
    follow_up = FollowUp("table", queue, owned(world).loop.stores["dead_letters"])
    follow_up.begin(6, PendingDeadLetters((DeadLetterCommit(8, (), BACK),), 9))
    follow_up.push()
    for version in range(10, 400):
        follow_up.landed(version, [])
    assert follow_up.keep_from == 7
    assert len(follow_up) == 1


def test_letters_wait_for_a_queue_that_starts_without_a_failure() -> None:
    world = calm_world()
    queue = Queue()
    queue.started = False
    store = owned(world).loop.stores["dead_letters"]
    follow_up = FollowUp("table", queue, store)
    follow_up.landed(3, [FILE])
    for _ in range(50):
        follow_up.push()
        assert (follow_up.hindered, follow_up.done, store.held_up) == (True, False, False)
    assert store.breaker.snapshot()["opened_total"] == 0
    queue.started = True
    follow_up.push()
    assert queue.done == [("add", 3)]
