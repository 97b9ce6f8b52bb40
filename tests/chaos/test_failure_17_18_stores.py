"""A store or the dead-letter table that cannot be written: nothing is dropped, and it heals."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.harness.disk import SmallDisk
from tests.harness.producing import DIRTY
from tests.harness.scope import Scope

Mount = Callable[[str], SmallDisk]


def closes(scope: Scope, breaker: str) -> None:
    """It closes after a few writes that succeed, so some more records come."""
    with scope.load(DIRTY):
        scope.run_until(lambda: not scope.tripped(breaker), f"the breaker {breaker} closed")
    scope.until_caught_up()


@pytest.mark.spec("A4", "B1", "B2")
def test_failure_17_dead_letters_that_cannot_be_written_stop_ingestion_until_they_can(
    scope: Scope, small_disk: Mount
) -> None:
    disk = small_disk("letters")
    scope.pipeline(dead_letters={"stop_above": "90%", "path": str(disk.place / "table")})
    job = scope.start()
    scope.produce(400, DIRTY)
    scope.until_caught_up()

    disk.writable(on=False)
    scope.fail_once("dead letters not writable")
    scope.produce(400, DIRTY)
    scope.run_until(lambda: scope.tripped("dead_letters"), "the breaker of dead letters opened")
    assert not scope.caught_up()
    disk.writable(on=True)
    closes(scope, "dead_letters")
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    assert scope.recovered("dead_letters") >= 1
    assert scope.audit().dead_letters > 5
    scope.verify("all")


@pytest.mark.long
@pytest.mark.spec("A3", "B1", "B2")
def test_failure_18_a_read_only_or_full_store_opens_its_breaker_and_heals(
    scope: Scope, small_disk: Mount
) -> None:
    disk = small_disk("store")
    scope.pipeline({"path": str(disk.place / "table")})
    job = scope.start()
    scope.produce(400)
    scope.until_caught_up()

    disk.writable(on=False)
    scope.fail_once("store read-only")
    scope.produce(400)
    scope.run_until(lambda: scope.tripped("store"), "the store's breaker opened")
    disk.writable(on=True)
    closes(scope, "store")

    disk.fill()
    scope.fail_once("store full")
    scope.produce(400, DIRTY)
    scope.run_until(lambda: scope.tripped("store"), "the store's breaker opened again")
    disk.free()
    closes(scope, "store")
    job.signal(signal.SIGTERM)
    job.ends_with(0)
    assert scope.recovered("store") >= 2, "it was read-only, then full"
    scope.audit()
    scope.verify("all")
