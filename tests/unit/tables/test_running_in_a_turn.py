"""An operation in a turn: however worker and owner fail, the answer is what the log holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.owner_turns import TurnOver
from raylake.delta.rewritten import FilesChanged, Rewritten
from raylake.errors import DependencyUnreachable, Fenced, RayLakeError
from raylake.ingest.ports import OwnerLost
from raylake.storage.place import place
from raylake.tables import errors
from raylake.tables.alongside import Alongside
from raylake.tables.proposals import Proposal, refuse_unproposable
from raylake.tables.requests import Delete
from raylake.tables.results import FileCounts, OperationResult, RowCounts
from raylake.tables.running import Order, RunnerLost
from raylake.tables.under_turn import TRIES, under_turn

READ = OperationResult("delete", "t", "delta-rs", "", 3, 3, RowCounts(deleted=2), FileCounts(), 0.1)
ORDER = Order("t", Delete("id = 1"), "it fits")


@dataclass
class Worker:
    """One that writes what is to be committed, or fails, or finds nothing to do."""

    fails: RayLakeError | None = None
    nothing: bool = False
    requests: list[str] = field(default_factory=list)

    def propose(self, order: Order) -> Proposal:
        self.requests.append(order.request)
        if self.fails is not None:
            raise self.fails
        one = Rewritten(order.request, "DELETE", 3, (), ())
        return Proposal(READ, None if self.nothing else one)


@dataclass
class Owner:
    """One whose commits go as listed: a version, or an error; and what its log says then."""

    commits: list[int | RayLakeError]
    landed: int | None = None
    fails: RayLakeError | None = None
    ends: list[str] = field(default_factory=list)
    epochs: int = 0
    came: int | RayLakeError = 0

    def __post_init__(self) -> None:
        self.next: Iterator[int | RayLakeError] = iter(self.commits)

    def take(self, request: str) -> Grant:
        return Grant(request, 7, 3)

    def commit(self, rewritten: Rewritten) -> Verdict:
        found = next(self.next)
        if isinstance(found, RayLakeError):
            raise found
        return Verdict(rewritten.request, found)

    def ended(self, request: str) -> Verdict | None:
        self.ends.append(request)
        if self.fails is not None:
            raise self.fails
        return Verdict(request, self.landed)

    def settled_by_epoch(self, grant: Grant) -> Verdict:
        self.epochs += 1
        if self.fails is not None and not isinstance(self.fails, OwnerLost):
            raise self.fails
        return Verdict(grant.request, self.landed)

    def data_commits(self, after_version: int, before_version: int) -> int:
        assert (after_version, before_version) in ((3, self.landed), (3, self.commits[-1]))
        if isinstance(self.came, RayLakeError):
            raise self.came
        return self.came


def test_what_came_while_it_ran_is_told_and_not_covered() -> None:
    found = under_turn(Owner([4]), Worker(), ORDER)
    assert (found.version_before, found.version_after, found.note) == (3, 4, "")
    found = under_turn(Owner([9], came=2), Worker(), ORDER)
    assert (found.version_before, found.version_after) == (8, 9)
    assert found.note == "it covers version 3; 2 came with rows while it ran"
    # Commits that brought no rows are nobody's news.
    assert under_turn(Owner([9]), Worker(), ORDER).note == ""
    # What is done is done, whether or not that can be read.
    found = under_turn(Owner([9], came=DependencyUnreachable("gone")), Worker(), ORDER)
    assert found.version_after == 9
    assert "could not be read" in found.note


def test_without_anything_to_do_the_turn_is_given_back() -> None:
    owner, worker = Owner([]), Worker(nothing=True)
    assert under_turn(owner, worker, ORDER) == replace(READ, attempts=1)
    assert owner.ends == worker.requests


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        (errors.BadExpression("no"), errors.BadExpression),
        (RunnerLost("killed"), errors.WriteFailed),
    ],
)
def test_a_worker_that_fails_has_changed_nothing(
    fails: RayLakeError, told: type[errors.TableError]
) -> None:
    owner, worker = Owner([]), Worker(fails)
    with pytest.raises(told) as caught:
        under_turn(owner, worker, ORDER)
    assert caught.value.table_changed is False
    assert owner.ends == worker.requests


def test_what_came_between_is_done_again_in_a_turn_of_its_own() -> None:
    owner, worker = Owner([FilesChanged("a"), TurnOver("b"), 6]), Worker()
    assert under_turn(owner, worker, ORDER).attempts == 3
    assert len(set(worker.requests)) == 3
    assert owner.ends == worker.requests[:2]


@pytest.mark.parametrize(
    ("error", "told"),
    [(FilesChanged("a"), errors.WriteConflict), (TurnOver("b"), errors.SlotClosed)],
)
def test_it_is_not_done_again_for_ever(error: RayLakeError, told: type[RayLakeError]) -> None:
    with pytest.raises(told):
        under_turn(Owner([error] * TRIES), Worker(), ORDER)


@pytest.mark.parametrize("error", [OwnerLost("gone"), Fenced("another one")])
def test_of_an_owner_that_is_gone_the_log_tells_once_the_next_one_has_the_epoch(
    error: RayLakeError,
) -> None:
    owner = Owner([error], landed=5)
    assert under_turn(owner, Worker(), ORDER).version_after == 5
    assert owner.epochs == 1
    # Nothing of it landed, and nothing will: it is done again.
    owner = Owner([error, 8])
    assert under_turn(owner, Worker(), ORDER).attempts == 2


def test_a_commit_that_fails_is_settled_by_its_owner() -> None:
    error = DependencyUnreachable("the store went away")
    assert under_turn(Owner([error], landed=5), Worker(), ORDER).version_after == 5
    with pytest.raises(DependencyUnreachable):
        under_turn(Owner([error]), Worker(), ORDER)


def test_what_nobody_can_tell_is_said_so() -> None:
    error = DependencyUnreachable("the store went away")
    with pytest.raises(errors.OutcomeUnread, match="cannot be told") as caught:
        under_turn(Owner([error], fails=error), Worker(), ORDER)
    assert caught.value.table_changed is None
    assert caught.value.context["after_version"] == 3


@pytest.mark.spec("D1", "C6")
def test_a_table_that_a_pipeline_feeds_carries_nobody_elses_progress() -> None:
    refuse_unproposable(place("t"), Delete("id = 1"))
    with pytest.raises(errors.OwnerOnly, match="carry the pipeline's progress alone"):
        refuse_unproposable(place("t"), Delete("id = 1"), Alongside({"a": 1}))
