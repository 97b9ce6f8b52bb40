"""Turns behind an owner's calls: whatever fails, whoever leaves, the next one gets its turn."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import fed_tables, turns
from actors.fed_tables import RayTurns
from actors.table_slots import SlotSetup
from actors.turns import OwnerTurns
from raylake.clock import SystemClock
from raylake.delta import log_table
from raylake.delta.owner_slots import Grant, SlotQueue, Verdict
from raylake.delta.owner_turns import RewriteTurns
from raylake.delta.rewritten import FilesChanged, Rewritten
from raylake.errors import RayLakeError
from raylake.ingest.ports import OwnerLost
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.proposals import Proposal, propose
from raylake.tables.requests import Delete
from raylake.tables.results import FileCounts, OperationResult, RowCounts
from raylake.tables.running import Order
from raylake.tables.under_turn import under_turn
from raylake.tables.upkeep_requests import Compact
from tests.integration.verify.lake import Lake, Span


class Remote:
    """A method of an actor, called in this process."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def remote(self, *told: Any) -> Any:
        return self._method(*told)


class Living:
    """A worker that answers for as long as anybody asks."""

    def __init__(self) -> None:
        self.alive = Remote(lambda: asyncio.sleep(0.01))


async def at_once(work: Callable[[], Any]) -> Any:
    return work()


async def given_up_on_a_full_disk(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    place = log_table.place_entry

    def full(*_told: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    owner = OwnerTurns(RewriteTurns(lake.owner.rewrites()), at_once, "the table")
    await owner.take("first", Living())
    order = Order(str(lake.table), Compact(), "", request="first")
    written = propose(DeltaRsEngine(), order, SystemClock()).rewritten
    assert written is not None
    monkeypatch.setattr(log_table, "place_entry", full)
    with pytest.raises(RayLakeError):
        await owner.commit(written)
    # Both times that its client asks what became of it.
    for _ in range(2):
        with pytest.raises(RayLakeError):
            await owner.ended("first")
    monkeypatch.setattr(log_table, "place_entry", place)
    grant = await asyncio.wait_for(owner.take("second", Living()), 20.0)
    assert grant.request == "second"
    assert await owner.ended("second") == Verdict("second", None)
    assert await owner.ended("first") == Verdict("first", None)


@pytest.mark.spec("C6")
def test_a_turn_that_a_full_disk_kept_open_ends_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LOOK_EVERY_S", 0.02)
    lake = Lake(tmp_path / "lake")
    lake.admit(Span(0, 0, 0))
    lake.ingest(Span(0, 0, 5))
    lake.ingest(Span(0, 5, 10))
    asyncio.run(given_up_on_a_full_disk(lake, monkeypatch))
    lake.ingest(Span(0, 10, 15))
    assert lake.verify("data").ok


class GrantedBetween:
    """Turns of an owner whose thread grants one between two looks at them."""

    def __init__(self) -> None:
        self.asked = 0
        self.ends: list[str] = []
        self._open: Grant | None = None
        self._waiting: tuple[str, ...] = ()

    @property
    def open(self) -> Grant | None:
        found = self._open
        self._grant()
        return found

    @property
    def waiting(self) -> tuple[str, ...]:
        found = self._waiting
        self._grant()
        return found

    def _grant(self) -> None:
        if self._waiting:
            self._open, self._waiting = Grant("r", 1, 0), ()

    def ask(self, request: str) -> Grant | None:
        self.asked += 1
        if self.asked == 1:
            self._waiting = (request,)
        return self._open

    def ended(self, request: str) -> Verdict:
        self.ends.append(request)
        self._open = None
        return Verdict(request, None)


def test_a_turn_that_is_granted_between_two_looks_is_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "LOOK_EVERY_S", 0.05)
    found: Any = GrantedBetween()

    async def asks() -> Grant:
        return await OwnerTurns(found, at_once, "the table").take("r", Living())

    assert asyncio.run(asyncio.wait_for(asks(), 10.0)).request == "r"
    assert found.ends == []


def test_a_request_is_seen_at_each_moment_of_its_grant() -> None:
    queue = SlotQueue()
    queue.ask("r")
    seen: list[bool] = []

    def look(_frame: Any, _event: str, _told: Any) -> Any:
        # As another thread would, between any two lines.
        seen.append("r" in queue.waiting or queue.has_slot("r"))
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        queue.grant(1, 0)
    finally:
        sys.settrace(before)
    assert len(seen) > 3
    assert all(seen)


class Leaving:
    """An owner that grants, refuses the commit and is gone then."""

    def __init__(self) -> None:
        self.gone = False
        self.take_turn = Remote(lambda request, _worker: Grant(request, 7, 3))
        self.commit_turn = Remote(self._commit)
        self.end_turn = Remote(self._end)

    def _commit(self, _one: Rewritten) -> Verdict:
        self.gone = True
        raise FilesChanged("something came between")

    def _end(self, _request: str) -> Verdict:
        raise OwnerLost("gone")


class Next:
    """The owner after it: whoever asks for a turn here presses Ctrl-C."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.take_turn = Remote(self._take)
        self.end_turn = Remote(self.requests.remove)

    def _take(self, request: str, _worker: object) -> Grant:
        self.requests.append(request)
        raise KeyboardInterrupt


class Writes:
    """A worker that has always something to commit."""

    def propose(self, order: Order) -> Proposal:
        result = OperationResult("delete", "t", "", "", 3, 3, RowCounts(), FileCounts(), 0.1)
        return Proposal(result, Rewritten(order.request, "DELETE", 3, (), ()))


def test_who_gives_up_at_the_next_owner_is_no_longer_waited_for_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fed_tables, "result", lambda answer, _timeout_s: answer)
    first, then = Leaving(), Next()
    asked = RayTurns(SlotSetup("t", "run"), "id", None)
    monkeypatch.setattr(asked, "_owner", lambda: then if first.gone else first)
    with pytest.raises(KeyboardInterrupt):
        under_turn(asked, Writes(), Order("t", Delete("id = 1"), ""))
    assert then.requests == []
