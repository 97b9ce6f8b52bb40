"""The wanted number of consumers: up quickly, down slowly, never to and fro."""

from __future__ import annotations

import pytest

from raylake.config import Scaled
from raylake.ingest.scaling import Change, Place, Sample, Scaling
from raylake.ingest.unit import SourcePartition

BOUNDS = Scaled(min=1, max=4, lag_s=30.0, down_after_s=60.0, lag_bytes=10**12)
EVERY_S = 2.0


class Topic:
    """Partitions that fill at a rate and are read by consumers that have one each.

    Args:
        scaling: What decides.
        partitions: How many.
        arriving: Records a second in all.
        each: Records a second that a consumer reads at most.
    """

    def __init__(self, scaling: Scaling, partitions: int, arriving: float, each: float) -> None:
        self.scaling = scaling
        self.arriving, self.each = arriving, each
        self.sources = [SourcePartition("t", "id", number) for number in range(partitions)]
        self.ends = dict.fromkeys(self.sources, 0.0)
        self.nexts = dict.fromkeys(self.sources, 0.0)
        self.at_s = 0.0
        self.running = scaling.wanted
        self.record_bytes = 0.0

    def holder(self, number: int) -> str:
        return f"c{number % self.running}"

    @property
    def unread(self) -> float:
        return sum(self.ends.values()) - sum(self.nexts.values())

    def step(self) -> Change | None:
        """Two seconds pass, and a sample is taken."""
        self.at_s += EVERY_S
        budget = {self.holder(n): self.each * EVERY_S for n in range(len(self.sources))}
        for number, source in enumerate(self.sources):
            self.ends[source] += self.arriving * EVERY_S / len(self.sources)
            read = min(self.ends[source] - self.nexts[source], budget[self.holder(number)])
            self.nexts[source] += read
            budget[self.holder(number)] -= read
        places = {
            source: Place(self.holder(number), int(self.ends[source]), int(self.nexts[source]))
            for number, source in enumerate(self.sources)
        }
        sample = Sample(self.at_s, self.running, places, self.record_bytes)
        change = self.scaling.take(sample)
        if change is not None:
            self.running = change.wanted
        return change

    def run(self, seconds: float) -> list[Change]:
        changes = [self.step() for _ in range(int(seconds / EVERY_S))]
        return [change for change in changes if change is not None]


def topic(arriving: float, each: float = 100.0, *, partitions: int = 8, wanted: int = 1) -> Topic:
    return Topic(Scaling(BOUNDS, wanted), partitions, arriving, each)


def test_one_that_keeps_up_stays_alone() -> None:
    assert topic(arriving=90.0).run(600) == []


def test_a_backlog_asks_for_one_more_after_two_samples_and_says_why() -> None:
    made = topic(arriving=50.0)
    made.ends[made.sources[0]] = 4000.0
    changes = made.run(6)
    assert [change.wanted for change in changes] == [2]
    assert changes[0].why == "lag 37 s (3,696 records) on 8 partitions: 1 -> 2 consumers"


def test_a_large_backlog_doubles_them() -> None:
    made = topic(arriving=100.0)
    made.ends[made.sources[0]] = 1e6
    assert [change.wanted for change in made.run(20)] == [2, 4]


def test_a_burst_that_is_read_soon_changes_nothing() -> None:
    made = topic(arriving=1.0)
    made.run(60)
    made.ends[made.sources[0]] += 2000.0
    assert made.run(120) == []


def test_many_unread_bytes_ask_for_more_too() -> None:
    made = topic(arriving=0.0)
    made.scaling = Scaling(BOUNDS.model_copy(update={"lag_bytes": 10**6}), 1)
    made.record_bytes = 1000.0
    made.ends[made.sources[0]] = 2500.0
    assert made.run(6)[0].wanted == 2
    assert made.scaling.lag_s < BOUNDS.lag_s


def test_no_more_than_partitions_and_none_for_a_single_one() -> None:
    hot = topic(arriving=1000.0, partitions=1)
    assert hot.run(600) == []
    few = topic(arriving=10_000.0, partitions=3)
    assert few.run(600)[-1].wanted == 3


def test_a_partition_that_is_alone_with_its_consumer_asks_for_nobody() -> None:
    made = topic(arriving=0.0, partitions=4, wanted=4)
    made.ends[made.sources[0]] = 1e6
    assert made.run(100) == []


def test_nobody_is_asked_for_while_one_is_on_its_way() -> None:
    made = topic(arriving=1000.0)
    made.step(), made.step(), made.step()
    assert made.scaling.wanted > 1
    wanted, made.running = made.scaling.wanted, 1
    made.scaling.interrupt()
    assert made.run(30) == []
    assert made.scaling.wanted == wanted


def test_idle_ones_leave_after_their_time_and_not_before() -> None:
    made = topic(arriving=0.0, wanted=4)
    assert made.run(BOUNDS.down_after_s - 2 * EVERY_S) == []
    changes = made.run(10)
    assert [change.wanted for change in changes] == [1]
    assert "suffice for 0 records/s since 60 s: 4 -> 1 consumers" in changes[0].why


def test_those_that_a_load_needs_stay() -> None:
    made = topic(arriving=250.0)
    changes = made.run(1200)
    assert made.running in (3, 4)
    assert [c.wanted for c in changes] == sorted(c.wanted for c in changes)
    assert made.unread < 1000


def test_a_number_that_did_not_suffice_is_tried_ever_less_often() -> None:
    """Consumers that read less for each that is added: fewer seem to suffice, and do not."""
    made = topic(arriving=140.0)
    changes: list[Change] = []
    for _ in range(2000):
        made.each = 100.0 * 0.75 ** (made.running - 1)
        found = made.step()
        changes += [found] if found is not None else []
    assert len(changes) < 12


def test_a_reader_that_stands_still_is_no_reason_for_more() -> None:
    made = topic(arriving=100.0, each=0.0)
    assert made.run(600) == []


def test_while_something_unread_is_not_read_nobody_leaves() -> None:
    made = topic(arriving=0.0, each=0.0, wanted=2)
    made.ends[made.sources[0]] = 1000.0
    assert made.run(4 * BOUNDS.down_after_s) == []


def test_after_a_pause_nothing_is_taken_away_at_once() -> None:
    made = topic(arriving=100.0, wanted=2)
    made.run(30)
    made.at_s += 600.0
    made.arriving = 0.0
    assert made.run(BOUNDS.down_after_s - 2 * EVERY_S) == []
    assert [change.wanted for change in made.run(10)] == [1]


@pytest.mark.parametrize(("wanted", "is_"), [(0, 1), (9, 4)])
def test_a_start_outside_the_bounds_is_moved_into_them(wanted: int, is_: int) -> None:
    assert Scaling(BOUNDS, wanted).wanted == is_
