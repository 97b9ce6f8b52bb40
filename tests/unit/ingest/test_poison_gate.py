"""A partition that is nearly all poison stops before its dead letters are committed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from raylake.clock import ManualClock
from raylake.ingest.poison import PoisonGate, PoisonPolicy, Verdict
from raylake.ingest.unit import SourcePartition

SOURCE = SourcePartition("orders", "id", 3)
POLICY = PoisonPolicy(stop_above=0.2, window_records=1000, min_records=100, open_s=30)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def gate(clock: ManualClock) -> PoisonGate:
    return PoisonGate(POLICY, clock)


def _judge(gate: PoisonGate, start: int, count: int, dead: int) -> Verdict:
    """The first ``dead`` of ``count`` records from ``start`` on are poison."""
    return gate.judge(SOURCE, np.arange(start, start + count), range(dead))


def test_one_bad_record_among_good_ones_passes(gate: PoisonGate) -> None:
    assert _judge(gate, 0, 1000, 1) == Verdict(True, 1000, 1)
    assert gate.snapshot() == {}


def test_failure_16_all_poison_stops_at_the_first_batch(gate: PoisonGate) -> None:
    verdict = _judge(gate, 0, 500, 500)
    assert not verdict.allowed
    assert (verdict.seen, verdict.dead) == (500, 500)
    assert "orders[3]: 500 of 500 records cannot be read" in verdict.reason
    assert "is `format` right?" in verdict.reason


def test_exactly_the_share_passes_and_one_more_does_not(gate: PoisonGate) -> None:
    assert _judge(gate, 0, 1000, 200).allowed
    assert not PoisonGate(POLICY, ManualClock()).judge(SOURCE, np.arange(1000), range(201)).allowed


def test_a_small_topic_never_stops(gate: PoisonGate) -> None:
    assert _judge(gate, 0, 99, 99).allowed
    assert not _judge(gate, 99, 1, 1).allowed


def test_small_batches_add_up(gate: PoisonGate) -> None:
    verdicts = [_judge(gate, start, 10, 10).allowed for start in range(0, 200, 10)]
    assert verdicts == [True] * 9 + [False] * 11


def test_a_long_batch_cannot_hide_a_poisoned_stretch(gate: PoisonGate) -> None:
    verdict = gate.judge(SOURCE, np.arange(50_000), range(20_000, 20_900))
    assert not verdict.allowed
    assert (verdict.seen, verdict.dead) == (1000, 900)
    assert gate.judge(SOURCE, np.arange(0), []).allowed


def test_the_first_window_of_a_long_batch_is_judged_too(gate: PoisonGate) -> None:
    verdict = _judge(gate, 0, 2000, 201)
    assert (verdict.allowed, verdict.seen, verdict.dead) == (False, 1000, 201)


def test_what_is_read_again_replaces_exactly_what_was_judged(gate: PoisonGate) -> None:
    assert gate.judge(SOURCE, np.arange(1000), [500]).dead == 1
    assert gate.judge(SOURCE, np.arange(500, 900), []) == Verdict(True, 900, 0)


def test_old_poison_leaves_the_window(gate: PoisonGate) -> None:
    assert _judge(gate, 0, 1000, 150).allowed
    assert _judge(gate, 1000, 900, 0).allowed
    assert gate.judge(SOURCE, np.arange(1900, 2900), range(800, 1000)).allowed
    assert not _judge(gate, 2900, 1, 1).allowed


def test_records_read_again_are_counted_once(gate: PoisonGate) -> None:
    for _ in range(5):
        verdict = _judge(gate, 0, 90, 90)
        assert verdict == Verdict(True, 90, 90)
    assert gate.judge(SOURCE, np.arange(0), []) == Verdict(True, 90, 90)


def test_gaps_in_the_offsets_are_not_records(gate: PoisonGate) -> None:
    assert gate.judge(SOURCE, np.arange(0, 5000, 100), range(50)) == Verdict(True, 50, 50)


def test_while_stopped_nothing_passes_until_it_is_judged_again(
    gate: PoisonGate, clock: ManualClock
) -> None:
    first = _judge(gate, 0, 500, 500)
    assert _judge(gate, 0, 500, 0) == Verdict(False, 0, 0, first.reason)
    clock.sleep(30)
    assert not _judge(gate, 0, 500, 500).allowed
    assert gate.breaker(SOURCE).opened_total == 2
    clock.sleep(30)
    assert _judge(gate, 0, 500, 5).allowed
    assert gate.breaker(SOURCE).state.value == "closed"


def test_an_empty_batch_takes_no_probe(gate: PoisonGate, clock: ManualClock) -> None:
    _judge(gate, 0, 500, 500)
    clock.sleep(30)
    assert gate.judge(SOURCE, np.arange(0), []).allowed
    assert gate.breaker(SOURCE).state.value == "half_open"


def test_failure_16_restarts_let_no_poison_through(gate: PoisonGate) -> None:
    _judge(gate, 0, 500, 500)
    for _ in range(3):
        snapshot = json.loads(json.dumps(gate.snapshot()))
        gate = PoisonGate(POLICY, ManualClock())
        other = SourcePartition("orders", "id", 4)
        gate.restore(snapshot, [SOURCE, other])
        assert not _judge(gate, 0, 5, 5).allowed
        assert gate.judge(other, np.arange(5), range(5)).allowed


def test_accept_lets_one_window_pass_and_then_judges_again(gate: PoisonGate) -> None:
    _judge(gate, 0, 500, 500)
    gate.accept(SOURCE)
    assert _judge(gate, 0, 600, 600).allowed
    assert _judge(gate, 600, 600, 600).allowed
    assert not _judge(gate, 1200, 10, 10).allowed


def test_a_partition_given_away_is_forgotten(gate: PoisonGate) -> None:
    _judge(gate, 0, 500, 500)
    gate.forget(SOURCE)
    gate.forget(SOURCE)
    assert gate.snapshot() == {}
    assert _judge(gate, 0, 50, 50).allowed


def test_gates_of_two_tables_have_names_of_their_own(clock: ManualClock) -> None:
    gates = [PoisonGate(POLICY, clock, table=table) for table in ("a", "b")]
    for gate in gates:
        _judge(gate, 0, 500, 500)
    assert {**gates[0].snapshot(), **gates[1].snapshot()}.keys() == {
        "poison/a/orders/id/3",
        "poison/b/orders/id/3",
    }


@pytest.mark.parametrize(
    "wrong", [{"stop_above": -0.1}, {"stop_above": 1.5}, {"min_records": 0}, {"window_records": 99}]
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"stop_above|min_records"):
        PoisonPolicy(**wrong)  # type: ignore[arg-type]
