"""However a runner, an owner or a log fails: the answer is what the log holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from raylake.delta.ledger import OWNER_APP
from raylake.delta.owner_slots import Grant, Verdict
from raylake.errors import DependencyUnreachable, RayLakeError
from raylake.ingest.ports import OwnerLost
from raylake.tables import errors
from raylake.tables.port import Fence
from raylake.tables.requests import Append
from raylake.tables.results import FileCounts, OperationResult, RowCounts
from raylake.tables.running import MemoryExceeded, Order, RunnerLost, under_slot

ROWS = pa.table({"id": [1, 2]})
DONE = OperationResult("append", "t", "delta-rs", "", 3, 4, RowCounts(), FileCounts(), 0.1)


@dataclass
class Runner:
    outcome: OperationResult | RayLakeError
    fence: Fence | None = None

    def run(self, order: Order) -> OperationResult:
        self.fence = order.fence
        if isinstance(self.outcome, RayLakeError):
            raise self.outcome
        return self.outcome


@dataclass
class Owner:
    """An owner that grants number 7 and says what its log holds."""

    version: int | None = None
    fails: RayLakeError | None = None
    told: list[bool] = field(default_factory=list)
    epochs: int = 0

    def take(self, request: str) -> Grant:
        return Grant(request, 7, 0)

    def ended(self, request: str, *, for_sure: bool) -> Verdict:
        self.told.append(for_sure)
        if self.fails is not None:
            raise self.fails
        return Verdict(request, self.version)

    def settled_by_epoch(self, grant: Grant) -> Verdict:
        self.epochs += 1
        return Verdict(grant.request, self.version)


class SessionLost(errors.TableError):
    """An engine's error of which the engine does not say whether the table changed."""

    code = "session_lost"
    table_changed = None


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """An order on a table whose version 1 carries the slot's number."""
    address = str(tmp_path / "t")
    DeltaTable.create(address, pa.schema([("id", pa.int64())]))
    slot = CommitProperties(app_transactions=[Transaction(OWNER_APP, 7)])
    write_deltalake(address, ROWS, mode="append", commit_properties=slot)
    return Order(address, Append(ROWS), "it fits")


def test_what_the_runner_says_is_the_answer_and_the_slot_is_over(order: Order) -> None:
    owner, runner = Owner(version=4), Runner(DONE)
    assert under_slot(owner, runner, order) is DONE
    assert runner.fence == Fence(OWNER_APP, 7)
    assert owner.told == [True]


def test_a_refusal_is_passed_on_and_nobody_is_suspected(order: Order) -> None:
    owner = Owner()
    with pytest.raises(errors.NullMergeKeys):
        under_slot(owner, Runner(errors.NullMergeKeys("no key")), order)
    assert owner.told == [True]


@pytest.mark.parametrize(
    "failure",
    [
        RunnerLost("killed"),
        MemoryExceeded("too much"),
        errors.OutcomeUnread("the log?"),
        DependencyUnreachable("the store"),
        SessionLost("the driver"),
    ],
)
def test_who_may_still_write_is_not_believed(order: Order, failure: RayLakeError) -> None:
    owner = Owner(version=1)
    result = under_slot(owner, Runner(failure), order)
    assert owner.told == [False]
    assert (result.version_before, result.version_after, result.engine) == (0, 1, "delta-rs")
    assert (result.rows.source, result.rows.inserted, result.files.added) == (2, 2, 1)
    assert "lost after the commit" in result.why


def test_lost_before_its_commit_it_is_an_error_that_says_so(order: Order) -> None:
    with pytest.raises(errors.WriteFailed, match="was not done: killed") as caught:
        under_slot(Owner(), Runner(RunnerLost("killed")), order)
    assert caught.value.table_changed is False


def test_an_engine_that_could_not_tell_is_answered_by_the_log(order: Order) -> None:
    with pytest.raises(errors.WriteFailed, match="was not done: the driver") as caught:
        under_slot(Owner(), Runner(SessionLost("the driver")), order)
    assert caught.value.table_changed is False
    with pytest.raises(DependencyUnreachable):
        under_slot(Owner(), Runner(DependencyUnreachable("the store")), order)


def test_ended_by_its_memory_it_is_an_error_of_its_own(order: Order) -> None:
    with pytest.raises(errors.OutOfMemory, match=r"took 3 of 2; the table is unchanged"):
        under_slot(Owner(), Runner(MemoryExceeded("took 3 of 2")), order)


def test_an_owner_that_is_gone_is_followed_by_an_epoch(order: Order) -> None:
    owner = Owner(version=1, fails=OwnerLost("gone"))
    assert under_slot(owner, Runner(RunnerLost("killed")), order).version_after == 1
    assert owner.epochs == 1


def test_where_nothing_can_be_told_that_is_said_with_the_number(order: Order) -> None:
    owner = Owner(fails=DependencyUnreachable("no store"))
    with pytest.raises(errors.OutcomeUnread, match="cannot be told") as caught:
        under_slot(owner, Runner(RunnerLost("killed")), order)
    assert caught.value.context["number"] == 7
    assert under_slot(owner, Runner(DONE), order) is DONE
