"""The fold against a model that knows only sets of offsets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raylake.delta.ledger import (
    Ledger,
    Verdict,
    admitted,
    changed_values,
    fold,
    state_from_values,
    state_values,
)
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit

SOURCES = tuple(SourcePartition("t", "id", p) for p in range(3))


@st.composite
def units(draw: st.DrawFn) -> Unit:
    ranges = []
    for source in draw(st.sets(st.sampled_from(SOURCES), min_size=1)):
        start = draw(st.integers(0, 12))
        rows, dead, absent, lost, dropped = (draw(st.integers(0, 2)) for _ in range(5))
        counts = Counts(rows, dead, absent, lost, dropped)
        event = draw(st.none() | st.integers(0, 100))
        ranges.append(OffsetRange(source, start, start + counts.total, counts, 1, event))
    generation = draw(st.sampled_from([1, 2, 2, 2, 3]))
    fingerprint = draw(st.sampled_from(["new", "new", "new", "old"]))
    return Unit("p", "c", generation, fingerprint, tuple(ranges))


def ledger(origin: int) -> Ledger:
    states = dict.fromkeys(SOURCES, admitted(origin))
    return Ledger(states, dict.fromkeys(SOURCES, "p"), dict.fromkeys(SOURCES, 2), "new")


@given(st.lists(units(), max_size=8), st.integers(0, 3))
def test_each_offset_is_taken_once_and_in_order(waiting: list[Unit], origin: int) -> None:
    folded = fold(waiting, ledger(origin))
    taken = {s: list(range(origin)) for s in SOURCES}
    for decision in folded.decisions:
        ranges = decision.unit.ranges
        if decision.verdict is Verdict.ACCEPT:
            assert decision.unit.generation >= 2
            assert decision.unit.schema_fingerprint == "new"
            for one in ranges:
                assert one.start == len(taken[one.source])
                taken[one.source] += range(one.start, one.end)
        elif decision.verdict is Verdict.ALREADY:
            assert all(one.end <= len(taken[one.source]) for one in ranges)
        else:
            assert decision.reason
            new = [r for r in ranges if r.start == len(taken[r.source])]
            fits = len(new) == len(ranges)
            barred = decision.unit.generation < 2 or decision.unit.schema_fingerprint == "old"
            assert barred or not fits
    for source, state in folded.states.items():
        assert state.next == len(taken[source])
        assert state.next - state.origin == state.totals.total


@given(st.lists(units(), max_size=8))
def test_a_refused_unit_changes_nothing_for_the_others(waiting: list[Unit]) -> None:
    folded = fold(waiting, ledger(0))
    kept = [d.unit for d in folded.decisions if d.verdict is not Verdict.REFUSE]
    assert fold(kept, ledger(0)).states == folded.states


@given(st.lists(units(), max_size=8))
def test_handing_everything_over_again_changes_nothing(waiting: list[Unit]) -> None:
    first = fold(waiting, ledger(0))
    states = {**ledger(0).states, **first.states}
    again = fold(
        first.accepted(),
        Ledger(states, dict.fromkeys(SOURCES, "p"), dict.fromkeys(SOURCES, 2), "new"),
    )
    assert all(d.verdict is Verdict.ALREADY for d in again.decisions)
    assert not again.states


@given(st.lists(units(), max_size=8))
def test_txns_written_and_read_back_give_the_same_state(waiting: list[Unit]) -> None:
    start = ledger(2)
    folded = fold(waiting, start)
    for source, state in folded.states.items():
        stored = dict(changed_values(None, start.states[source]))
        stored.update(changed_values(start.states[source], state))
        assert state_from_values(stored) == state
        assert set(state_values(state)) >= set(stored)
