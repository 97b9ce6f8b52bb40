"""Every offset leaves a batcher exactly once and in order, whatever is dropped and read again."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raylake.clock import ManualClock
from raylake.ingest.batcher import Batcher, BatchPolicy, FlushReason, Plan
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition

SOURCES = [SourcePartition("t", "id", p) for p in range(3)]
POLICY = BatchPolicy(max_batch_bytes=50, commit_interval_s=5, idle_commit_interval_s=60)
sources = st.sampled_from(SOURCES)

Item = tuple[SourcePartition, int, int]


class BatcherMachine(RuleBasedStateMachine):
    """The table is what left in plans; a refused plan is read again from the table's end."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.batcher: Batcher[Item] = Batcher("bronze.t", POLICY, self.clock)
        self.ends = {source: 10 * source.partition for source in SOURCES}
        self.origins = dict(self.ends)
        self.table: dict[SourcePartition, list[int]] = {source: [] for source in SOURCES}
        self.reads = dict(self.ends)
        self.rows: set[tuple[SourcePartition, int]] = set()
        self.arrived: list[float] = []
        self.offsets_only: list[float] = []
        for source, end in self.ends.items():
            self.batcher.begin(source, end)

    @rule(source=sources, length=st.integers(1, 9), nbytes=st.integers(0, 30))
    def rows_arrive(self, source: SourcePartition, length: int, nbytes: int) -> None:
        start = self.reads[source]
        counts = Counts(rows=1, absent=length - 1)
        span = OffsetRange(source, start, start + length, counts)
        self.batcher.add(span, (source, start, start + length), nbytes)
        self.rows.add((source, start))
        self.reads[source] += length
        self.arrived.append(self.clock.monotonic())

    @rule(source=sources, length=st.integers(0, 9))
    def nothing_but_absent_offsets(self, source: SourcePartition, length: int) -> None:
        start = self.reads[source]
        self.batcher.add(OffsetRange(source, start, start + length, Counts(absent=length)))
        self.reads[source] += length

    @rule(source=sources, off_by=st.integers(-5, 5).filter(bool))
    def a_range_that_does_not_fit(self, source: SourcePartition, off_by: int) -> None:
        start = self.reads[source] + off_by
        if start < 0:
            return
        held = (self.batcher.held_bytes, self.batcher.held_rows)
        with pytest.raises(ValueError, match="expected at"):
            self.batcher.add(OffsetRange(source, start, start + 1, Counts(rows=1)), None)
        assert held == (self.batcher.held_bytes, self.batcher.held_rows)

    @rule(seconds=st.sampled_from([0.5, 4, 5, 31, 60]))
    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def _land(self, plan: Plan[Item] | None) -> None:
        if plan is None:
            return
        assert len({r.source for r in plan.ranges}) == len(plan.ranges)
        assert [held.range.source for held in plan.batches] == sorted(
            held.range.source for held in plan.batches
        )
        for span in plan.ranges:
            assert span.start == self.ends[span.source]
            self.table[span.source] += range(span.start, span.end)
            self.ends[span.source] = span.end
            inside = {(s, at) for s, at in self.rows if s == span.source and at < span.end}
            items = {held.item[:2] for held in plan.batches if held.item[0] == span.source}
            assert items == inside
            assert span.counts.rows == len(inside)
            self.rows -= inside

    @rule(drain=st.booleans())
    def flush(self, drain: bool) -> None:
        due = self.batcher.due()
        plan = self.batcher.flush(drain=drain)
        if not drain:
            assert (plan is not None) == (due is not None)
        if plan is not None and plan.reason is FlushReason.OFFSETS_ONLY:
            self.offsets_only.append(self.clock.monotonic())
            assert not plan.batches
        self._land(plan)

    @rule(some=st.lists(sources, max_size=2))
    def hand_over(self, some: list[SourcePartition]) -> None:
        self._land(self.batcher.hand_over(some))
        assert all(self.ends[source] == self.reads[source] for source in some)

    @rule(source=sources)
    def drop(self, source: SourcePartition) -> None:
        seek = self.batcher.drop(source)
        assert seek == self.ends[source]
        self._read_again(source)

    @rule()
    def the_owner_refuses_a_plan(self) -> None:
        plan = self.batcher.flush(drain=True)
        for span in plan.ranges if plan else ():
            self.batcher.begin(span.source, self.ends[span.source])
            self._read_again(span.source)

    def _read_again(self, source: SourcePartition) -> None:
        self.reads[source] = self.ends[source]
        self.rows = {(s, at) for s, at in self.rows if s != source}

    @invariant()
    def the_table_has_each_offset_once_and_in_order(self) -> None:
        for source in SOURCES:
            assert self.table[source] == list(range(self.origins[source], self.ends[source]))

    @invariant()
    def what_is_held_is_what_was_read_and_has_not_left(self) -> None:
        assert self.batcher.held_rows == len(self.rows)
        for source in SOURCES:
            assert self.batcher.expected(source) == self.reads[source]
        if not self.rows:
            assert self.batcher.held_bytes == 0
            assert self.batcher.due() in (None, FlushReason.OFFSETS_ONLY)

    @invariant()
    def offsets_alone_leave_at_most_once_an_idle_interval(self) -> None:
        pairs = zip(self.offsets_only, self.offsets_only[1:], strict=False)
        assert all(later - earlier >= 60 for earlier, later in pairs)

    @precondition(lambda self: self.rows)
    @rule()
    def rows_never_wait_longer_than_the_interval(self) -> None:
        wait_s = self.batcher.due_in_s()
        assert wait_s is not None
        assert wait_s <= POLICY.commit_interval_s
        self.clock.sleep(wait_s)
        assert self.batcher.due() in (FlushReason.INTERVAL, FlushReason.BYTES)

    @rule(seconds=st.floats(-100, 100))
    def the_wall_clock_is_set(self, seconds: float) -> None:
        self.clock.jump(seconds)


TestBatcher = BatcherMachine.TestCase
TestBatcher.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
