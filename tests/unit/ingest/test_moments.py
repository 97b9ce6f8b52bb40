"""Consumers hand over at common moments; the owner commits once after each."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

import pytest

from raylake.clock import ManualClock
from raylake.ingest.batcher import Batcher, BatchPolicy
from raylake.ingest.moments import MANY_ROWS, Gathering, Moments
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition

MOMENTS = Moments("bronze.t", 5.0)
about = partial(pytest.approx, abs=0.002)


@dataclass(frozen=True)
class Came:
    """A unit that came at a time."""

    consumer: str
    arrived_s: float
    rows: int = 1


@pytest.fixture
def clock() -> ManualClock:
    """Shortly after a moment; the next one is at 5.0 on the monotonic clock."""
    clock = ManualClock()
    clock.jump(MOMENTS.next_in_s(clock) + 0.001)
    return clock


@pytest.fixture
def gathering(clock: ManualClock) -> Gathering:
    return Gathering(MOMENTS, clock)


def committed_at(clock: ManualClock, gathering: Gathering, *units: Came) -> None:
    gathering.begins()
    gathering.committed(units)


def test_all_processes_know_the_same_moments_and_each_table_has_its_own() -> None:
    clock, later = ManualClock(), ManualClock(1_700_000_003.25)
    names = ("bronze.a", "bronze.b", "bronze.t")
    at = {name: clock.now() + Moments(name, 5.0).next_in_s(clock) for name in names}
    for name, moment in at.items():
        intervals = (later.now() + Moments(name, 5.0).next_in_s(later) - moment) / 5.0
        assert intervals == about(round(intervals))
    assert len({round(moment % 5.0, 3) for moment in at.values()}) == 3


def test_the_next_moment_is_never_further_than_the_interval_nor_now() -> None:
    rng, clock = random.Random(0), ManualClock()
    for _ in range(1000):
        clock.sleep(rng.random() * 20)
        wait_s = MOMENTS.next_in_s(clock)
        assert 0 < wait_s <= 5.0
    assert Moments("bronze.t", 0.0).next_in_s(clock) == 0.0


def test_a_first_unit_is_committed_when_no_other_follows(
    clock: ManualClock, gathering: Gathering
) -> None:
    clock.sleep(2.0)
    units = [Came("c0", 2.0)]
    assert gathering.due_in_s(units) == about(0.1)
    clock.sleep(0.08)
    units.append(Came("c1", 2.08))
    assert gathering.due_in_s(units) == about(0.1)
    clock.sleep(0.1)
    assert gathering.due_in_s(units) == 0.0


def test_units_that_come_one_by_one_are_not_gathered_for_long(
    clock: ManualClock, gathering: Gathering
) -> None:
    units = []
    for count in range(6):
        units.append(Came(f"c{count}", clock.monotonic()))
        assert gathering.due_in_s(units) > 0
        clock.sleep(0.09)
    assert gathering.due_in_s(units) == 0.0


def test_whoever_had_many_rows_is_waited_for(clock: ManualClock, gathering: Gathering) -> None:
    committed_at(clock, gathering, Came("big", 0.0, MANY_ROWS), Came("small", 0.0))
    clock.sleep(5.05)
    units = [Came("small", 5.05)]
    assert gathering.due_in_s(units) == about(0.5)
    clock.sleep(0.3)
    units.append(Came("big", 5.35))
    assert gathering.due_in_s(units) == about(0.1)
    committed_at(clock, gathering, *units)
    clock.sleep(5.0)
    assert gathering.due_in_s([Came("small", 10.3)]) == about(0.05), "it had few rows"


def test_what_comes_after_the_commit_waits_for_the_next_moment(
    clock: ManualClock, gathering: Gathering
) -> None:
    clock.sleep(0.2)
    committed_at(clock, gathering, Came("c0", 0.1))
    clock.sleep(0.1)
    assert gathering.due_in_s([Came("c1", 0.3)]) == about(4.8)
    clock.sleep(4.69)
    assert gathering.due_in_s([Came("c1", 0.3), Came("c0", 4.99)]) == about(0.11)


def test_a_unit_of_a_clock_that_is_ahead_counts_for_the_moment_to_come(
    clock: ManualClock, gathering: Gathering
) -> None:
    committed_at(clock, gathering, Came("big", 0.0, MANY_ROWS))
    clock.sleep(4.95)
    assert gathering.due_in_s([Came("big", 4.95)]) == about(0.15)


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_wall_clock_that_is_set_holds_no_commit_up(
    clock: ManualClock, gathering: Gathering, jump_s: float
) -> None:
    committed_at(clock, gathering, Came("c0", 0.0))
    clock.jump(jump_s)
    assert gathering.due_in_s([Came("c0", 0.0)]) == about(5.1)


def test_nobody_waits_in_a_hurry(clock: ManualClock, gathering: Gathering) -> None:
    committed_at(clock, gathering, Came("c0", 0.0, MANY_ROWS))
    gathering.hurry(60.0)
    assert gathering.due_in_s([Came("c1", 0.0)]) == 0.0


@pytest.mark.parametrize("skew_s", [0.0, 0.05, -0.05])
def test_a_record_of_four_consumers_waits_one_interval_and_commits_are_one_in_each(
    skew_s: float, clock: ManualClock, gathering: Gathering
) -> None:
    rng = random.Random(7)
    sources = [SourcePartition("t", "id", number) for number in range(4)]
    clocks = [ManualClock(clock.now() + skew_s * (number % 2)) for number in range(4)]
    batchers: list[Batcher[float]] = []
    for source, mine in zip(sources, clocks, strict=True):
        batchers.append(Batcher("bronze.t", BatchPolicy(commit_interval_s=5.0), mine))
        batchers[-1].begin(source, 0)
    coming: list[tuple[Came, list[float]]] = []
    ages, commits = [], 0
    while clock.monotonic() < 600:
        now_s = clock.monotonic()
        for number, batcher in enumerate(batchers):
            if rng.random() < 0.01:
                at = batcher.expected(sources[number])
                batcher.add(OffsetRange(sources[number], at, at + 1, Counts(rows=1)), now_s, 1)
            plan = batcher.flush()
            if plan is not None:
                written_s = now_s + rng.uniform(0.01, 0.06)
                made_s = [held.item for held in plan.batches]
                coming.append((Came(f"c{number}", written_s, plan.rows), made_s))
        coming.sort(key=lambda one: one[0].arrived_s)
        there = [one for one in coming if one[0].arrived_s <= now_s]
        if there and gathering.due_in_s([came for came, _ in there]) == 0.0:
            committed_at(clock, gathering, *(came for came, _ in there))
            commits += 1
            ages += [now_s - made_s for _, one in there for made_s in one]
            coming = coming[len(there) :]
        for one in (clock, *clocks):
            one.sleep(0.01)
    assert len(ages) > 1500
    assert max(ages) <= 5.0 + 0.5
    assert sorted(ages)[int(0.95 * len(ages))] < 5.0
    assert 110 <= commits <= 121
